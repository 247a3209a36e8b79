import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from guard.checkpoint import SHIPPED, open_checkpoint
from guard.errors import TrainingError
from guard.prompt import template_of
from guard.training.data.rows import LabelledRow
from guard.training.grpo import ask_rows, run_grpo, uses_vllm
from guard.training.grpo_settings import GrpoSettings, LoraSettings
from guard.training.resume import SUMMARY, records, states_folder
from guard.training.row_encoding import RowEncoder, training_renderer
from tests.unit.guard.training.labelled_rows import row, twins

MODEL = SHIPPED / "tiny"
ROWS = twins(8)
# Hot enough that the shipped checkpoint, which knows these rows, answers some of them wrongly.
SETTINGS = GrpoSettings(
    rows_per_step=2,
    device_rows=4,
    group=2,
    temperature=1.8,
    top_p=1.0,
    learning_rate=1e-4,
    max_completion_tokens=16,
    fast_share=0.5,
    save_every=2,
    log_every=1,
    threads=1,
    max_steps=5,
    rollouts="transformers",
)


class Stopped(Exception):
    """The run ends here, as if it were killed between two steps."""


def run(folder: Path, settings: GrpoSettings = SETTINGS, *, stop_at: int = 0) -> dict[str, Any]:
    lines: list[str] = []

    def log(line: str) -> None:
        lines.append(line)
        if stop_at and f"step {stop_at} of" in line:
            raise Stopped

    if stop_at:
        with pytest.raises(Stopped):
            run_grpo(settings, MODEL, ROWS, folder, log)
        return {}
    return load_file(run_grpo(settings, MODEL, ROWS, folder, log) / "model.safetensors")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grpo")
    run(folder)
    return folder


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_that_was_cut_off_ends_with_the_weights_of_one_that_was_not(
    finished: Path, tmp_path: Path
) -> None:
    run(tmp_path, stop_at=5)
    # As if it had ended while the newest state was being written.
    (states_folder(tmp_path) / "checkpoint-4" / "complete").unlink()
    again = run(tmp_path)
    assert same(again, load_file(finished / "model" / "model.safetensors"))
    figures = [[{**r, "seconds": 0} for r in records(folder)] for folder in (tmp_path, finished)]
    assert figures[0] == figures[1]


def test_training_moves_the_weights_and_every_step_is_on_record(finished: Path) -> None:
    trained, before = (
        load_file(finished / "model" / "model.safetensors"),
        load_file(MODEL / "model.safetensors"),
    )
    assert not same(trained, before)
    steps = list(records(finished))
    assert [one["step"] for one in steps] == [1, 2, 3, 4, 5]
    wanted = {
        "reward",
        "format",
        "accuracy",
        "flat_groups",
        "entropy",
        "completion_tokens",
        "seconds",
        "groups",
    }
    assert wanted <= steps[0].keys()
    assert any(one["flat_groups"] < 1 for one in steps)
    # The share that TRL reports and the counts are of the same groups.
    for one in steps:
        flat = one["flat_right"] + one["flat_wrong"] + one["flat_mixed"]
        assert flat / one["groups"] == pytest.approx(one["flat_groups"])
        assert 0.1 * one["format"] + 0.9 * one["accuracy"] == pytest.approx(one["reward"], abs=1e-6)


def test_the_summary_counts_rows_answers_and_flat_groups(finished: Path) -> None:
    summary = json.loads((finished / SUMMARY).read_text())
    assert (summary["rows"], summary["pairs"], summary["steps"], summary["answers"]) == (16, 8, 5, 20)
    assert sum(summary["asked"].values()) == 16
    assert summary["groups"] == 10
    assert summary["versions"]["trl"] == "1.16.0"
    assert not states_folder(finished).exists()


def test_what_is_written_is_a_checkpoint_that_serving_opens(finished: Path) -> None:
    checkpoint = open_checkpoint(str(finished / "model"))
    assert checkpoint.template == template_of(MODEL)
    assert (finished / "model" / "tokenizer.json").read_bytes() == (MODEL / "tokenizer.json").read_bytes()
    config = json.loads((finished / "model" / "generation_config.json").read_text())
    assert (config["eos_token_id"], config["pad_token_id"], config["do_sample"]) == (2, 0, False)


def test_a_finished_run_is_left_as_it_is(finished: Path) -> None:
    before = (finished / "model" / "model.safetensors").stat().st_mtime_ns
    run(finished)
    assert (finished / "model" / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(TrainingError, match="holds a run from other settings"):
        run(finished, msgspec.structs.replace(SETTINGS, seed=9))


def test_no_text_stands_in_any_file_of_a_run(tmp_path: Path) -> None:
    secret = "xylophone quarrel"
    rows = [row(n, text=f"{secret} {n}") for n in range(2)]
    lines: list[str] = []
    settings = msgspec.structs.replace(SETTINGS, max_steps=1, save_every=1)
    run_grpo(settings, MODEL, rows, tmp_path, lines.append)
    assert secret not in "\n".join(lines)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()


def test_adapters_are_merged_and_flat_groups_left_out(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(
        SETTINGS, lora=LoraSettings(rank=2, alpha=4), measure_kl=True, flat_groups="leave_out", max_steps=2
    )
    trained, before = run(tmp_path, settings), load_file(MODEL / "model.safetensors")
    assert trained.keys() == before.keys()
    changed = {name for name in before if not torch.equal(trained[name], before[name])}
    assert changed and all("proj.weight" in name for name in changed)
    first, second = records(tmp_path)
    assert first["kl"] == pytest.approx(0.0, abs=1e-6)
    assert second["kl"] >= 0.0


def encoder() -> RowEncoder:
    return RowEncoder(training_renderer(MODEL, template_of(MODEL), 0), 2048, 64)


def test_twins_are_asked_in_one_way_and_the_share_holds() -> None:
    rows = twins(200)
    asked, units = ask_rows(GrpoSettings(fast_share=0.25), rows, encoder())
    assert all(asked[a].way == asked[b].way for a, b in units)
    assert sum(one.way == "fast" for one in asked) / len(asked) == pytest.approx(0.25, abs=0.07)
    assert {one.way for one in ask_rows(GrpoSettings(), rows, encoder())[0]} == {"think"}


def test_a_twin_whose_other_half_does_not_fit_is_left_out() -> None:
    rows: list[LabelledRow] = [
        row(0, twin="row-1"),
        row(1, label="safe", text="word " * 3000, twin="row-0"),
        row(2),
    ]
    one = encoder()
    asked, units = ask_rows(GrpoSettings(), rows, one)
    assert [asked[place].id for unit in units for place in unit] == ["row-2"]
    assert one.left_out == {"prompt_too_long": 1, "twin_left_out": 1}


def test_vllm_is_not_silently_replaced() -> None:
    assert not uses_vllm(GrpoSettings(rollouts="transformers"))
    if not torch.cuda.is_available():
        assert not uses_vllm(GrpoSettings())
        with pytest.raises(TrainingError, match="rollouts: vllm needs a GPU"):
            uses_vllm(GrpoSettings(rollouts="vllm"))
