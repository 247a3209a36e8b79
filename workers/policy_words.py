"""What is wrong with a value of a policy, in words of YAML instead of Python's."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Final, get_args

import msgspec

from schemas.conduct import (
    ActionWeights,
    Conduct,
    ConductRule,
    Counts,
    Level,
    Recommendation,
    Scope,
    WindowKind,
)
from schemas.identifiers import Label, Mode, Role
from schemas.policy import (
    Band,
    Category,
    CategoryAction,
    Crosswalk,
    OnUnavailable,
    OnUnjudged,
    Policy,
    PolicyExample,
)

Path = Sequence[str | int]
"""Names and numbers of entries, from the policy down."""

_WRONG_TYPE: Final = re.compile(r"Expected `(?P<wanted>\w+)(?: \| null)?`, got `(?P<found>\w+)`")
_OUT_OF_BOUNDS: Final = re.compile(
    r"Expected `(?P<wanted>\w+)` (?P<length>of length )?(?P<side>[<>])(?P<equal>=?) (?P<bound>-?[0-9.]+)"
)
_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "action": get_args(CategoryAction),
    "counts": get_args(Counts),
    "label": get_args(Label),
    "mode": get_args(Mode),
    "on_unavailable": get_args(OnUnavailable),
    "on_unjudged": get_args(OnUnjudged),
    "per": get_args(Scope),
    "recommend": get_args(Recommendation),
    "role": get_args(Role),
    "roles": get_args(Role),
    "surfaces": get_args(Role),
    "window": get_args(WindowKind),
}
# msgspec's names of types, in words of YAML.
_WANTED: Final = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "array": "a list",
    "object": "fields, each with a name and a colon",
}
_FOUND: Final = {
    "str": "text",
    "int": "a number",
    "float": "a decimal number",
    "bool": "yes or no",
    "date": "a date",
    "datetime": "a time",
    "null": "nothing",
    "array": "a list",
    "object": "fields",
}
_SIDES: Final = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_QUOTABLE: Final = frozenset({"int", "float", "bool", "date", "datetime"})
# The struct whose fields stand below a name.
_STRUCTS: Final[dict[str, type[msgspec.Struct]]] = {
    "": Policy,
    "actions": ActionWeights,
    "categories": Category,
    "conduct": Conduct,
    "crosswalk": Crosswalk,
    "examples": PolicyExample,
    "levels": Level,
    "rules": ConductRule,
    "uncertain_band": Band,
}


def plainer(message: str, path: Path) -> str:
    """What was expected, from a message of msgspec without its place."""
    field = _last_name(path)
    if message.startswith("Invalid enum value"):
        return f"expected one of {', '.join(_CHOICES.get(field, ()))}"
    if "matching regex" in message:
        if field in ("code", "codes"):
            return "expected a letter, then up to 15 of A-Z a-z 0-9 _ -"
        return "expected no control characters"
    if wrong := _WRONG_TYPE.fullmatch(message):
        wanted, found = wrong["wanted"], wrong["found"]
        hint = "; put it in quotes" if wanted == "str" and found in _QUOTABLE else ""
        return f"expected {_WANTED.get(wanted, wanted)}, got {_FOUND.get(found, found)}{hint}"
    if bound := _OUT_OF_BOUNDS.fullmatch(message):
        side = _SIDES[bound["side"] + bound["equal"]]
        wanted, limit = _WANTED.get(bound["wanted"], bound["wanted"]), bound["bound"].removesuffix(".0")
        if not bound["length"]:
            return f"expected {wanted}, {side} {limit}"
        one, many = ("character", "characters") if bound["wanted"] == "str" else ("entry", "entries")
        return f"expected {wanted} of {side} {limit} {one if limit == '1' else many}"
    if message == "Number out of range":
        return "expected a number of usual size"
    return message[:1].lower() + message[1:].replace("`", "")


def unknown_field(name: str, path: Path) -> str:
    """The sentence for a field that is none; `path` leads to the object that has it."""
    # A name may look like a path of msgspec's and lead nowhere.
    fields = _STRUCTS.get(_last_name(path), Policy).__struct_fields__
    near = difflib.get_close_matches(name, fields, n=1)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(fields)}"
    return f"unknown field; {hint}"


def _last_name(path: Path) -> str:
    return next((step for step in reversed(path) if isinstance(step, str)), "")
