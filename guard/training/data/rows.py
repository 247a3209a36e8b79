"""What all parts of training exchange: a labelled row, and the two files in which rows are kept.

`rows.jsonl` has a row a line, in order, with its policy by judgement hash; `policies.jsonl` has each of
those policies once. Rows that are read share the policy objects, which keeps the renderer's cache small.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec

from guard.prompt import Turn
from guard.training.data.errors import RowError, TrainingDataError, explained
from schemas.policy import Policy, judgement_hash

ROWS: Final = "rows.jsonl"
POLICIES: Final = "policies.jsonl"
_Line = TypeVar("_Line")


class LabelledRow(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation whose last turn is judged under a policy, and the label that it was given."""

    id: str
    """Unique over all sources."""
    source: str
    """Name of the source."""
    split: Literal["train", "dev"]
    group: str
    """Rows of one group never straddle splits (pair, thread, prompt)."""
    policy: Policy
    """What the row is judged under; rows share the objects."""
    turns: tuple[Turn, ...]
    """1 or more; the judged one last."""
    label: Literal["safe", "unsafe"]
    codes: tuple[str, ...] = ()
    """Categories of `policy` that are violated; empty where safe or not known."""
    language: str = "en"
    licence: str = ""
    twin: str = ""
    """Id of the row with the same text and the other label under another policy."""
    rationale: str = ""
    """Guided reasoning for the warm start, where the source has one."""


class _PolicyLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    judgement_hash: str
    policy: Policy


class _RowLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A row as it stands in the file: the fields of `LabelledRow`, the policy by its hash."""

    id: str
    source: str
    split: Literal["train", "dev"]
    group: str
    policy: str
    turns: tuple[Turn, ...]
    label: Literal["safe", "unsafe"]
    codes: tuple[str, ...] = ()
    language: str = "en"
    licence: str = ""
    twin: str = ""
    rationale: str = ""


_FIELDS: Final = tuple(name for name in _RowLine.__struct_fields__ if name != "policy")


class PolicyHashes:
    """Judgement hashes of policies, each taken once per object: it costs more than writing a row."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Policy, str]] = {}

    def of(self, policy: Policy) -> str:
        """The policy's judgement hash."""
        # The policy is kept, so that its id is not given to another one.
        known = self._known.get(id(policy))
        if known is None:
            known = self._known[id(policy)] = policy, judgement_hash(policy)
        return known[1]


def fault_of(row: LabelledRow) -> tuple[str, str] | None:
    """The field at fault and what was expected of it; None where the row is whole."""
    if not row.id:
        return "id", "expected at least one character"
    if not row.turns:
        return "turns", "expected at least one turn"
    if row.label == "safe" and row.codes:
        return "codes", "expected none, since a safe row violates no category"
    known = {category.code for category in row.policy.categories}
    if not known.issuperset(row.codes):
        return "codes", "expected codes of the row's policy"
    return None


def write_rows(folder: Path, rows: Iterable[LabelledRow]) -> int:
    """Write both files into `folder`, which is made where it is absent; how many rows they have.

    Of policies that read alike to the model (one judgement hash) the first one is kept, so thresholds and
    actions of the others are not. Raises `TrainingDataError` for a row that could not be read again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    hashes = PolicyHashes()
    policies: dict[str, Policy] = {}
    seen: set[str] = set()
    encode = msgspec.json.Encoder().encode
    with (folder / ROWS).open("wb") as file:
        for row in rows:
            fault = fault_of(row)
            if row.id in seen:
                fault = "id", "stands twice; expected once over all sources"
            if fault is not None:
                raise TrainingDataError(f"row {row.id}: {fault[0]}: {fault[1]}")
            seen.add(row.id)
            digest = hashes.of(row.policy)
            policies.setdefault(digest, row.policy)
            line = _RowLine(policy=digest, **{name: getattr(row, name) for name in _FIELDS})
            file.write(encode(line) + b"\n")
    with (folder / POLICIES).open("wb") as file:
        file.writelines(
            encode(_PolicyLine(judgement_hash=digest, policy=policy)) + b"\n"
            for digest, policy in policies.items()
        )
    return len(seen)


def read_rows(folder: Path) -> list[LabelledRow]:
    """The rows of a folder, in order; equal policies are one object.

    Raises `RowError` for the first line that is not what `write_rows` writes, and `TrainingDataError` where a
    file cannot be read.
    """
    policies: dict[str, Policy] = {}
    path = folder / POLICIES
    for number, policy_line in _lines(path, _PolicyLine):
        if judgement_hash(policy_line.policy) != policy_line.judgement_hash:
            raise RowError(path, number, "judgement_hash", "expected the hash of the policy beside it")
        policies[policy_line.judgement_hash] = policy_line.policy
    rows: list[LabelledRow] = []
    seen: set[str] = set()
    path = folder / ROWS
    for number, line in _lines(path, _RowLine):
        policy = policies.get(line.policy)
        if policy is None:
            raise RowError(path, number, "policy", f"expected the judgement hash of a policy in {POLICIES}")
        row = LabelledRow(policy=policy, **{name: getattr(line, name) for name in _FIELDS})
        if fault := fault_of(row):
            raise RowError(path, number, *fault)
        if row.id in seen:
            raise RowError(path, number, "id", "stands twice; expected once over all sources")
        seen.add(row.id)
        rows.append(row)
    return rows


def _lines(path: Path, form: type[_Line]) -> Iterator[tuple[int, _Line]]:
    decode = msgspec.json.Decoder(form).decode
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                try:
                    yield number, decode(text)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise explained(path, number, error) from None
    except OSError as error:
        raise TrainingDataError(f"{path}: cannot be read: {error.strerror}") from error
