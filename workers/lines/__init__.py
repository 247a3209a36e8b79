"""`rsafe judge --file`: a file of messages, a line each, and a result for every line, in their order.

read      bytes → lines → messages, or why a line holds none
answer    a message → its result, from the guard and the policy
results   where results go, and what an earlier run left there
run       many at a time, in order, in bounded memory
"""
