"""What a recipe's value should have been, and what it is, in words of YAML instead of Python's."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import inspect

Path = Sequence[str | int]
"""Names and numbers of entries, from the recipe or a section of it down."""

_BOUNDS: Final = (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))
_MOST_SHOWN: Final = 60


def expected(struct: type[msgspec.Struct], path: Path) -> str:
    """What stands at a path of a struct; empty where the path leads nowhere.

    >>> from guard.training.settings import Recipe
    >>> expected(Recipe, ["stages", 0, "phases", 0, "steps"])
    'a whole number, at least 1'
    """
    found = _type_at(struct, path)
    return "" if found is None else _describe(found)


def unknown(struct: type[msgspec.Struct], path: Path, name: str) -> str:
    """The sentence for a field that is none; `path` leads to the fields that have it."""
    at = _type_at(struct, path)
    names = [field.encode_name for one in _options(at) for field in _fields(one)]
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"no such field; did you mean {near[0]}?"
    return f"no such field; expected one of {', '.join(names)}"


def found(value: object) -> str:
    """A value as it stands in the recipe.

    >>> found("fast"), found(None), found([1, 2])
    ("'fast'", 'nothing', 'a list of 2')
    """
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return repr(value if len(value) <= _MOST_SHOWN else value[:_MOST_SHOWN] + "…")
        case list():
            return f"a list of {len(value)}"
        case dict():
            return f"the fields {', '.join(map(str, value))}" if value else "no fields"
        case _:
            return str(value)


def at(content: object, path: Path) -> object:
    """The value at a path, or the nearest one above it."""
    for step in path:
        match content, step:
            case dict(), str() if step in content:
                content = content[step]
            case list(), int() if step < len(content):
                content = content[step]
            case _:
                return content
    return content


def _type_at(struct: type[msgspec.Struct], path: Path) -> inspect.Type | None:
    current: list[inspect.Type] = [inspect.type_info(struct)]
    for step in path:
        current = [below for one in current for below in _below(one, step)]
    if not current:
        return None
    return current[0] if len(current) == 1 else inspect.UnionType(tuple(current))


def _below(one: inspect.Type, step: str | int) -> list[inspect.Type]:
    plain = _options(one)
    if isinstance(step, str):
        tags = [x.tag for x in plain if isinstance(x, inspect.StructType) and x.tag_field == step]
        if tags:
            return [inspect.LiteralType(tuple(tags))]
        named = [field.type for x in plain for field in _fields(x) if field.encode_name == step]
        return named + [x.value_type for x in plain if isinstance(x, inspect.DictType)]
    items: list[inspect.Type] = []
    for x in plain:
        if isinstance(x, inspect.VarTupleType | inspect.ListType):
            items.append(x.item_type)
        elif isinstance(x, inspect.TupleType) and step < len(x.item_types):
            items.append(x.item_types[step])
    return items


def _options(one: inspect.Type | None) -> list[inspect.Type]:
    match one:
        case None:
            return []
        case inspect.Metadata():
            return _options(one.type)
        case inspect.UnionType():
            return [below for each in one.types for below in _options(each)]
        case _:
            return [one]


def _fields(one: inspect.Type) -> tuple[inspect.Field, ...]:
    return one.fields if isinstance(one, inspect.StructType) else ()


def _describe(one: inspect.Type) -> str:
    return " or ".join(dict.fromkeys(_plain(each) for each in _options(one)))


def _plain(one: inspect.Type) -> str:
    match one:
        case inspect.NoneType():
            return "nothing"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "a whole number" + _bounds(one)
        case inspect.FloatType():
            return "a number" + _bounds(one)
        case inspect.StrType():
            return "text" + (f" of the form {one.pattern}" if one.pattern else "") + _length(one)
        case inspect.LiteralType():
            return f"one of {', '.join(map(str, one.values))}"
        case inspect.VarTupleType() | inspect.ListType():
            return "a list" + _length(one)
        case inspect.TupleType():
            return f"a list of {len(one.item_types)}"
        case inspect.StructType():
            return f"fields ({', '.join(field.encode_name for field in one.fields)})"
        case inspect.DictType():
            return "fields, each with a name and a colon"
        case _:
            return "another kind of value"


def _bounds(one: inspect.IntType | inspect.FloatType) -> str:
    bounds = ((word, getattr(one, name)) for name, word in _BOUNDS)
    parts = [f"{word} {_number(value)}" for word, value in bounds if value is not None]
    if one.multiple_of is not None:
        parts.append(f"a multiple of {_number(one.multiple_of)}")
    return "".join(f", {part}" for part in parts)


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")


def _length(one: Any) -> str:
    parts = [
        f"{word} {value}"
        for word, value in (("at least", one.min_length), ("at most", one.max_length))
        if value is not None
    ]
    return f" of length {' and '.join(parts)}" if parts else ""
