from typing import Any

import msgspec
import pytest

from guard.checkpoint import open_checkpoint
from guard.training.card import model_card
from guard.training.recipe import read_recipe
from guard.training.settings import Recipe


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """The shipped checkpoint's, as far as its manifest keeps it."""
    manifest = open_checkpoint("tiny").manifest
    assert manifest is not None
    return {
        "modes": manifest.metrics,
        "bars": manifest.gate["bars"],
        "engine": "vllm 1",
        "rows": 500,
        "calibration": {"data": {}, "chosen": {}, "modes": {}},
        "attacks": {},
    }


def over_base(**sections: Any) -> Recipe:
    return msgspec.structs.replace(read_recipe("smoke"), base="owner/name", stages=(), data={}, **sections)


def card_over_base(recipe: Recipe, report: dict[str, Any]) -> str:
    parent = {"name": "owner/name", "commit": "f00d"}
    return model_card(recipe, report, "rsafe train run", {"parent": parent})


def test_a_card_from_scratch_says_so_and_has_figures(report: dict[str, Any]) -> None:
    training = {"parameters": 1_100_000, "concepts": 14, "made_in": "3 minutes"}
    card = model_card(read_recipe("tiny"), report, "rsafe train run", training)
    assert "A guard of 1.10 million parameters" in card
    assert "Seed 0; 3 minutes. Reinforced alignment (GRPO) followed the warm start. Data:" in card
    assert "| in_distribution (n = 500) | 0.984 [0.006] |" in card


def test_a_card_of_a_model_of_labelled_rows_does_not_speak_of_the_generators_text(
    report: dict[str, Any],
) -> None:
    training = {"parameters": 2_700_000, "concepts": 14, "made_in": "45 minutes"}
    card = model_card(read_recipe("real-text"), report, "rsafe train run", training)
    assert "2.70 million parameters, trained from random weights on labelled conversations" in card
    assert "Seed 0; 45 minutes. Recipe" in card
    assert "built-in kinds of harm" not in card


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"warm_start": {}, "grpo": {}}, "a warm start on answers in form, then reinforced alignment (GRPO)"),
        ({"grpo": {}}, "Trained by reinforced alignment (GRPO) on rule rewards."),
        ({}, "Its weights are the base's; nothing was trained."),
    ],
)
def test_a_card_over_a_base_says_what_was_done_to_it(
    report: dict[str, Any], sections: dict[str, Any], said: str
) -> None:
    card = card_over_base(over_base(**sections), report)
    assert said in card
    assert "A guard made from owner/name (commit f00d)" in card
    assert "trained from random weights" not in card


def test_rows_that_people_labelled_have_a_table_with_intervals(report: dict[str, Any]) -> None:
    figures = {
        "f1": {"value": 0.8, "low": 0.75, "high": 0.85},
        "misses": {"value": 0.1, "low": 0.05, "high": 0.2},
        "false_positives": {"value": 0.2, "low": 0.1, "high": 0.3},
    }
    suites = {"fast": {"real/some": {"n": 40, "figures": figures}, "custom/all": {"n": 9, "figures": {}}}}
    card = card_over_base(over_base(grpo={}), report | {"suites": suites})
    assert "| real/some | 40 | 0.800 (0.750–0.850) | 0.100 (0.050–0.200) | 0.200 (0.100–0.300) | – |" in card
    assert "custom/all" not in card
    assert "Rows that people labelled" not in card_over_base(over_base(grpo={}), report)
