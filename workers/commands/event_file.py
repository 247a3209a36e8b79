"""An event in a file, for commands that are about one."""

from __future__ import annotations

from pathlib import Path

from schemas.event import Event
from workers.errors import UsageError
from workers.moderation.outcome import Rejection
from workers.moderation.read_event import EventLimits, decode_event
from workers.settings import Settings


def read_event_file(path: Path, settings: Settings) -> Event:
    """The event, as the worker would read it from its topic. Raises `UsageError` naming file and field."""
    event = decode_event(path.read_bytes(), EventLimits(**settings.limits.model_dump()))
    if isinstance(event, Rejection):
        raise UsageError(f"{path}: {event.field}: {event.sentence}")
    return event
