"""Conduct over time: decisions and reviews in, escalations out.

entries    what travels on the topic by which decisions come together
state      what is remembered of an author, a conversation, a text, a tenant, and of a decision
score      rules → scores and levels reached; pure
levels     which levels are reached, and the escalations that say so; pure
engine     state and entry → new state, further entries, escalations; pure and deterministic
wire       escalation → record
intake     record of the decisions or the reviews topic → entry, nothing, or a dead letter
app        the Faust application
faust_door the only module that imports Faust
rules      which policy counts a decision
run        builds and runs it, with health, metrics and the view
view       state → what people see
stored     the state as its topic has it, for commands
metrics    of this application
"""
