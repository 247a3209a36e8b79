"""Runs of characters that two bodies of text share: has message text come out where it must not?

Matching ignores case, so that a rationale in small letters cannot hide a quotation. A run of fewer than four
distinct characters (rulers, indentation, laughter) gives nothing away and would match any log's ornaments.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from schemas.dead_letter import HEADER_PREFIX
from tests.acceptance.evidence import Run, Violation, json_object
from tests.acceptance.records import Record

RUN_CHARS: Final = 20
"""Length of a run that counts as text, in characters."""
FILLER_DISTINCT: Final = 4
"""A run of fewer distinct characters than this is filler."""

_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")


class SharedRuns:
    """Finds runs of `RUN_CHARS` characters that stand in any of the texts; takes ~65 bytes a character."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._hashes: set[int] = set()
        for text in set(texts):
            self._hashes.update(hash(run) for run in _runs(text))

    def first(self, text: str) -> str | None:
        """The first run that `text` shares with the texts, folded; None when it shares none."""
        return next((run for run in _runs(text) if hash(run) in self._hashes and not _is_filler(run)), None)


def leaks(run: Run) -> Iterator[Violation]:
    """No run of message text in a decision, in a header that was added, in a log line, or in a span."""
    shared = SharedRuns([*run.texts, *(text for record in run.events for text in texts_of(record))])
    clean: set[str] = set()
    for place, where, text in _published(run):
        if text in clean:
            continue
        if (found := shared.first(text)) is None:
            clean.add(text)
        else:
            digest = hashlib.sha256(found.encode("utf-8", "surrogatepass")).hexdigest()[:12]
            yield Violation("leak", place, f"{where}; SHA-256 of the run begins {digest}")


def texts_of(record: Record) -> Iterator[str]:
    """What stands under `text` anywhere in a record that is a JSON object: message, context, event or not."""
    pending: list[Any] = [json_object(record.value)]
    while pending:
        match pending.pop():
            case dict(members):
                if isinstance(text := members.get("text"), str):
                    yield text
                pending.extend(members.values())
            case list(items):
                pending.extend(items)
            case _:
                continue


def strings_of(value: Any, path: str = "$") -> Iterator[tuple[str, str]]:
    """Every string of a JSON value with its path, names of object members included."""
    match value:
        case str():
            yield path, value
        case dict():
            for name, member in value.items():
                yield f"{path}.<name>", str(name)
                yield from strings_of(member, f"{path}.{name}")
        case list():
            for index, item in enumerate(value):
                yield from strings_of(item, f"{path}[{index}]")
        case _:
            return


def readings_of(line: str) -> Iterator[str]:
    """A log line as it stands, with `\\uXXXX` read as characters, and each string of it when it is JSON."""
    yield line
    if "\\u" in line:
        yield _ESCAPES.sub(_unescape, line)
    if line.startswith("{"):
        try:
            value = json.loads(line)
        except ValueError:
            return
        yield from (text for _, text in strings_of(value))


def _published(run: Run) -> Iterator[tuple[str, str, str]]:
    """Everything that the worker wrote: place, part, text."""
    for record in run.decisions:
        yield str(record.place), "raw value", (record.value or b"").decode("utf-8", "replace")
        for path, string in strings_of(json_object(record.value)):
            yield str(record.place), path, string
        for name, value in record.headers:
            yield str(record.place), f"header {name}", (value or b"").decode("utf-8", "replace")
    for record in run.dead_letters:
        for name, value in record.headers:
            if name.startswith(HEADER_PREFIX):
                yield str(record.place), f"header {name}", (value or b"").decode("utf-8", "replace")
    for number, line in enumerate(run.log_lines, start=1):
        for reading in readings_of(line):
            yield f"log line {number}", "log", reading
    for word in run.span_words:
        yield "spans", "span", word


def _unescape(escapes: re.Match[str]) -> str:
    # UTF-16, so that the two halves of a character outside the basic plane come together.
    return bytes.fromhex(escapes[0].replace("\\u", "")).decode("utf-16-be", "replace")


def _runs(text: str) -> Iterator[str]:
    folded = text.casefold()
    return (folded[start : start + RUN_CHARS] for start in range(len(folded) - RUN_CHARS + 1))


def _is_filler(run: str) -> bool:
    return len(set(run)) < FILLER_DISTINCT
