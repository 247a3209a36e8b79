"""The leaves of the chart's values, and for each a value that differs from its base."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Final

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
    """A value of the leaf's type that its schema allows and that is not `now`.

    Maps and lists have no such value by themselves: the caller's table has them.
    """
    schema = schema_at(path)
    if "enum" in schema:
        return next(word for word in schema["enum"] if word not in (now, ""))
    if isinstance(now, bool):
        return not now
    if isinstance(now, int | float):
        return now + 1 if now + 1 <= schema.get("maximum", now + 1) else now - 1
    if isinstance(now, str):
        if "sha256" in schema.get("pattern", ""):
            return "sha256:" + ("7" if now != "sha256:" + "7" * 64 else "8") * 64
        return f"{now}-x" if now else "changed"
    raise KeyError(f"{'.'.join(path)}: what else than {now!r} it may be has to stand in the table")
