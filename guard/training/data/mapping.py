"""From a source's own labels and codes to a policy, a label and codes: in data, not in code.

A mapping has views. A view is a policy (or some of its categories) and two tables, for rows that the source
calls unsafe and safe: own code → what the row is under this policy. A row gets the first view that supports
it; views after it may support the same row with the other label, and then the two are twins.

    views:
      - name: hate
        policy: rsafe-18              # a shipped policy, or a file beside the mapping
        categories: [U7]              # absent: all of the policy
        unsafe:
          slur_h: U7                  # violates U7
          terrorism: U2 | U3          # one of them; which one is not known
          threats: U1 U7              # both
          other: unsafe               # violates the policy; nobody knows which category
          vague: drop too_vague       # cannot be supported; counted under this reason
          length: ignore              # says nothing about the label
          mild: safe                  # not forbidden by this policy
          "*": unsafe                 # rows without a code that decides
        safe: {"*": safe}
        other_codes: drop             # of unsafe rows, codes that are not in the table: drop, ignore or same

Of several codes, `unsafe` outweighs categories, these outweigh `drop`, and that `safe`. Codes that are not in
the table of safe rows are ignored, since they are topics there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from guard.training.data.errors import TrainingDataError
from guard.training.data.policies import SHIPPED_POLICIES, policy_of, shipped_policies
from guard.training.data.yaml_file import read_yaml
from schemas.identifiers import Label
from schemas.policy import Policy

SHIPPED_MAPPINGS: Final = Path(__file__).parent / "mappings"
OtherCodes = Literal["drop", "ignore", "same"]
GroupKey = Literal["prompt", "conversation"]
"""What rows of one group share: the turns before the judged one (a lone turn itself), or the whole text."""
_REASON: Final = re.compile(r"[a-z][a-z0-9_]*")
_WITHOUT_CODE: Final = "*"


class View(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A policy, and what the source's rows are under it."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    policy: str
    categories: tuple[str, ...] = ()
    unsafe: dict[str, str] = {}
    safe: dict[str, str] = {}
    other_codes: OtherCodes = "drop"


class MappingFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a mapping file holds."""

    note: str
    """Why the tables are as they are, from what the source says of its labels."""
    views: Annotated[tuple[View, ...], msgspec.Meta(min_length=1)]
    group: GroupKey = "prompt"


@dataclass(frozen=True, slots=True)
class Ruling:
    """What one code, or all codes of a row together, say under a view."""

    label: Label | None
    """None: nothing that could be used, for `reason`; or nothing at all, where `reason` is empty."""
    codes: tuple[str, ...] = ()
    touched: frozenset[str] | None = frozenset()
    """Categories that the text may violate; None: any of the policy."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """A row under a view's policy."""

    view: str
    policy: Policy
    ruling: Ruling


_IGNORED: Final = Ruling(None)
_SAFE: Final = Ruling("safe")
_UNKNOWN: Final = Ruling("unsafe", touched=None)


class Mapping:
    """The views of one source, checked. Built by `read_mapping`."""

    def __init__(self, file: Path, content: MappingFile) -> None:
        self.file = file
        self.group: GroupKey = content.group
        self._views = [_CheckedView(file, number, view) for number, view in enumerate(content.views)]
        if len({view.name for view in content.views}) != len(content.views):
            raise TrainingDataError(f"{file}: views: a name stands twice")

    def place(self, label: Label, codes: Sequence[str]) -> list[Placed] | str:
        """The views that support the row, the first one first; or why none does, as the first view says."""
        rulings = [(view, view.ruling(label, codes)) for view in self._views]
        placed = [Placed(view.name, view.policy, ruling) for view, ruling in rulings if ruling.label]
        return placed or rulings[0][1].reason


