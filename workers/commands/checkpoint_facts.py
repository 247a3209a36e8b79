"""What `rsafe checkpoint` tells: what is known of a checkpoint, and what is otherwise in another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from guard.checkpoint import CALIBRATION, MANIFEST, Checkpoint, checkpoint_files, file_digest
from guard.signature import signature_of

_LONGEST_VALUE: Final = 100
# Beside what is compared leaf by leaf.
_PLAIN: Final = (
    "name",
    "verified",
    "checkpoint_digest",
    "weights_digest",
    "calibration_digest",
    "signed_by",
    "profile",
    "template_version",
    "max_model_len",
    "base",
    "data_hash",
    "command",
)
_NESTED: Final = ("gate", "metrics", "training")


def facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """All that folder and manifest say; what only a manifest tells is None without one.

    Sizes are bytes. Raises `CheckpointError` for a signature that cannot be read.
    """
    manifest, signature = checkpoint.manifest, signature_of(checkpoint.path)
    told = {} if manifest is None else msgspec.to_builtins(manifest)
    listed = told.get("files", {})
    found: dict[str, Any] = {
        "name": checkpoint.name,
        "path": str(checkpoint.path),
        "verified": checkpoint.verified,
        "checkpoint_digest": checkpoint.checkpoint_digest,
        "weights_digest": checkpoint.weights_digest,
        "calibration_digest": listed.get(CALIBRATION),
        "signed_by": None if signature is None else signature.key_id,
        "profile": checkpoint.profile.name,
        "template_version": checkpoint.template_version,
        "max_model_len": checkpoint.max_model_len,
    }
    found |= {name: told.get(name) for name in ("base", "data_hash", "command")}
    found["files"] = {
        name: {
            "bytes": (checkpoint.path / name).stat().st_size,
            "sha256": listed.get(name) or file_digest(checkpoint.path / name),
        }
        for name in checkpoint_files(checkpoint.path)
    }
    return found | {name: told.get(name, {}) for name in _NESTED}


def fact_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The same for people: a line a fact, the rows of the gate, and how many figures there are."""
    for name in ("name", "path", *_PLAIN[1:]):
        yield f"{name.replace('_', ' '):<19} {_word(found[name])}"
    files = found["files"]
    total = sum(one["bytes"] for one in files.values())
    yield f"{'files':<19} {len(files)}, {total:,} bytes"
    for name, one in files.items():
        yield f"  {name}  {one['bytes']:,} bytes"
    gate = found["gate"]
    passed = {True: "passed", False: "FAILED"}.get(gate.get("passed"), "none")
    yield f"{'gate':<19} {passed}"
    # What the recipe's own gate said stands under a key of its own, beside the project's bars.
    for name, value in [*gate.items(), *_recipe_gate(gate).items()]:
        if isinstance(value, list) and all(isinstance(row, dict) for row in value):
            for row in value:
                yield f"  {name}: " + ", ".join(f"{key} {_word(one)}" for key, one in row.items())
    figures = sum(1 for _ in leaves(found["metrics"], "metrics"))
    yield f"{'metrics':<19} {figures} figures{'; --json shows them' if figures else ''}"


def _recipe_gate(gate: Mapping[str, Any]) -> Mapping[str, Any]:
    found = gate.get("recipe")
    return found if isinstance(found, dict) else {}


def otherwise(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What is otherwise in `new`, both from `facts`: files, facts, and numbers with how they changed.

    The place of a folder is no difference. A manifest is compared by what it says, not as a file.
    """
    before, after = (
        {name: one for name, one in found["files"].items() if name != MANIFEST} for found in (old, new)
    )
    return {
        "weights": "same" if old["weights_digest"] == new["weights_digest"] else "otherwise",
        "files": {
            "added": sorted(after.keys() - before.keys()),
            "removed": sorted(before.keys() - after.keys()),
            "changed": [name for name in before if name in after and before[name] != after[name]],
        },
        "facts": {name: {"old": old[name], "new": new[name]} for name in _PLAIN if old[name] != new[name]},
        **{name: _changes(old[name], new[name], name) for name in _NESTED},
    }


def is_same(found: Mapping[str, Any]) -> bool:
    """Whether `otherwise` found nothing."""
    return not any(found["files"].values()) and not any(found[name] for name in ("facts", *_NESTED))


def difference_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What `otherwise` found, for people."""
    yield f"weights: {found['weights']}"
    for what, names in found["files"].items():
        for name in names:
            yield f"file {what}: {name}"
    for group in ("facts", *_NESTED):
        for name, change in found[group].items():
            line = f"{name}: {_word(change['old'])} → {_word(change['new'])}"
            yield f"{line} ({change['change']:+.6g})" if "change" in change else line


def leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """What stands in nested objects and lists, by its path.

    A row of a list is named by its words where these tell it from the others, else by its place.

    >>> list(leaves({"bars": [{"figure": "parse", "value": 1.0}]}, "gate"))
    [('gate.bars[parse].figure', 'parse'), ('gate.bars[parse].value', 1.0)]
    """
    match value:
        case dict():
            for name, inner in value.items():
                yield from leaves(inner, f"{path}.{name}")
        case list() | tuple():
            names = [_row_name(row) for row in value]
            for number, (name, inner) in enumerate(zip(names, value, strict=True)):
                place = name if name and names.count(name) == 1 else number
                yield from leaves(inner, f"{path}[{place}]")
        case _:
            yield path, value


def _row_name(row: Any) -> str:
    if not isinstance(row, dict):
        return ""
    return " ".join(row[key] for key in sorted(row) if isinstance(row[key], str))


def _changes(old: Any, new: Any, path: str) -> dict[str, dict[str, Any]]:
    before, after = dict(leaves(old, path)), dict(leaves(new, path))
    return {
        name: _change(before.get(name), after.get(name))
        for name in dict.fromkeys([*before, *after])
        if (name in before, before.get(name)) != (name in after, after.get(name))
    }


def _change(old: Any, new: Any) -> dict[str, Any]:
    change = {"old": old, "new": new}
    if _is_number(old) and _is_number(new):
        change["change"] = new - old
    return change


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "":
        return "none"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
