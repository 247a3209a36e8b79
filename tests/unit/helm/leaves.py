"""The leaves of the chart's values, and for each a value that differs from its base."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Final

from jsonschema import Draft7Validator

from tests.unit.helm.chart import SCHEMA, VALUES, merged

Path = tuple[str, ...]
MISSING: Final = object()


def described(schema: dict[str, Any] = SCHEMA, path: Path = ()) -> Iterator[Path]:
    """Paths of the schema that have no described parts, without `global` and the worker's `settings`."""
    for name, part in schema.get("properties", {}).items():
        if path == () and name in ("global", "settings"):
            continue
        if part.get("properties"):
            yield from described(part, (*path, name))
        else:
            yield (*path, name)


def shipped(values: Any = None, path: Path = ()) -> Iterator[Path]:
    """Paths of `values.yaml` that are no map with entries."""
    part = VALUES if values is None and not path else values
    if isinstance(part, dict) and part:
        for name, below in part.items():
            yield from shipped(below, (*path, name))
    else:
        yield path


def leaves() -> list[Path]:
    """All leaves, sorted: a leaf of the schema that has entries in `values.yaml` is one leaf, the map."""
    maps = set(described())
    return sorted(maps | {path for path in shipped() if not any(path[:n] in maps for n in range(len(path)))})


LEAVES: Final = leaves()


def at(values: dict[str, Any], path: Path) -> Any:
    """What stands there, or `MISSING`."""
    place: Any = values
    for step in path:
        if not isinstance(place, dict) or step not in place:
            return MISSING
        place = place[step]
    return place


def placed(path: Path, value: Any) -> dict[str, Any]:
    """Values with that one leaf."""
    for step in reversed(path):
        value = {step: value}
    return value  # type: ignore[no-any-return]


def schema_at(path: Path) -> dict[str, Any]:
    """The schema's part for a leaf; empty where it describes none."""
    part: dict[str, Any] = SCHEMA
    for step in path:
        part = part.get("properties", {}).get(step, {})
    return part


def with_leaf(base: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """The base with another value at the leaf; maps and lists are replaced, not merged."""
    changed = merged(base, placed(path, None))
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = copy.deepcopy(value)
    return changed


def another(path: Path, now: Any) -> Any:
    """A value that the leaf's schema allows and that is not `now`.

    Maps and lists have no such value by themselves: `KeyError`, the caller's table has to have them.
    """
    validator = Draft7Validator(schema_at(path))
    for value in _candidates(schema_at(path), now):
        if value != now and validator.is_valid(value):
            return value
    raise KeyError(f"{'.'.join(path)}: what else than {now!r} it may be has to stand in the table")


def _candidates(schema: dict[str, Any], now: Any) -> Iterator[Any]:
    if isinstance(now, bool):
        yield not now
    elif isinstance(now, int | float):
        yield from (now + 1, now - 1, now / 2)
    elif isinstance(now, str) and now and "enum" not in schema:
        yield f"{now}-x"
    yield from (word for word in schema.get("enum", ()) if word not in ("", None))
    if isinstance(now, dict | list):
        return
    if schema.get("type") == "boolean":
        yield True
    # A name, a quantity, a share, a time, a digest, an address, a schedule; and numbers.
    yield from ("changed", "7Gi", "70%", "7m", "sha256:" + "7" * 64, "https://changed.example", "7 7 * * *")
    yield from (7, 70, 700, 0.7)
