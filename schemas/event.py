"""An event: one chat message to be judged, with the turns before it (topic `chat.events`)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.identifiers import (
    Count,
    Identifier,
    PlainIdentifier,
    Positive,
    Role,
    Timestamp,
    require_printable,
)


class Turn(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An earlier turn of the conversation."""

    role: Role
    """Who spoke."""
    text: str
    """What was said."""
    author: Identifier | None = None
    """Pseudonym of who spoke."""


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The message that is judged."""

    id: PlainIdentifier
    """Id of the message in the chat system."""
    role: Role
    """`user` for people, `assistant` for a model that answers them."""
    author: PlainIdentifier
    """Pseudonym of the author, stable within the tenant; never a name or an address."""
    text: str
    """What is judged."""
    sent_at: Timestamp
    """When the message was sent, by the chat system's clock."""
    revision: Count | None = None
    """Counts the edits of the message."""
    language: Annotated[str, Meta(max_length=35)] | None = None
    """BCP 47 tag."""

    def __post_init__(self) -> None:
        if not (self.id.isprintable() and self.author.isprintable()):
            require_printable("id", self.id)
            require_printable("author", self.author)


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message of one conversation of one tenant. Unknown fields are ignored."""

    event_id: PlainIdentifier
    """Id of the event; a second delivery repeats it."""
    tenant: PlainIdentifier
    """Customer to whom the conversation belongs."""
    conversation_id: PlainIdentifier
    """Conversation within the tenant; its messages are published in order."""
    message: Message
    """The message that is judged."""
    context: tuple[Turn, ...] = ()
    """Earlier turns of the conversation, newest last."""
    policy: Identifier | None = None
    """Id of the policy; absent: the tenant's, else the default."""
    deadline_ms: Positive | None = None
    """After how many milliseconds from the broker's timestamp a judgement is of no use."""

    def __post_init__(self) -> None:
        if not (
            self.event_id.isprintable() and self.tenant.isprintable() and self.conversation_id.isprintable()
        ):
            require_printable("event_id", self.event_id)
            require_printable("tenant", self.tenant)
            require_printable("conversation_id", self.conversation_id)
