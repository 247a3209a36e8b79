"""JSON lines of labelled conversations → raw rows, with errors that name file, line and field.

One object a line, as the data sets of this project and `rsafe train export` write them:

    {"id": "chats-1", "source": "chats", "split": "train", "kind": "prompt", "label": "unsafe",
     "messages": [{"role": "user", "content": "…"}], "categories": ["threat"], "licence": "MIT",
     "meta": {"lang": "en"}}

The label judges the last message. `id`, `messages` and `label` are needed; `source` is otherwise the file's
name, and without `split` the row's group decides. Of `meta` the fields of `RowMeta` are read, all optional.
A line that is not so stops the reading: rows are never left out without a word.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from guard.training.data.errors import RowError, TrainingDataError, explained
from schemas.identifiers import Label, Role, Timestamp

ENDINGS: Final = (".jsonl", ".jsonl.gz")
# A longer line is no conversation that a guard could read; it would fill the memory.
MOST_LINE_BYTES: Final = 16_000_000
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class RawMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One turn as it stands in a file."""

    role: Role
    content: str


class RowMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of a row's `meta`."""

    lang: str = "en"
    """Language of the judged message, a code such as `zh`."""
    group: str = ""
    """Rows that belong together and never stand in both splits; empty: the mapping says what they share."""
    rationale: str = ""
    """Reasoning for the label, for the warm start."""
    review_id: str = ""
    policy: str = ""
    """Of a review: id of the policy under which it was made."""
    judgement_hash: str = ""
    """Of a review: the hash of the words that the reviewer read; empty: the id alone names the policy."""
    reviewed_at: Timestamp | None = None
    """Of a review: when it was made; of rows with one id in several files the latest counts."""


class RawRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row as it stands in a file."""

    id: _Id
    messages: Annotated[tuple[RawMessage, ...], msgspec.Meta(min_length=1)]
    label: Label
    source: str = ""
    split: Literal["train", "dev"] | None = None
    categories: tuple[str, ...] = ()
    licence: str = ""
    meta: RowMeta = RowMeta()


_VALUES: Final = {"label": "safe or unsafe", "split": "train or dev", "role": "user or assistant"}


def source_files(path: Path) -> list[Path]:
    """The file itself, or the JSON-lines files of a folder in alphabetical order.

    Raises `TrainingDataError` where there is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise TrainingDataError(f"{path}: expected a file of JSON lines or a folder of such files")
    files = sorted(file for file in path.iterdir() if file.name.endswith(ENDINGS))
    if not files:
        raise TrainingDataError(f"{path}: expected at least one file *.jsonl or *.jsonl.gz")
    return files


def source_name(file: Path) -> str:
    """The file's name without the ending."""
    for ending in reversed(ENDINGS):
        if file.name.endswith(ending):
            return file.name.removesuffix(ending)
    return file.stem


def read_raw_rows(file: Path) -> Iterator[tuple[int, RawRow]]:
    """Line numbers, counted from 1, and rows; `source` is filled in. Empty lines are passed over.

    Raises `RowError` for the first line that is no row, `TrainingDataError` where the file cannot be read.
    """
    decode = msgspec.json.Decoder(RawRow).decode
    own_name = source_name(file)
    seen: set[str] = set()
    for number, line in _lines(file):
        try:
            row = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            fault = explained(file, number, error)
            values = _VALUES.get(fault.field.rpartition(".")[2])
            raise (explained(file, number, error, values) if values else fault) from None
        if row.id in seen:
            raise RowError(file, number, "id", "stands twice; expected once in a file")
        seen.add(row.id)
        yield number, row if row.source else msgspec.structs.replace(row, source=own_name)


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with gzip.open(file) if file.name.endswith(".gz") else file.open("rb") as lines:
            number = 0
            while line := lines.readline(MOST_LINE_BYTES + 1):
                number += 1
                if len(line) > MOST_LINE_BYTES:
                    raise RowError(file, number, "", f"expected at most {MOST_LINE_BYTES} bytes")
                if line.strip():
                    yield number, line
    except (gzip.BadGzipFile, zlib.error, EOFError):
        raise TrainingDataError(f"{file}: expected a whole gzip file") from None
    except OSError as error:
        raise TrainingDataError(f"{file}: cannot be read: {error.strerror or error}") from None
