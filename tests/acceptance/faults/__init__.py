"""The fault matrix: real faults on real parts under continuous load, and the checker after each of them.

table           every row: its fault, its settings, how often it is repeated
row             what a row is
site            a place for faults: topics, workers, load and watch over one local stack
traffic         what is published, without end, and the events that provoke a fault
load            publishes it at an even rate, whatever happens
watch           follows events, decisions and dead letters in a thread
seen            what it saw, cut into slices for the checker
worker_faults   kill −9, SIGTERM, joining and leaving, a worker that cannot write its log, a clock that is off
broker_faults   the broker is killed, frozen, refuses a decision, loses a topic
redis_faults    Redis is killed, frozen, full, emptied, closed, filled with garbage
engine_faults   vLLM's process is killed, hangs, or dies of an event each time
driver          one repeat and its verdict; a row; the closing check
unjudged        which events may come out unjudged, and which must be late
own_word        a worker's readiness and metrics
ledger          what every repeat showed, in JSON lines, so that a full run can be interrupted and resumed
report          the ledger as a table
__main__        `make test-faults`
"""
