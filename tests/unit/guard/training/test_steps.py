from __future__ import annotations

import pytest
from msgspec.structs import replace

from guard.training import steps
from guard.training.recipe import read_recipe
from guard.training.settings import ABLATIONS

SMOKE = read_recipe("smoke")


@pytest.mark.parametrize(("name", "modes"), [("reasoning", ("fast",)), ("reinforcement", ("think", "fast"))])
@pytest.mark.parametrize("evaluation", [None, {"draws": 200}])
def test_each_ablation_has_its_settings(
    name: str, modes: tuple[str, ...], evaluation: dict[str, int] | None
) -> None:
    recipe = replace(SMOKE, evaluation=evaluation)
    settings = steps.evaluation_settings(recipe, ABLATIONS[name])
    assert (settings.ablation, settings.modes) == (ABLATIONS[name], modes)
    assert settings.draws == (200 if evaluation else 1000)
    assert not settings.calibrates


def test_a_recipe_that_says_nothing_of_rows_has_no_settings() -> None:
    assert steps.evaluation_settings(SMOKE) is None
