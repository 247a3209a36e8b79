"""JSON Schema 2020-12 of what travels on topics, from the structs and the docstrings of their fields."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from schemas.dead_letter import DeadLetter
from schemas.decision import Decision
from schemas.escalation import Escalation
from schemas.event import Event
from schemas.policy import Policy
from schemas.policy_change import PolicyChange
from schemas.release import Release
from schemas.review import Review
from schemas.verdict import Verdict

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True, slots=True)
class Noun:
    """One kind of record, in one version of its form."""

    name: str
    version: int
    struct: type[msgspec.Struct]

    @property
    def file_name(self) -> str:
        return f"{self.name}.v{self.version}.schema.json"

    @property
    def id(self) -> str:
        return f"urn:rsafe-stream:schema:{self.name}:v{self.version}"


NOUNS: Final = (
    Noun("event", 1, Event),
    Noun("policy", 1, Policy),
    Noun("verdict", 1, Verdict),
    Noun("decision", 1, Decision),
    Noun("dead_letter", 1, DeadLetter),
    Noun("review", 1, Review),
    Noun("release", 1, Release),
    Noun("policy_change", 1, PolicyChange),
    Noun("escalation", 1, Escalation),
)


def wire_schema(noun: Noun) -> dict[str, Any]:
    """The schema of a noun: self-contained, every field described."""
    definitions = msgspec.json.schema(noun.struct)["$defs"]
    for struct in _structs(noun.struct):
        _describe(definitions[struct.__name__], _field_docs(struct))
    root = definitions.pop(noun.struct.__name__)
    schema = {"$schema": DIALECT, "$id": noun.id, **root}
    return {**schema, "$defs": definitions} if definitions else schema


def _describe(definition: dict[str, Any], docs: dict[str, str]) -> None:
    for name, schema in definition["properties"].items():
        kind = schema.pop("description", None)
        text = docs[name]
        definition["properties"][name] = {"description": f"{text} ({kind})" if kind else text, **schema}


def _structs(root: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    """The struct and all that it is made of, each once."""
    seen: set[type[msgspec.Struct]] = set()
    pending: list[Any] = [msgspec.inspect.type_info(root)]
    while pending:
        match pending.pop():
            case msgspec.inspect.StructType() as struct if struct.cls not in seen:
                seen.add(struct.cls)
                yield struct.cls
                pending.extend(field.type for field in struct.fields)
            case msgspec.inspect.Metadata() as metadata:
                pending.append(metadata.type)
            case msgspec.inspect.UnionType() as union:
                pending.extend(union.types)
            case msgspec.inspect.VarTupleType() as array:
                pending.append(array.item_type)


def _field_docs(struct: type[msgspec.Struct]) -> dict[str, str]:
    """The docstring below each field of a struct. Raises `LookupError` for a field without one."""
    body = ast.parse(textwrap.dedent(inspect.getsource(struct))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs: dict[str, str] = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match below:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    docs[field.target.id] = inspect.cleandoc(text).removesuffix(".")
    if missing := [name for name in struct.__struct_fields__ if name not in docs]:
        raise LookupError(f"{struct.__name__}.{missing[0]} has no docstring")
    return docs