class _CheckedView:
    def __init__(self, file: Path, number: int, view: View) -> None:
        self._at = f"{file}: views[{number}]"
        self.name = view.name
        path = _policy_path(file, view.policy, f"{self._at}.policy")
        self.policy = policy_of(path, view.categories)
        self._codes = {category.code for category in self.policy.categories}
        self._other: OtherCodes = view.other_codes
        self._tables = {"unsafe": self._table("unsafe", view.unsafe), "safe": self._table("safe", view.safe)}

    def ruling(self, label: Label, codes: Sequence[str]) -> Ruling:
        table = self._tables[label]
        said = [self._of(table, label, code) for code in codes if code != _WITHOUT_CODE]
        deciding = [ruling for ruling in said if ruling != _IGNORED]
        if not deciding:
            nothing = "no_code_that_decides" if table else "label_not_supported"
            ruling = table.get(_WITHOUT_CODE, _IGNORED)
            return Ruling(None, reason=nothing) if ruling == _IGNORED else ruling
        return _together(deciding)

    def _of(self, table: dict[str, Ruling], label: Label, code: str) -> Ruling:
        if code in table:
            return table[code]
        if label == "safe" or self._other == "ignore":
            return _IGNORED
        if self._other == "same" and code in self._codes:
            return Ruling("unsafe", (code,), frozenset((code,)))
        return Ruling(None, reason="code_not_in_policy" if self._other == "same" else "code_not_mapped")

    def _table(self, label: str, rules: dict[str, str]) -> dict[str, Ruling]:
        return {code: self._read(f"{self._at}.{label}.{code}", rule) for code, rule in rules.items()}

    def _read(self, field: str, rule: str) -> Ruling:
        words = rule.split()
        match words:
            case ["safe"]:
                return _SAFE
            case ["unsafe"]:
                return _UNKNOWN
            case ["ignore"]:
                return _IGNORED
            case ["drop", reason] if _REASON.fullmatch(reason):
                return Ruling(None, reason=reason)
        alternatives = [part.split() for part in rule.split("|")]
        named = [code for part in alternatives for code in part]
        if not named or (len(alternatives) > 1 and any(len(part) != 1 for part in alternatives)):
            raise TrainingDataError(
                f"{field}: expected safe, unsafe, ignore, `drop reason`, codes of the policy with spaces "
                "between, or codes with | between"
            )
        for code in named:
            if code not in self._codes:
                known = ", ".join(sorted(self._codes))
                raise TrainingDataError(f"{field}: the policy has no category {code!r}; it has {known}")
        return Ruling("unsafe", tuple(named) if len(alternatives) == 1 else (), frozenset(named))


def _together(rulings: Sequence[Ruling]) -> Ruling:
    unsafe = [ruling for ruling in rulings if ruling.label == "unsafe"]
    if not unsafe:
        return next((ruling for ruling in rulings if ruling.reason), _SAFE)
    touched: frozenset[str] = frozenset()
    for ruling in unsafe:
        if ruling.touched is None:
            return _UNKNOWN
        touched |= ruling.touched
    certain = all(ruling.codes for ruling in unsafe)
    codes = dict.fromkeys(code for ruling in unsafe for code in ruling.codes)
    return Ruling("unsafe", tuple(codes) if certain else (), touched)


def shipped_mappings() -> list[str]:
    """Names of the shipped mappings: those of the sources that they are for."""
    return sorted(path.stem for path in SHIPPED_MAPPINGS.glob("*.yaml"))


@cache
def read_mapping(name_or_path: str) -> Mapping:
    """A shipped mapping by name, or one from a YAML file. Raises `TrainingDataError`."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = SHIPPED_MAPPINGS / f"{name_or_path}.yaml"
        if not path.is_file():
            raise TrainingDataError(
                f"no mapping {name_or_path!r} is shipped; give the path of a file, `<name>.yaml`"
            )
    return Mapping(path, read_yaml(path, MappingFile))


def _policy_path(mapping: Path, policy: str, field: str) -> Path:
    if policy.endswith((".yaml", ".yml")):
        return mapping.parent / policy
    if policy not in shipped_policies():
        raise TrainingDataError(
            f"{field}: expected a file `<name>.yaml`, or one of {', '.join(shipped_policies())}"
        )
    return SHIPPED_POLICIES / f"{policy}.yaml"
