"""The whole product on real parts, and the checker that reads what it left on the topics.

records            one record of a topic, and where it stood
checker            a run → violations: pure, for this and every later fault test
evidence           what a run left, read into values
agreement          duplicates, and which fields are volatile
leaks              message text that came out where it must not
traces             decisions that their traces do not show as they were made
topics             reads topics from their first offset, and follows them
events_from_data   labelled rows → events
malformed          records that are not events, each with the dead letter that it must become
scenario           what is sent, and under which policies and settings the worker runs
worker_process     the worker as a child process: start, wait, kill, stop
"""
