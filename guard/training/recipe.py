"""YAML → recipe: a file, or one that is shipped. A wrong value is refused with file, line and field.

Numbers are those of YAML 1.2, so `1e-7` is one and `no` is text. The text is parsed to nodes, which know
their lines; msgspec checks the values and names a path; the path leads back to the node at fault.
"""

from __future__ import annotations

import importlib
import math
import re
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import yaml

from guard.errors import RecipeError
from guard.training.recipe_words import at, expected, found, unknown
from guard.training.settings import Recipe
from schemas.identifiers import FieldError

SHIPPED_RECIPES: Final = Path(__file__).parents[1] / "recipes"
# The longest that is shipped has 6,000 bytes; far more is another kind of file.
MAX_FILE_BYTES: Final = 262_144
MAX_VALUES: Final = 20_000
# section → the struct that reads it. Imported when a recipe has the section: each belongs to its own step.
SECTIONS: Final = {
    "data": "guard.training.data.settings:DataSettings",
    "warm_start": "guard.training.grpo_settings:SupervisedSettings",
    "grpo": "guard.training.grpo_settings:GrpoSettings",
    "evaluation": "guard.training.evaluation_settings:EvaluationSettings",
    "gate": "guard.training.gate_settings:GateSettings",
}
_SHARED: Final = ("template", "seed")
_VALIDATION: Final = re.compile(r"(?P<message>.*?)(?: - at `\$(?P<path>[^`]*)`)?", re.DOTALL)
_STEP: Final = re.compile(r"\.(?P<key>[^.\[]+)|\[(?P<index>\d+)\]")
_UNKNOWN_FIELD: Final = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
# How rules between fields speak where they do not name the field apart.
_OF_FIELD: Final = re.compile(r"(?P<field>[a-z_]+): (?P<sentence>.+)", re.DOTALL)
_MISSING_FIELD: Final = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_CORE: Final = {
    "bool": r"true|false",
    "null": r"null|~|",
    "int": r"[-+]?[0-9]+",
    "float": r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?",
}
"""Plain scalars of YAML 1.2 that are no text; octal and hexadecimal numbers and infinities are text here."""

Settings = TypeVar("Settings", bound=msgspec.Struct)


