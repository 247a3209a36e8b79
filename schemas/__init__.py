"""Nouns of rsafe-stream: what travels on topics and what rests in Redis.

identifiers   shared field types
event         a chat message to be judged, with its context
policy        what a tenant forbids, and what then happens
verdict       what the guard said (cacheable)
decision      what is published about an event
dead_letter   why a record could not become a decision
review        what a person said of a decision
release       a checkpoint that is announced for use
keys          record keys: a conversation stays in order
topics        who writes and reads each topic (`topics.yaml`)
json_schema   JSON Schema of each noun, from the structs and the docstrings of their fields
asyncapi      AsyncAPI document, from the topics and the nouns
generate      writes `wire/` and `asyncapi.yaml`

Imports only the standard library and msgspec (and, for canonical JSON, rfc8785).
"""
