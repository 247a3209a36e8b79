"""Who writes and reads each topic: `topics.yaml` as structs."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

TOPICS_FILE: Final = Path(__file__).parent / "topics.yaml"


class Topic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The contract of one topic. `topics.yaml` explains the fields."""

    name: str
    purpose: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    key: str
    config: dict[str, str]
    setting: str | None = None
    planned: bool = False
    value: str | None = None
    headers: str | None = None
    cloudevents: Literal["understood", "written", "original"] | None = None


class _Contracts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    topics: tuple[Topic, ...]


def load_topics() -> tuple[Topic, ...]:
    """Every topic, in the order of the file."""
    return msgspec.yaml.decode(TOPICS_FILE.read_bytes(), type=_Contracts).topics
