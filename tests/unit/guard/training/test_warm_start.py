from pathlib import Path

import msgspec
import pytest
import torch

from guard.checkpoint import SHIPPED
from guard.prompt import PromptRenderer, template_of
from guard.training.model import TinyGuard
from guard.training.optimisers import Muon
from guard.training.recipe import read_recipe
from guard.training.settings import ModelSettings, Recipe
from guard.training.warm_start import BatchSource, run_stage, warm_start

SMOKE = read_recipe("smoke")
FOLDER = SHIPPED / "tiny"
PINNED = [7.71362, 7.6339, 7.60242, 7.52637, 7.53911, 7.51602]
"""Last loss of each stage."""


@pytest.fixture(scope="module")
def renderer() -> PromptRenderer:
    return PromptRenderer(FOLDER, template_of(FOLDER), b"x")


def losses(renderer: PromptRenderer, recipe: Recipe) -> list[float]:
    torch.manual_seed(recipe.seed)
    model = TinyGuard(recipe.model)
    source = BatchSource(renderer)
    return [list(run_stage(model, source, stage))[-1]["loss"] for stage in recipe.stages]


def test_a_tiny_trajectory_stays_as_it_is(renderer: PromptRenderer) -> None:
    # Changes with data, tokenizer, model or optimiser: the shipped command then makes another checkpoint.
    small = msgspec.structs.replace(SMOKE, model=ModelSettings(width=32, layers=2, head_width=16, hidden=48))
    assert losses(renderer, small) == pytest.approx(PINNED, rel=1e-3)


def test_stages_resume_where_they_stopped(renderer: PromptRenderer, tmp_path: Path) -> None:
    small = msgspec.structs.replace(
        SMOKE,
        model=ModelSettings(width=32, layers=1, head_width=16, hidden=32),
        threads=torch.get_num_threads(),
    )
    lines: list[str] = []
    first = warm_start(small, renderer, tmp_path, lines.append)
    (tmp_path / f"{small.stages[-1].name}.safetensors").unlink()
    again = warm_start(small, renderer, tmp_path, lines.append)
    assert sum("already there" in line for line in lines) == len(small.stages) - 1
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_muon_moves_along_an_orthogonal_matrix() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(6, 4))
    weight.grad = torch.randn(6, 4)
    Muon([weight], lr=1.0, weight_decay=0.0).step()
    singular = torch.linalg.svdvals(weight.detach()) / (6 / 4) ** 0.5
    assert bool(((singular > 0.6) & (singular < 1.3)).all())
