"""Reads the sources of settings, and puts what is wrong with them into one sentence each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from workers.errors import SettingsError

Types = Mapping[tuple[str, str], tuple[str, str]]
"""Variable and expected type by the path of a setting."""


def read_tree(variable: str, path: str) -> dict[str, dict[str, Any]]:
    """Groups of settings from a YAML file. Raises `SettingsError` naming variable, file and place."""
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{variable}: cannot read {path}: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark is not None else ""
        raise SettingsError(f"{variable}: {path}{line}: {error.problem or 'not YAML'}") from error
    # A control character, a date that is none, nesting without end.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(f"{variable}: {path}: expected YAML in UTF-8 ({type(error).__name__})") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError(f"{variable}: {path}: expected groups of settings, such as `kafka:`")
    for name, group in tree.items():
        if not isinstance(group, dict):
            raise SettingsError(f"{variable}: {path}: {name}: expected a group of settings, such as `kafka:`")
    return tree


def read_secret(variable: str, path: str) -> str:
    """The content of a file without the white space around it. Raises `SettingsError` naming the variable.

    An empty file is refused: it is being written, or was forgotten, and never means "no password".
    """
    try:
        content = Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{variable}: cannot read the file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{variable}: {path}: expected text in UTF-8") from error
    if not content:
        raise SettingsError(f"{variable}: the file {path} is empty; expected the secret in it")
    return content


def unknown(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The sentence for a name that is no setting; `known` names begin with `prefix`, which does not count."""
    bare = {one.removeprefix(prefix): one for one in known}
    near = difflib.get_close_matches(name.upper().removeprefix(prefix) if prefix else name, bare, n=1)
    hint = f"; did you mean {bare[near[0]]}?" if near else "; `rsafe settings` lists all"
    return f"unknown setting {name}{hint}"


def explain(error: ValidationError, types: Types) -> str:
    """One line per problem; the values found are not repeated."""
    return "\n".join(_sentences(error, types))


def _sentences(error: ValidationError, types: Types) -> Iterator[str]:
    names = [".".join(path) for path in types]
    groups = sorted({path[0] for path in types})
    for problem in error.errors(include_input=False, include_url=False):
        place = [str(part) for part in problem["loc"]]
        known = types.get((place[0], place[1])) if len(place) > 1 else None
        if problem["type"] == "value_error":  # settings that do not fit together; the sentence is ours
            yield str(problem["ctx"]["error"])
        elif known is not None:
            yield f"{known[0]}: expected {known[1]}"
        else:
            yield unknown(".".join(place), [*names, *groups])
