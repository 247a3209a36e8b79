"""A review: what a person said of a decision (topic `moderation.reviews`)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.decision import Origin, PolicyUsed
from schemas.identifiers import Action, CategoryCode, Identifier, Label, Sha256, Timestamp


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """A human judgement; the latest per `decision_id` counts."""

    review_id: Identifier
    """Id of the review."""
    decision_id: Sha256
    """Id of the decision that was reviewed."""
    origin: Origin
    """Where the event stood."""
    reviewer: Identifier
    """Pseudonym of the reviewer."""
    label: Label
    """The reviewer's word."""
    reviewed_at: Timestamp
    """When the review was made."""
    categories: tuple[CategoryCode, ...] = ()
    """Categories that the reviewer sees violated."""
    action: Action | None = None
    """What the reviewer would have done."""
    policy: PolicyUsed | None = None
    """The policy by whose words the reviewer judged, as the decision names it; absent: not told."""
    note: Annotated[str, Meta(max_length=4000)] | None = None
    """The reviewer's words; never message text."""
