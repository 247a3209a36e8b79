"""`rsafe load`: a load like a client's, and what became of it.

lengths    how long the texts are
plan       the events of a run: seeded, the same for the same seed
drive      sends them, each at its time
follow     takes in the decisions and dead letters of the run
join       both sides put together: latencies, broker's times, phases
report     the figures, and their form as JSON
words      the figures for people, and the progress
picture    the figures as a picture
run        one run from its first event to its last outcome
"""
