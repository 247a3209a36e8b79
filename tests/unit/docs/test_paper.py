"""The page about the paper names modules and fields that are there, with the values of the recipe."""

from __future__ import annotations

from guard.training.recipe import read_recipe, section
from tests.unit.docs.pages import ROOT, Page

PAGE = Page(ROOT / "docs" / "paper.md")
TABLES = PAGE.text.partition("## The method, sentence by sentence")[2].partition("## What is not here")[0]
NAMED = TABLES.split("`")[1::2]


def test_modules_of_the_method_are_where_the_page_says() -> None:
    paths = [name for name in NAMED if name.endswith((".py", ".json"))]
    assert len(paths) > 20
    assert [name for name in paths if not any((ROOT / top / name).is_file() for top in ("guard", "."))] == []


def test_fields_of_the_recipe_have_the_values_of_the_page() -> None:
    recipe = read_recipe("rsafe-7b")
    grpo, data = section(recipe, "grpo"), section(recipe, "data")
    assert recipe.base == "Qwen/Qwen2.5-7B-Instruct"
    assert recipe.warm_start is None
    assert (grpo.rewards.accuracy, grpo.rewards.format) == (0.9, 0.1)
    assert (grpo.rewards.category, grpo.rewards.brevity, grpo.rewards.evidence) == (0.0, 0.0, 0.0)
    assert (grpo.group, grpo.temperature, grpo.top_p, grpo.kl_weight) == (4, 0.7, 0.8, 0.0)
    assert (grpo.learning_rate, grpo.fast_share, grpo.updates_per_generation) == (1e-7, 0.0, 1)
    assert (data.max_prompt_tokens, data.max_completion_tokens) == (2048, 512)
    assert (grpo.max_prompt_tokens, grpo.max_completion_tokens) == (2048, 512)
    assert data.balance
    assert section(read_recipe("lora-1gpu"), "grpo").learning_rate == 1e-6
    fields = {name.partition(":")[0] for name in NAMED if name.startswith("grpo.")}
    assert {name.partition(".")[2] for name in fields} <= set(type(grpo).__struct_fields__)
