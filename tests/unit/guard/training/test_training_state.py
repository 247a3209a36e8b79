from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from guard.errors import TrainingError
from guard.training.optimisers import make_optimisers
from guard.training.training_state import Position, load_state, save_state


class Small(torch.nn.Module):
    """A matrix for Muon, and a bias for AdamW."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x)


def step(model: torch.nn.Module, optimisers: list[torch.optim.Optimizer], number: int) -> None:
    model(torch.full((2, 4), float(number))).square().sum().backward()
    for optimiser in optimisers:
        optimiser.step()
    model.zero_grad()


def made() -> tuple[Small, list[torch.optim.Optimizer]]:
    torch.manual_seed(0)
    model = Small()
    return model, make_optimisers(model, 0.1, 0.1)


def test_after_loading_a_step_gives_the_same_weights(tmp_path: Path) -> None:
    model, optimisers = made()
    for number in (1, 2, 3):
        step(model, optimisers, number)
    position = Position(step=3, tokens=9, seconds=1.5, sums={"loss": (0.1, 3.0)})
    save_state(tmp_path / "state", model, optimisers, position)
    other, others = made()
    assert load_state(tmp_path / "state", other, others) == position
    for number in (4, 5):
        step(model, optimisers, number)
        step(other, others, number)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_file_that_is_no_state_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(TrainingError, match="state: no saved state of this stage"):
        load_state(tmp_path / "state", *made())


def test_the_state_of_another_model_is_refused(tmp_path: Path) -> None:
    model, optimisers = made()
    step(model, optimisers, 1)
    save_state(tmp_path / "state", model, optimisers, Position(step=1))
    with pytest.raises(TrainingError, match="no saved state of this stage"):
        load_state(tmp_path / "state", torch.nn.Linear(2, 2), optimisers)
    save_file({"other": torch.zeros(1)}, tmp_path / "state")
    with pytest.raises(TrainingError, match="no saved state of this stage"):
        load_state(tmp_path / "state", *made())
