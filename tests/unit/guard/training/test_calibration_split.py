from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from guard.prompt import Turn
from guard.training.calibration_split import (
    FIT_ROWS_OF_ASSISTANTS_PER_ROW,
    FIT_ROWS_PER_ROW,
    HELD_OUT_SETS,
    SEED_STEP,
    draw_split,
    in_first_half,
    labelled_data,
    rows_digest,
    without_near_duplicates,
)
from guard.training.generator.conversations import Row
from guard.training.generator.evaluation_sets import evaluation_sets
from guard.training.recipe import read_recipe
from tests.unit.guard.training.labelled_rows import row as labelled_row

SETS = evaluation_sets(30, 7)
SPLIT = draw_split(SETS, 30, 7)


def with_text(row: Row, text: str) -> Row:
    *earlier, last = row.exchange.turns
    return Row(row.policy, replace(row.exchange, turns=(*earlier, Turn(role=last.role, text=text))))


def texts(sets: dict[str, list[Row]]) -> set[str]:
    return {row.exchange.turns[-1].text for rows in sets.values() for row in rows}


def test_the_fit_and_the_measurement_share_no_text() -> None:
    assert texts(SPLIT.fit)
    assert not texts(SPLIT.fit) & texts(SPLIT.held_out)


def test_the_fit_is_of_sets_that_hold_out_what_training_shows() -> None:
    assert tuple(SPLIT.fit) == tuple(SPLIT.held_out) == HELD_OUT_SETS
    assert "in_distribution" not in SPLIT.fit
    assert all(SPLIT.held_out[name] == SETS[name] for name in HELD_OUT_SETS)


def test_rows_are_counted_and_those_left_out_too() -> None:
    kept = sum(map(len, SPLIT.fit.values()))
    assert SPLIT.data.rows == kept
    drawn = round(30 * (FIT_ROWS_PER_ROW + FIT_ROWS_OF_ASSISTANTS_PER_ROW)) * len(HELD_OUT_SETS)
    assert kept + SPLIT.data.near_duplicates == drawn
    assert 0 < SPLIT.data.near_duplicates < kept
    assert SPLIT.data.sha256 == rows_digest(SPLIT.fit)


def test_assistants_have_rows_of_their_own() -> None:
    """A tenth of what the generator draws is theirs, too few for a curve."""
    roles = [row.exchange.turns[-1].role for rows in SPLIT.fit.values() for row in rows]
    assert 0.2 < roles.count("assistant") / len(roles) < 0.35


def test_a_split_is_the_same_every_time_and_another_by_another_seed() -> None:
    assert draw_split(SETS, 30, 7) == SPLIT
    assert draw_split(SETS, 30, 8).data.sha256 != SPLIT.data.sha256


def test_the_seeds_of_the_two_never_meet() -> None:
    """An evaluation takes its seed and the five after it; training takes numbers, not these names."""
    for recipe in map(read_recipe, ("tiny", "smoke")):
        own = range(recipe.evaluation_seed, recipe.evaluation_seed + 6)
        assert not set(own) & set(
            range(recipe.evaluation_seed + SEED_STEP, recipe.evaluation_seed + SEED_STEP + 6)
        )


@pytest.mark.parametrize(
    ("text", "resembles"),
    [
        ("tell me how to bake a cake for my old friend today", True),
        ("TELL me: how to bake a cake, for my old friend today!", True),
        ("tell me how to bake a cake for my old friend tonight", True),
        ("tell me how to bake a pie for my new friend today", False),
        ("where is the station", False),
        ("hi", False),
    ],
)
def test_a_row_that_differs_in_a_word_is_a_near_duplicate(text: str, resembles: bool) -> None:
    row = SETS["both"][0]
    known = with_text(row, "tell me how to bake a cake for my old friend today")
    kept, left_out = without_near_duplicates({"a": [with_text(row, text)]}, {"b": [known]})
    assert (left_out, len(kept["a"])) == ((1, 0) if resembles else (0, 1))


def test_short_texts_are_near_duplicates_when_equal() -> None:
    row = SETS["both"][0]
    found = without_near_duplicates({"a": [with_text(row, "Hi!")]}, {"b": [with_text(row, "hi")]})
    assert found == ({"a": []}, 1)


def test_the_policy_does_not_make_two_texts_different() -> None:
    one, other = (with_text(SETS["both"][number], "one and the same words") for number in (0, 1))
    assert one.policy != other.policy
    assert without_near_duplicates({"a": [one]}, {"b": [other]})[1] == 1


def test_labelled_rows_are_parted_by_their_groups() -> None:
    rows = [labelled_row(number) for number in range(400)]
    rows = [msgspec.structs.replace(row, group=f"g{number // 4}") for number, row in enumerate(rows)]
    halves = {row.group: set[bool]() for row in rows}
    for row in rows:
        halves[row.group].add(in_first_half(row, 7))
    assert all(len(found) == 1 for found in halves.values())
    first = [row for row in rows if in_first_half(row, 7)]
    assert 120 < len(first) < 280
    data = labelled_data({"forum": rows}, 7)
    assert (data.rows, data.near_duplicates) == (len(first), 0)
    assert data.sha256 != labelled_data({"forum": rows}, 8).sha256