class _Loader(yaml.SafeLoader):
    """PyYAML reads YAML 1.1: without these rules `1e-7` is text, `010` is 8 and `off` is false."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - PyYAML's own shape

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        whole = node.tag.endswith(":int")
        try:
            number = int(node.value, 10) if whole else float(node.value)
        except ValueError:  # a tag that the text does not fit, or some thousand digits
            number = math.inf
        if not math.isfinite(number):
            raise yaml.constructor.ConstructorError(
                None, None, f"found {found(node.value)}; expected a number of usual size", node.start_mark
            )
        return number


for _name in ("int", "float", "bool", "null"):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_CORE[_name]})$"), None)
for _name in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _Loader.construct_number)
# What is no YAML 1.2 is not to be had by its tag either.
for _name in ("binary", "timestamp", "omap", "pairs", "set"):
    _Loader.yaml_constructors.pop(f"tag:yaml.org,2002:{_name}")


class _Wrong(Exception):
    """`node` is where, or None for the whole file."""

    def __init__(self, line: int, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.line, self.field, self.sentence = line, field, sentence


def shipped_names() -> list[str]:
    """Names of the recipes in the package, sorted."""
    return sorted(path.stem for path in SHIPPED_RECIPES.glob("*.yaml"))


def read_recipe(name_or_file: str) -> Recipe:
    """The recipe of a shipped name, or in a file; every value is valid.

    Raises `RecipeError` with file, line, field, what was found and what was expected.
    """
    shipped = SHIPPED_RECIPES / f"{name_or_file}.yaml"
    path = shipped if name_or_file in shipped_names() else Path(name_or_file)
    if not path.is_file():
        known = ", ".join(shipped_names())
        raise RecipeError(f"no recipe {name_or_file!r}: expected a file, or a shipped name ({known})")
    try:
        return _decode(_read(path))
    except _Wrong as wrong:
        field = f"{wrong.field}: " if wrong.field else ""
        raise RecipeError(f"{path}:{wrong.line}: {field}{wrong.sentence}") from wrong


def section(recipe: Recipe, name: str) -> Any:
    """The settings of a section, in the struct of the step that reads it. The recipe must have the section.

    Template and seed are the recipe's where the section names none.
    """
    kind = _section_type(name)
    own = {field: getattr(recipe, field) for field in _SHARED if field in kind.__struct_fields__}
    return msgspec.convert(own | getattr(recipe, name), kind)


def _section_type(name: str) -> type[msgspec.Struct]:
    module, _, struct = SECTIONS[name].partition(":")
    kind = getattr(importlib.import_module(module), struct)
    assert isinstance(kind, type)
    assert issubclass(kind, msgspec.Struct)
    return kind


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise RecipeError(f"{path}: found a larger file; expected at most {MAX_FILE_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _Wrong(
            content.count(b"\n", 0, error.start) + 1, "", "found other bytes; expected UTF-8"
        ) from error


def _decode(text: str) -> Recipe:
    node, content = _parse(text)
    recipe = _convert(node, content, Recipe, [])
    for name in SECTIONS:
        if getattr(recipe, name) is not None:
            _convert(node, content, _section_type(name), [name])
    if recipe.draws_rows:
        _expect_room(node, recipe)
    return recipe


def _expect_room(node: yaml.Node, recipe: Recipe) -> None:
    """Refuse rows that the data set would keep and the model from scratch has no positions for."""
    data = section(recipe, "data")
    longest, most = data.max_prompt_tokens + data.max_completion_tokens, recipe.model.max_positions
    if longest > most:
        sentence = f"found {data.max_prompt_tokens} with max_completion_tokens {data.max_completion_tokens}"
        path: list[str | int] = ["data", "max_prompt_tokens"]
        raise _Wrong(
            _line(node, path), _text(path), f"{sentence}; expected at most model.max_positions, {most}"
        )


def _parse(text: str) -> tuple[yaml.MappingNode, dict[str, Any]]:
    """The document as nodes and as values; its only one."""
    loader = _Loader("")
    try:
        node = yaml.compose(text, Loader=_Loader)
        if not isinstance(node, yaml.MappingNode):
            raise _Wrong(1, "", "found no fields; expected a recipe: fields such as `name:` and `stages:`")
        _check_keys(node, [], [0])
        content = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        sentence = ", ".join(part for part in (error.problem, error.context) if part)
        raise _Wrong(mark.line + 1 if mark else 1, "", sentence) from error
    except yaml.YAMLError as error:  # a control character: no mark
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        raise _Wrong(line, "", "found a character that YAML does not allow") from error
    except RecursionError as error:
        raise _Wrong(1, "", "found fields nested too deeply") from error
    finally:
        loader.dispose()
    return node, content


def _check_keys(node: yaml.Node, path: list[str | int], count: list[int]) -> None:
    """Refuse keys that are no text or stand twice, of which PyYAML would keep the last."""
    count[0] += 1
    if count[0] > MAX_VALUES:  # aliases of aliases reach billions in a few lines
        raise _Wrong(
            node.start_mark.line + 1, "", f"found more than {MAX_VALUES} values, aliases written out"
        )
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _check_keys(item, [*path, number], count)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise _Wrong(key.start_mark.line + 1, _text(path), "expected a name before the colon")
            if key.value in seen:
                place = _text([*path, key.value])
                raise _Wrong(key.start_mark.line + 1, place, "found twice; expected once")
            seen.add(key.value)
            _check_keys(value, [*path, key.value], count)


def _convert(
    node: yaml.Node, content: dict[str, Any], kind: type[Settings], prefix: list[str | int]
) -> Settings:
    """The struct at `prefix`. Raises `_Wrong`."""
    try:
        return msgspec.convert(at(content, prefix), kind)
    except msgspec.ValidationError as error:
        raise _explain(node, content, kind, prefix, error) from error


def _explain(
    node: yaml.Node,
    content: dict[str, Any],
    kind: type[msgspec.Struct],
    prefix: list[str | int],
    error: msgspec.ValidationError,
) -> _Wrong:
    parts = _VALIDATION.fullmatch(str(error))
    assert parts is not None
    message = parts["message"]
    path: list[str | int] = [
        step["key"] if step["key"] is not None else int(step["index"])
        for step in _STEP.finditer(parts["path"] or "")
    ]
    if strange := _UNKNOWN_FIELD.fullmatch(message):
        sentence = unknown(kind, path, strange["name"])
        whole = [*prefix, *path, strange["name"]]
    elif missing := _MISSING_FIELD.fullmatch(message):
        wanted = expected(kind, [*path, missing["name"]])
        sentence, whole = f"found nothing; expected {wanted}", [*prefix, *path, missing["name"]]
    elif isinstance(error.__cause__, FieldError):
        whole = [*prefix, *path, *error.__cause__.path]
        there = at(content, whole) if _is_there(content, whole) else None
        sentence = f"found {found(there)}; {_small(str(error.__cause__))}"
    elif (rule := _OF_FIELD.fullmatch(message)) and expected(kind, [*path, rule["field"]]):
        whole, sentence = [*prefix, *path, rule["field"]], rule["sentence"]
    else:
        whole = [*prefix, *path]
        # A path through fields with names of the author's ends in `[...]`, which leads nowhere.
        wanted = "" if "[...]" in (parts["path"] or "") else expected(kind, path)
        wanted = f"expected {wanted}" if wanted else _small(message.replace("`", ""))
        sentence = f"found {found(at(content, whole))}; {wanted}"
    return _Wrong(_line(node, whole), _text(whole), sentence)


def _is_there(content: object, path: list[str | int]) -> bool:
    above, last = at(content, path[:-1]), path[-1]
    return last in above if isinstance(above, dict) else isinstance(above, list)


def _line(node: yaml.Node, path: list[str | int]) -> int:
    """The line of the path, or of the nearest field above it."""
    line = node.start_mark.line + 1
    for step in path:
        below: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            key, below = next(((k, v) for k, v in node.value if k.value == step), (None, None))
            line = key.start_mark.line + 1 if key is not None else line
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            below = node.value[step]
            line = below.start_mark.line + 1
        if below is None:
            return line
        node = below
    return line


def _small(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _text(path: list[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
