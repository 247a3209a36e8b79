"""The event as the guard reads it: here, and nowhere else, its texts are normalised.

Question, cache key and context digest are made of the result; `content_mac` is made of the text as it came.
"""

from __future__ import annotations

from msgspec import structs

from guard.normalise import normalise
from schemas.event import Event


def as_read(event: Event) -> Event:
    """The event with its texts normalised; the same object where nothing changes, which is the usual case."""
    message, context = event.message, event.context
    text = normalise(message.text)
    if text is not message.text:
        message = structs.replace(message, text=text)
    if context:
        texts = [normalise(turn.text) for turn in context]
        if texts != [turn.text for turn in context]:
            turns = zip(context, texts, strict=True)
            context = tuple(structs.replace(turn, text=text) for turn, text in turns)
    if message is event.message and context is event.context:
        return event
    return structs.replace(event, message=message, context=context)


def texts_of(event: Event, read: Event) -> list[str]:
    """The message and its context as they came and, where that differs, as the guard read them."""
    both = [event] if read is event else [event, read]
    return [text for one in both for text in (one.message.text, *(turn.text for turn in one.context))]
