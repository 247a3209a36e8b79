import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from guard.checkpoint import SHIPPED, open_checkpoint
from guard.errors import TrainingError
from guard.prompt import template_of
from guard.training.grpo_settings import LoraSettings, SupervisedSettings
from guard.training.resume import SUMMARY, records, states_folder
from guard.training.row_encoding import RowEncoder, training_renderer
from guard.training.supervised import encode_answers, run_supervised
from tests.unit.guard.training.labelled_rows import row, twins

MODEL = SHIPPED / "tiny"
ROWS = [row(n, label="safe" if n % 2 else "unsafe", rationale="an odd word first.") for n in range(8)]
SETTINGS = SupervisedSettings(
    batch_rows=4, device_rows=2, epochs=2, learning_rate=1e-3, save_every=2, log_every=1, threads=1
)


class Stopped(Exception):
    """The run ends here, as if it were killed between two steps."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("supervised")
    run_supervised(SETTINGS, MODEL, ROWS, folder, lambda line: None)
    return folder


def weights(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = load_file(folder / "model" / "model.safetensors")
    return loaded


def test_a_run_that_was_cut_off_ends_with_the_weights_of_one_that_was_not(
    finished: Path, tmp_path: Path
) -> None:
    def stop(line: str) -> None:
        if "step 7 of" in line:
            raise Stopped

    with pytest.raises(Stopped):
        run_supervised(SETTINGS, MODEL, ROWS, tmp_path, stop)
    (states_folder(tmp_path) / "checkpoint-6" / "complete").unlink()
    run_supervised(SETTINGS, MODEL, ROWS, tmp_path, lambda line: None)
    one, other = weights(tmp_path), weights(finished)
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert [record["step"] for record in records(tmp_path)] == list(range(1, 9))


def test_answers_are_learnt_and_every_step_is_on_record(finished: Path) -> None:
    steps = list(records(finished))
    assert [one["step"] for one in steps] == list(range(1, 9))
    assert steps[-1]["loss"] < steps[0]["loss"]
    summary = json.loads((finished / SUMMARY).read_text())
    assert summary["answers"] == {"think": 8, "fast": 8}
    assert summary["steps"] == 8
    assert open_checkpoint(str(finished / "model")).template == template_of(MODEL)


def test_the_loss_is_over_answers_alone() -> None:
    from guard.training.sft_trainer import answers_dataset

    prompts, answers, _ = encode_answers(SETTINGS, ROWS, encoder())
    dataset = answers_dataset(prompts, answers)
    for prompt, answer, one in zip(prompts, answers, dataset, strict=True):
        assert one["input_ids"] == [*prompt, *answer]
        assert one["labels"] == [-100] * len(prompt) + answer.tolist()


def encoder() -> RowEncoder:
    return RowEncoder(training_renderer(MODEL, template_of(MODEL), 0), 512, 64)


def test_rows_without_a_rationale_teach_the_fast_answer_or_a_naming_one() -> None:
    rows = [row(0), row(1, rationale="a reason.")]
    assert encode_answers(SETTINGS, rows, encoder())[2] == {"fast": 2, "think": 1}
    naming = SupervisedSettings(ways=("think",), without_rationale="name_category")
    assert encode_answers(naming, rows, encoder())[2] == {"think": 2}


def test_twins_are_taught_in_the_same_ways() -> None:
    one = encoder()
    on = row(0, twin="row-1", rationale="a reason.")
    off = row(1, label="safe", twin="row-0")
    alone = row(2, rationale="a reason.")
    prompts, answers, taught = encode_answers(SETTINGS, [on, alone, off], one)
    assert taught == {"fast": 3, "think": 1}
    assert len(prompts) == len(answers) == 4
    assert one.left_out == {"twin_left_out": 1}


def test_a_row_whose_twin_fell_out_is_not_taught() -> None:
    one = encoder()
    on = row(0, twin="row-1", rationale="a reason.")
    off = row(1, label="safe", twin="row-0", text="word " * 600, rationale="a reason.")
    other = row(2, twin="row-9", rationale="a reason.")
    assert encode_answers(SETTINGS, [on, off, other], one)[2] == {}
    assert one.left_out == {"prompt_too_long": 2, "twin_left_out": 4}


def test_adapters_are_merged_on_save(tmp_path: Path) -> None:
    settings = SupervisedSettings(
        batch_rows=4, device_rows=4, max_steps=2, learning_rate=1e-2, lora=LoraSettings(rank=2), threads=1
    )
    run_supervised(settings, MODEL, twins(4), tmp_path, lambda line: None)
    before, after = load_file(MODEL / "model.safetensors"), weights(tmp_path)
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert not list((tmp_path / "model").glob("adapter*"))


def test_layers_that_a_model_does_not_have_are_refused(tmp_path: Path) -> None:
    settings = SupervisedSettings(batch_rows=4, device_rows=4, lora=LoraSettings(modules=("no_such",)))
    with pytest.raises(TrainingError, match=r"lora\.modules: the model does not have these layers"):
        run_supervised(settings, MODEL, ROWS, tmp_path, lambda line: None)


def test_rows_that_teach_nothing_are_refused(tmp_path: Path) -> None:
    settings = SupervisedSettings(batch_rows=4, device_rows=4, ways=("think",))
    with pytest.raises(TrainingError, match="none of 1 rows gives an answer to learn"):
        run_supervised(settings, MODEL, [row()], tmp_path, lambda line: None)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "prompt_template.json"):
        (model / name).write_bytes((MODEL / name).read_bytes())
    with pytest.raises(TrainingError, match="cannot be read as a causal language model"):
        run_supervised(SETTINGS, model, ROWS, tmp_path / "run", lambda line: None)
