"""YAML → policies, with errors that name the file, the line and the field.

A file holds one policy, or several YAML documents. The text is parsed to nodes, which know their lines;
msgspec checks the values and names a path; the path leads back to the node at fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import yaml

from schemas.identifiers import FieldError
from schemas.policy import Policy
from workers.errors import SettingsError
from workers.policy_words import plainer, unknown_field
from workers.terminal import harmless

# A policy of 64 categories with long definitions has about 300,000 bytes; PyYAML reads some 100,000 a second.
MAX_FILE_BYTES: Final = 524_288
# Values that a file has once its aliases are written out; aliases of aliases reach billions in a few lines.
MAX_VALUES: Final = 50_000
_VALIDATION: Final = re.compile(r"(?P<message>.*?)(?: - at `\$(?P<path>[^`]*)`)?", re.DOTALL)
_STEP: Final = re.compile(r"\.(?P<key>[^.\[]+)|\[(?P<index>\d+)\]")
_UNKNOWN_FIELD: Final = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING_FIELD: Final = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_NAME_TAGS: Final = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at one place of a file."""

    file: Path
    line: int
    """Counted from 1."""
    field: str
    """Path within the policy, such as `categories[0].code`; empty for the whole document."""
    sentence: str

    def __str__(self) -> str:
        field = f"{self.field}: " if self.field else ""
        return harmless(f"{self.file}:{self.line}: {field}{self.sentence}")


class PolicyFileError(SettingsError):
    """Everything that is wrong with the files, one line each."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class FoundPolicy:
    """A policy and where it stands."""

    policy: Policy
    file: Path
    line: int
    """First line of its document, counted from 1."""
    lines: dict[str, int]
    """Line of each top-level field."""


class _Invalid(Exception):
    def __init__(self, node: yaml.Node | None, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.line = node.start_mark.line + 1 if node is not None else 1
        self.field = field
        self.sentence = sentence


def read_policy_file(path: Path) -> list[FoundPolicy]:
    """The policies of a file, in its order.

    Raises `PolicyFileError` with the first problem of each document.
    """
    found: list[FoundPolicy] = []
    problems: list[Problem] = []
    try:
        for node in _documents(_read_text(path)):
            try:
                policy = _policy(node)
            except _Invalid as error:
                problems.append(Problem(path, error.line, error.field, error.sentence))
            else:
                lines = {key.value: key.start_mark.line + 1 for key, _ in node.value}
                found.append(FoundPolicy(policy, path, node.start_mark.line + 1, lines))
    except _Invalid as error:
        problems.append(Problem(path, error.line, error.field, error.sentence))
    if not found and not problems:
        problems.append(Problem(path, 1, "", "the file holds no policy"))
    if problems:
        raise PolicyFileError(problems)
    return found


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _Invalid(None, "", f"cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise _Invalid(None, "", f"expected a file of at most {MAX_FILE_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        invalid = _Invalid(None, "", "expected UTF-8")
        invalid.line = line
        raise invalid from error


def _documents(text: str) -> Iterator[yaml.MappingNode]:
    """The documents that are not empty. Raises `_Invalid` where the text is no YAML or no mapping."""
    try:
        for node in yaml.compose_all(text, Loader=yaml.SafeLoader):
            if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"):
                continue
            if not isinstance(node, yaml.MappingNode):
                raise _Invalid(node, "", "expected a policy: fields such as `id:` and `categories:`")
            yield node
    except yaml.MarkedYAMLError as error:
        raise _broken(error) from error
    except yaml.YAMLError as error:  # a reader error (a control character) has no mark
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        invalid = _Invalid(None, "", "a character that YAML does not allow")
        invalid.line = line
        raise invalid from error
    except RecursionError as error:
        raise _Invalid(None, "", "nested too deeply") from error


def _broken(error: yaml.MarkedYAMLError) -> _Invalid:
    invalid = _Invalid(None, "", ", ".join(part for part in (error.problem, error.context) if part))
    mark = error.problem_mark or error.context_mark
    if mark is not None:
        invalid.line = mark.line + 1
    return invalid


def _policy(node: yaml.MappingNode) -> Policy:
    _check_nodes(node)
    try:
        content = yaml.SafeLoader("").construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise _broken(error) from error
    try:
        return msgspec.convert(content, Policy)
    except msgspec.ValidationError as error:
        raise _explain(node, error) from error


def _check_nodes(document: yaml.MappingNode) -> None:
    """Refuse duplicate keys, keys that are no text, lone surrogates, more values than a policy can have."""
    loader = yaml.SafeLoader("")
    pending: list[tuple[yaml.Node, str]] = [(document, "")]
    count = 0
    while pending:
        node, field = pending.pop()
        count += 1
        if count > MAX_VALUES:
            raise _Invalid(document, "", f"expected at most {MAX_VALUES} values, aliases written out")
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.tag not in _NAME_TAGS:
                    raise _Invalid(key, field, "expected a name before the colon")
                name = f"{field}.{key.value}" if field else key.value
                if key.value in seen:
                    raise _Invalid(key, name, "stands twice; expected once")
                seen.add(key.value)
                pending.append((value, name))
        elif isinstance(node, yaml.SequenceNode):
            pending.extend((item, f"{field}[{number}]") for number, item in enumerate(node.value))
        elif any("\ud800" <= character <= "\udfff" for character in node.value):
            raise _Invalid(node, field, "half of a surrogate pair, which is no character")
        else:
            _check_scalar(loader, node, field)


def _check_scalar(loader: yaml.SafeLoader, node: yaml.Node, field: str) -> None:
    try:
        loader.construct_object(node)
    except yaml.MarkedYAMLError as error:
        raise _Invalid(node, field, "a tag that policies do not use") from error
    except (ValueError, OverflowError) as error:  # `2026-99-99` looks like a date and is none
        raise _Invalid(node, field, "neither text nor a number; put it in quotes") from error


def _explain(document: yaml.MappingNode, error: msgspec.ValidationError) -> _Invalid:
    parts = _VALIDATION.fullmatch(str(error))
    assert parts is not None
    message = parts["message"]
    path: list[str | int] = [
        step["key"] if step["key"] is not None else int(step["index"])
        for step in _STEP.finditer(parts["path"] or "")
    ]
    if isinstance(error.__cause__, FieldError):
        path, message = [*path, *error.__cause__.path], str(error.__cause__)
    elif unknown := _UNKNOWN_FIELD.fullmatch(message):
        message = unknown_field(unknown["name"], path)
        path = [*path, unknown["name"]]
        return _Invalid(_key(document, path), _text(path), message)
    elif missing := _MISSING_FIELD.fullmatch(message):
        at = _walk(document, path)
        return _Invalid(at, _text([*path, missing["name"]]), "missing, and required")
    else:
        message = plainer(message, path)
    return _Invalid(_walk(document, path), _text(path), message)


def _walk(node: yaml.Node, path: list[str | int]) -> yaml.Node:
    """The node at the path, or the nearest one above it."""
    for step in path:
        match node, step:
            case yaml.MappingNode(), str():
                below = next((value for key, value in node.value if key.value == step), None)
            case yaml.SequenceNode(), int() if step < len(node.value):
                below = node.value[step]
            case _:
                below = None
        if below is None:
            return node
        node = below
    return node


def _key(document: yaml.MappingNode, path: list[str | int]) -> yaml.Node:
    parent = _walk(document, path[:-1])
    if isinstance(parent, yaml.MappingNode):
        return next((key for key, _ in parent.value if key.value == path[-1]), parent)
    return parent


def _text(path: list[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
