from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from guard.checkpoint import SHIPPED
from guard.prompt import PromptRenderer, template_of
from guard.training import warm_start as module
from guard.training.model import TinyGuard
from guard.training.optimisers import Muon
from guard.training.recipe import read_recipe
from guard.training.row_trees import RowTrees
from guard.training.settings import BatchSettings, ModelSettings, Phase, Recipe, Stage
from guard.training.warm_start import PROGRESS, BatchSource, read_progress, run_stage, warm_start
from tests.unit.guard.training.labelled_rows import row, twins

SMOKE = read_recipe("smoke")
FOLDER = SHIPPED / "tiny"
PINNED = [7.781, 7.7143, 7.6408, 7.56449, 7.53606, 7.53195]
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
    small = msgspec.structs.replace(
        SMOKE, model=ModelSettings(vocabulary=2304, width=32, layers=2, head_width=16, hidden=48)
    )
    assert losses(renderer, small) == pytest.approx(PINNED, rel=1e-3)


SMALL = msgspec.structs.replace(
    SMOKE,
    model=ModelSettings(vocabulary=2304, width=32, layers=1, head_width=16, hidden=32),
    stages=SMOKE.stages[1:3],
    save_every=2,
    threads=1,
)


class CutOff(Exception):
    """Stands for whatever ends a process between two steps."""


def run_until(
    renderer: PromptRenderer, folder: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> TinyGuard | None:
    """The model, or None after so many steps of this run."""
    left = steps
    step_of_training = module._step

    def counted(*arguments: Any) -> int:
        nonlocal left
        if not left:
            raise CutOff
        left -= 1
        return step_of_training(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(module, "_step", counted)
        try:
            return warm_start(SMALL, renderer, folder, lambda line: None)
        except CutOff:
            return None


def without_time(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in one.items() if name != "seconds"} for one in records]


def test_a_run_that_is_cut_off_ends_with_the_same_weights(
    renderer: PromptRenderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOG_EVERY", 2)
    through = warm_start(SMALL, renderer, tmp_path / "through", lambda line: None)
    cut = None
    for _ in range(20):  # three steps a run, of which it keeps two
        cut = run_until(renderer, tmp_path / "cut", monkeypatch, 3)
        if cut is not None:
            break
    assert cut is not None
    for (name, one), other in zip(through.state_dict().items(), cut.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    records = [read_progress(tmp_path / place / PROGRESS) for place in ("through", "cut")]
    assert without_time(records[0]) == without_time(records[1])
    assert [record["step"] for record in records[0]] == [2, 4, 6, 2, 4, 6]
    names = sorted(path.name for path in (tmp_path / "cut").iterdir())
    assert names == ["policies.safetensors", "progress.jsonl", "sentences.safetensors"]


OF_ROWS = BatchSettings(task="rows", policies=3, exchanges=4)
ROWS_STAGE = Stage(name="rows", seed=3, phases=(Phase(steps=15, batch=OF_ROWS),), warm_up_steps=1)


def trained_on_rows(
    renderer: PromptRenderer, folder: Path, *limits: int | None
) -> tuple[TinyGuard, list[float]]:
    """The model after runs of so many steps, each in a process of its own; losses of the last one."""
    folder.mkdir()
    for limit in limits:
        torch.manual_seed(0)
        model = TinyGuard(SMALL.model)
        source = BatchSource(renderer, RowTrees(renderer, [*twins(8), row(1), row(2, "safe")], 2048))
        found = [
            record["loss"]
            for record in run_stage(model, source, ROWS_STAGE, folder, save_every=2, max_steps=limit)
        ]
    return model, found


def test_labelled_rows_are_learnt_and_a_run_that_is_cut_off_ends_with_the_same_weights(
    renderer: PromptRenderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOG_EVERY", 1)
    through, losses = trained_on_rows(renderer, tmp_path / "through", None)
    assert losses[-1] < 0.8 * losses[0]
    cut, rest = trained_on_rows(renderer, tmp_path / "cut", 5, 9, None)
    for (name, one), other in zip(through.state_dict().items(), cut.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert rest == losses[8:]


def test_a_batch_of_rows_without_rows_is_refused(renderer: PromptRenderer) -> None:
    with pytest.raises(ValueError, match="there are no labelled rows to draw from"):
        BatchSource(renderer).draw(1, 1, OF_ROWS)


def test_a_line_of_the_log_that_was_cut_off_is_no_record(tmp_path: Path) -> None:
    (tmp_path / PROGRESS).write_text('{"stage": "a", "step": 50}\n{"stage": "a", "st')
    assert read_progress(tmp_path / PROGRESS) == [{"stage": "a", "step": 50}]
    assert read_progress(tmp_path / "none") == []


def test_muon_moves_along_an_orthogonal_matrix() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(6, 4))
    weight.grad = torch.randn(6, 4)
    Muon([weight], lr=1.0, weight_decay=0.0).step()
    singular = torch.linalg.svdvals(weight.detach()) / (6 / 4) ** 0.5
    assert bool(((singular > 0.6) & (singular < 1.3)).all())
