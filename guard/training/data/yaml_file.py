"""YAML → structs, with errors that name the file, the line and the field.

A file is parsed to nodes, which know their lines; msgspec checks the values and names a path, which leads
back to the node at fault. A key that stands twice is refused: YAML takes the last one and says nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import yaml

from guard.training.data.errors import RowError, TrainingDataError
from schemas.identifiers import FieldError

_Form = TypeVar("_Form")
_SENTENCE: Final = re.compile(r"(?P<message>.*?)(?: - at `(?P<key>key in )?\$(?P<path>[^`]*)`)?", re.DOTALL)
_STEP: Final = re.compile(r"\.(?P<key>[^.\[]+)|\[(?P<index>\d+)\]|\[\.\.\.\]")
# Files are written by people. PyYAML reads some 100,000 bytes a second.
_MOST_BYTES: Final = 1_000_000


def read_yaml(path: Path, form: type[_Form]) -> _Form:
    """The one document of a file, as `form`. Raises `RowError`, or `TrainingDataError` without a line."""
    documents = read_yaml_documents(path, form)
    if len(documents) != 1:
        raise TrainingDataError(f"{path}: expected one document, found {len(documents)}")
    return documents[0]


def read_yaml_documents(path: Path, form: type[_Form]) -> list[_Form]:
    """The documents of a file that are not empty, each as `form`. Raises as `read_yaml`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TrainingDataError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > _MOST_BYTES:
        raise TrainingDataError(f"{path}: expected at most {_MOST_BYTES} bytes")
    try:
        nodes = list(yaml.compose_all(content.decode("utf-8-sig"), Loader=yaml.SafeLoader))
        return [_document(path, node, form) for node in nodes if node is not None and not _is_empty(node)]
    except UnicodeDecodeError:
        raise TrainingDataError(f"{path}: expected UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise RowError(path, mark.line + 1 if mark else 1, "", error.problem or "expected YAML") from None
    except (yaml.YAMLError, RecursionError):
        raise TrainingDataError(f"{path}: expected YAML") from None


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _document(path: Path, node: yaml.Node, form: type[_Form]) -> _Form:
    if not isinstance(node, yaml.MappingNode):
        raise RowError(path, node.start_mark.line + 1, "", "expected fields, such as `name: value`")
    _refuse_twice(path, node, "")
    try:
        values = yaml.SafeLoader("").construct_document(node)
    except ValueError:  # `2026-99-99` looks like a date and is none
        raise RowError(path, node.start_mark.line + 1, "", "a value that YAML does not allow") from None
    try:
        return msgspec.convert(values, form)
    except msgspec.ValidationError as error:
        raise _explained(path, node, error) from None


def _refuse_twice(path: Path, node: yaml.Node, field: str) -> None:
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _refuse_twice(path, item, f"{field}[{number}]")
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = f"{field}.{key.value}".removeprefix(".")
            if key.value in seen:
                raise RowError(path, key.start_mark.line + 1, name, "stands twice; expected once")
            seen.add(key.value)
            _refuse_twice(path, value, name)


def _explained(path: Path, document: yaml.Node, error: msgspec.ValidationError) -> RowError:
    parts = _SENTENCE.fullmatch(str(error))
    assert parts is not None
    steps: list[str | int] = [
        step["key"] if step["key"] is not None else int(step["index"])
        for step in _STEP.finditer(parts["path"] or "")
        if step["key"] is not None or step["index"] is not None
    ]
    message = parts["message"]
    if isinstance(error.__cause__, FieldError):
        steps, message = [*steps, *error.__cause__.path], str(error.__cause__)
    field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return RowError(path, _line_of(document, steps), field.removeprefix("."), message)


def _line_of(node: yaml.Node, steps: list[str | int]) -> int:
    """The line of the node at the path, or of the nearest one above it; counted from 1."""
    for step in steps:
        below: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            below = next((value for key, value in node.value if key.value == str(step)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            below = node.value[step]
        if below is None:
            break
        node = below
    return node.start_mark.line + 1
