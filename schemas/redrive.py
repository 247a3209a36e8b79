"""What `rsafe redrive` writes: headers of a record that was put back, and the mark that it was.

A record that was put back carries the coordinates at which it stood first and how often it was tried; it is
a new record all the same, and what becomes of it (decision or dead letter) names its new coordinates.

A mark stands on the dead-letters topic, behind the dead letter, in the same partition: a record without key
and value, whose headers are those of `RedriveMark` and nothing else.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from schemas.dead_letter import HEADER_PREFIX, DeadLetter
from schemas.identifiers import Count

Headers = list[tuple[str, bytes | None]]
T = TypeVar("T")


class PutBack(msgspec.Struct, frozen=True, kw_only=True):
    """Headers `rsafe-<field>` that are added to a record that is put back."""

    origin_topic: str
    """Topic on which the record stood first."""
    origin_partition: Count
    """Partition in which the record stood first."""
    origin_offset: Count
    """Offset at which the record stood first."""
    origin_timestamp_ms: int | None = None
    """Timestamp of the first record, milliseconds since 1970."""
    attempts: Count = 1
    """How often the record was tried before."""


class RedriveMark(msgspec.Struct, frozen=True, kw_only=True):
    """Says which dead letter was put back: the coordinates that the letter names."""

    redriven_topic: str
    """Topic of the record that became the dead letter."""
    redriven_partition: Count
    """Partition of the record that became the dead letter."""
    redriven_offset: Count
    """Offset of the record that became the dead letter."""


def _name(field: str) -> str:
    return HEADER_PREFIX + field.replace("_", "-")


_PUT_BACK_NAMES: Final = {_name(field): field for field in PutBack.__struct_fields__}
_MARK_NAMES: Final = {_name(field): field for field in RedriveMark.__struct_fields__}
_LETTER_NAMES: Final = frozenset(map(_name, DeadLetter.__struct_fields__))
_FIRST_LETTER_NAME: Final = _name(DeadLetter.__struct_fields__[0])


def headers_to_put_back(headers: Headers, letter: DeadLetter) -> Headers:
    """Headers of a dead letter → headers of the record that is put back.

    Those of the original record, as they were and in their order, without what an earlier redrive added;
    then those of `PutBack`. The coordinates are the first ones: an earlier redrive's are carried on.
    """
    before = _original(headers)
    put_back = _first_origin(before, letter)
    kept = [header for header in before if header[0] not in _PUT_BACK_NAMES]
    return [*kept, *_as_headers(put_back)]


def mark_headers(letter: DeadLetter) -> Headers:
    """Headers of the mark of a dead letter that was put back."""
    return _as_headers(
        RedriveMark(
            redriven_topic=letter.topic, redriven_partition=letter.partition, redriven_offset=letter.offset
        )
    )


def read_mark(headers: Headers | None) -> RedriveMark | None:
    """The mark that a record is, or None. Never raises.

    A dead letter is never one, whatever its sender wrote: it has more headers.
    """
    if headers is None or len(headers) != len(_MARK_NAMES):
        return None
    return _read(headers, _MARK_NAMES, RedriveMark)


def _original(headers: Headers) -> Headers:
    """The headers before the worker's own, which it writes last and together, in the order of the fields."""
    for index in range(len(headers) - 1, -1, -1):
        name = headers[index][0]
        if name == _FIRST_LETTER_NAME:
            return headers[:index]
        if name not in _LETTER_NAMES:
            break
    # Something copied the letter and added to it: the worker's names are ours wherever they stand.
    return [header for header in headers if header[0] not in _LETTER_NAMES]


def _first_origin(headers: Headers, letter: DeadLetter) -> PutBack:
    earlier = _read(headers, _PUT_BACK_NAMES, PutBack)
    if earlier is not None:
        return msgspec.structs.replace(earlier, attempts=letter.attempts)
    return PutBack(
        origin_topic=letter.topic,
        origin_partition=letter.partition,
        origin_offset=letter.offset,
        origin_timestamp_ms=letter.timestamp_ms,
        attempts=letter.attempts,
    )


def _as_headers(struct: PutBack | RedriveMark) -> Headers:
    return [
        (_name(field), str(value).encode())
        for field in struct.__struct_fields__
        if (value := getattr(struct, field)) is not None
    ]


def _read(headers: Headers, names: dict[str, str], struct: type[T]) -> T | None:
    found = {
        names[name]: (value or b"").decode("utf-8", "replace") for name, value in headers if name in names
    }
    try:
        return msgspec.convert(found, struct, strict=False)
    except msgspec.ValidationError:
        return None
