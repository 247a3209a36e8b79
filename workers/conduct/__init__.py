"""Conduct over time: decisions and reviews in, escalations out.

entries    what travels on the topic by which decisions come together
state      what is remembered of an author, a conversation, a text, a tenant, and of a decision
score      rules → scores and levels reached; pure
levels     which levels are reached, and the escalations that say so; pure
bounds     how much is kept under one key; pure
engine     state and entry → new state, further entries, escalations; pure and deterministic
wire       escalation → record
intake     record of the decisions or the reviews topic → entry, nothing, or a dead letter
states     the states that are here: the table, its stores, its changelog
refill     fills a store from the topic of states
counting   takes entries into the states
order      which record of each partition comes next; pure
reading    where the client reads, and what is committed
sweeping   asks for the deletion of what has expired
app        the Faust application
faust_door the only module that imports Faust
rules      which policy counts a decision
following  where the rules come from
run        builds and runs it, with health, metrics and the view
view       state → what people see
stored     the state as its topic has it, for commands
metrics    of this application
"""
