from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

from guard.training.recipe_words import Path, at, expected, found, unknown


class Inner(msgspec.Struct, tag_field="kind", tag="inner"):
    """One kind of entry."""

    share: Annotated[float, Meta(gt=0, le=1)] = 0.5


class Other(msgspec.Struct, tag_field="kind", tag="other"):
    """Another kind of entry."""

    size: Annotated[int, Meta(ge=2, multiple_of=2)] = 2


class Outer(msgspec.Struct):
    """What a section may look like."""

    entries: Annotated[tuple[Inner | Other, ...], Meta(min_length=1)]
    pair: tuple[int, str] = (1, "")
    word: Literal["a", "b"] = "a"
    maybe: Inner | None = None
    named: dict[str, bool] = {}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (["entries"], "a list of length at least 1"),
        (["entries", 3, "kind"], "one of inner, other"),
        (["entries", 0, "share"], "a number, above 0, at most 1"),
        (["entries", 0, "size"], "a whole number, at least 2, a multiple of 2"),
        (["pair"], "a list of 2"),
        (["pair", 1], "text"),
        (["word"], "one of a, b"),
        (["maybe"], "fields (share) or nothing"),
        (["named", "any"], "true or false"),
        (["nothing"], ""),
        (["pair", 7], ""),
    ],
)
def test_what_was_expected_is_said_of_every_kind_of_field(path: Path, said: str) -> None:
    assert expected(Outer, path) == said


def test_a_field_that_is_none_is_told_from_its_neighbours() -> None:
    assert unknown(Outer, [], "entrys") == "no such field; did you mean entries?"
    assert unknown(Outer, ["maybe"], "xyz") == "no such field; expected one of share"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "nothing"),
        (True, "true"),
        (1e-7, "1e-07"),
        ("a" * 100, repr("a" * 60 + "…")),
        ([1, 2], "a list of 2"),
        ({"a": 1, "b": 2}, "the fields a, b"),
        ({}, "no fields"),
    ],
)
def test_what_was_found_is_short(value: object, said: str) -> None:
    assert found(value) == said


def test_the_nearest_value_above_a_path_is_found() -> None:
    content = {"a": [{"b": 1}]}
    assert at(content, ["a", 0, "b"]) == 1
    assert at(content, ["a", 5]) == [{"b": 1}]
    assert at(content, ["a", 0, "c"]) == {"b": 1}
