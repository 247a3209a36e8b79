"""Which code a stage ran: a digest of what its modules do, whatever their comments say.

A stage is made anew when its code changed. Comments, docstrings and layout are left out, so that a sentence
that was corrected does not cost a training run. A stage's code is the modules that it begins with, all that
they import of this project, within functions too, the data files beside them, and its own functions of
`steps.py` with what they call there.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[2]
_PACKAGES: Final = ("guard", "schemas")
# What a recipe sets is an input of its own; what errors are called and how a run is shown changes no result.
_LEFT_OUT: Final = frozenset({"guard.training.settings", "guard.training.run_log", "guard.errors"})
# Folders whose other files are not data of the modules in them.
_NO_DATA: Final = frozenset({"guard", "guard/training", "guard/serving", "schemas"})
# Module in such a folder → the data file that it reads there.
_DATA_OF: Final = {"guard.training.report": "guard/training/report_template.html"}

_FROM_SCRATCH: Final = ("guard.training.warm_start", "guard.training.model", "guard.training.export")
BEGINNINGS: Final[dict[str, Sequence[str]]] = {
    "dataset": (
        "guard.training.tokenizer",
        "guard.training.row_words",
        "guard.training.generator.evaluation_sets",
        "guard.training.data.build",
    ),
    "warm-start": _FROM_SCRATCH,
    "warm-start-with-rows": (*_FROM_SCRATCH, "guard.training.row_trees"),
    "base": ("guard.training.base_model", "guard.training.weights"),
    "supervised": ("guard.training.supervised",),
    "grpo": ("guard.training.grpo",),
    "evaluation": ("guard.training.evaluation", "guard.training.floor", "guard.training.report"),
    "gate": ("guard.training.gate", "guard.training.report"),
    "checkpoint": ("guard.training.package", "guard.training.account"),
}
"""Stage → the modules that it begins with; one that is not there begins nothing."""
STEPS: Final[dict[str, Sequence[str]]] = {
    "dataset": ("make_dataset",),
    "warm-start": ("train_from_scratch",),
    "warm-start-with-rows": ("train_from_scratch",),
    "base": ("take_base",),
    "supervised": ("train_supervised",),
    "grpo": ("train_reinforced",),
    "evaluation": ("evaluation_settings", "measure"),
    "gate": ("judge_gate", "read_report"),
    "checkpoint": ("copy_calibration", "read_report", "sign_checkpoint"),
}
"""Stage → its functions in `steps.py`: what it imports for other stages is none of its code."""


def code_version(stage: str) -> str:
    """SHA-256 (hex) of a stage's modules and their data files."""
    digest = hashlib.sha256()
    for path in sorted(_files(BEGINNINGS[stage])):
        content = path.read_bytes()
        if path.suffix == ".py":
            content = plain_code(content.decode()).encode()
        name = path.relative_to(_ROOT).as_posix()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    digest.update(
        code_of((_ROOT / "guard/training/steps.py").read_text(encoding="utf-8"), STEPS[stage]).encode()
    )
    return digest.hexdigest()


def code_of(source: str, names: Sequence[str]) -> str:
    r"""Functions and constants of a module, and those of it that they use; without comments and docstrings.

    >>> code_of("A = 1\nB = 2\ndef f(): return A\ndef g(): return f()\ndef h(): return B", ["g"])
    'A = 1\ndef f():\n    return A\ndef g():\n    return f()'
    """
    known: dict[str, ast.stmt] = {}
    for node in ast.parse(plain_code(source)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            known[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            known |= {one.id: node for one in targets if isinstance(one, ast.Name)}
    pending, reached = list(names), set[str]()
    while pending:
        name = pending.pop()
        if name in known and name not in reached:
            reached.add(name)
            pending += [one.id for one in ast.walk(known[name]) if isinstance(one, ast.Name)]
    return "\n".join(ast.unparse(node) for name, node in known.items() if name in reached)


def plain_code(source: str) -> str:
    r"""Python without comments, docstrings and layout.

    >>> plain_code('"What it does."\nx = (1,  # one\n 2)')
    'x = (1, 2)'
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            kept = [one for one in node.body if not _is_text(one)]
            node.body = kept or ([] if isinstance(node, ast.Module) else [ast.Pass()])
    return ast.unparse(tree)


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _files(beginnings: Sequence[str]) -> set[Path]:
    """The modules that are reached, and the data files in and below their folders."""
    pending, found = list(beginnings), dict[str, Path]()
    while pending:
        name = pending.pop()
        path = _module(name)
        if path is None or name in found or name in _LEFT_OUT:
            continue
        found[name] = path
        pending.extend(_imported(path.read_text(encoding="utf-8")))
    folders = {path.parent for path in found.values()}
    data = {
        path
        for folder in folders
        if folder.relative_to(_ROOT).as_posix() not in _NO_DATA
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    return {*found.values(), *data, *(_ROOT / _DATA_OF[name] for name in found if name in _DATA_OF)}


def _module(name: str) -> Path | None:
    if name.partition(".")[0] not in _PACKAGES:
        return None
    base = _ROOT.joinpath(*name.split("."))
    for path in (base.with_name(base.name + ".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
