"""The door to TRL's supervised trainer: rows are token ids already, in an order that stands."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from datasets.table import InMemoryTable
from torch.utils.data import Sampler

from guard.training.row_encoding import Ids
from guard.training.trainer_parts import KeptStates

with warnings.catch_warnings():
    # TRL names the versions of vLLM that its rollouts were made for; nothing is drawn here.
    warnings.filterwarnings("ignore", message="TRL currently supports vLLM versions")
    # Importing TRL imports compilers of torch that warn of each other.
    warnings.simplefilter("ignore", DeprecationWarning)
    from trl import SFTConfig, SFTTrainer

# What the loss leaves out, in PyTorch and Hugging Face alike.
_NOT_A_TARGET = -100


class _Order(Sampler[int]):
    """Gives the indices as they are."""

    def __init__(self, order: Sequence[int]) -> None:
        self._order = order

    def __iter__(self) -> Any:
        return iter(self._order)

    def __len__(self) -> int:
        return len(self._order)


class AnswerTrainer(KeptStates, SFTTrainer):
    """Teaches answers: the loss is over their ids alone, never over a prompt."""

    def __init__(self, *, run_folder: Path, order: Sequence[int], **arguments: Any) -> None:
        self.run_folder = run_folder
        self._order = order
        super().__init__(**arguments)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return _Order(self._order)


def answers_dataset(prompts: Sequence[Ids], answers: Sequence[Ids]) -> Dataset:
    """Prompt and answer in one sequence, `labels` for the answer's ids alone; same order as given."""
    pairs = list(zip(prompts, answers, strict=True))
    ids = [np.concatenate(pair) for pair in pairs]
    labels = [np.concatenate((np.full_like(prompt, _NOT_A_TARGET), answer)) for prompt, answer in pairs]
    ends = np.cumsum([0, *map(len, ids)])
    # Made as one array each: a list of Python's numbers takes ten times the memory.
    columns = {
        name: pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), pa.array(np.concatenate(values)))
        for name, values in (("input_ids", ids), ("labels", labels))
    }
    return Dataset(InMemoryTable(pa.table(columns)))


def make_trainer(
    model: Any,
    tokenizer: Any,
    arguments: dict[str, Any],
    *,
    prompts: Sequence[Ids],
    answers: Sequence[Ids],
    order: Sequence[int],
    run_folder: Path,
    callback: Any,
) -> AnswerTrainer:
    """The trainer; `order` are indices of `prompts`, batch after batch."""
    config = SFTConfig(
        **arguments,
        max_length=None,  # what is too long was left out before; nothing is cut
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    return AnswerTrainer(
        run_folder=run_folder,
        order=order,
        model=model,
        args=config,
        processing_class=tokenizer,
        train_dataset=answers_dataset(prompts, answers),
        callbacks=[callback],
    )
