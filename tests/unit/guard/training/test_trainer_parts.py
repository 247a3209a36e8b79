from pathlib import Path
from typing import get_args

import pytest
import torch
from transformers import get_scheduler

from guard.training.grpo_settings import Schedule, SupervisedSettings
from guard.training.trainer_parts import common_arguments

STEPS = 10


def rates(settings: SupervisedSettings) -> list[float]:
    """The learning rate at each step, as Hugging Face's trainer makes it of the arguments."""
    arguments = common_arguments(settings, Path("run"), sequences=settings.batch_rows, steps=STEPS)
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=arguments["learning_rate"])
    schedule = get_scheduler(arguments["lr_scheduler_type"], optimiser, arguments["warmup_steps"], STEPS)
    found = []
    for _ in range(STEPS):
        found.append(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()
    return found


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_the_learning_rate_rises_over_the_warm_up(schedule: Schedule) -> None:
    found = rates(SupervisedSettings(learning_rate=1e-2, warm_up=0.4, schedule=schedule))
    assert found[:5] == pytest.approx([0.0, 0.0025, 0.005, 0.0075, 0.01])
    assert (found[-1] < 0.005) == (schedule != "constant")


def test_without_a_warm_up_the_rate_is_whole_at_once() -> None:
    assert rates(SupervisedSettings(learning_rate=1e-2)) == [1e-2] * STEPS
