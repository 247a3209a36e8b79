import json
from pathlib import Path

import pytest

from guard.checkpoint import SHIPPED
from guard.errors import TrainingError
from guard.training.grpo_settings import GrpoSettings
from guard.training.resume import (
    PROGRESS,
    add_record,
    clear_states,
    complete_state,
    last_state,
    open_run,
    records,
    run_identity,
    states_folder,
    take_back,
)
from tests.unit.guard.training.labelled_rows import row

MODEL = SHIPPED / "tiny"


def state(folder: Path, step: int, *, whole: bool) -> Path:
    path = states_folder(folder) / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"x")
    if whole:
        complete_state(folder, step)
    return path


def test_the_newest_whole_state_counts_and_half_written_ones_are_removed(tmp_path: Path) -> None:
    state(tmp_path, 5, whole=True)
    newest = state(tmp_path, 10, whole=True)
    half = state(tmp_path, 15, whole=False)
    assert last_state(tmp_path) == (newest, 10)
    assert not half.exists()


def test_without_a_whole_state_a_run_begins_anew(tmp_path: Path) -> None:
    state(tmp_path, 5, whole=False)
    assert last_state(tmp_path) == (None, 0)
    assert last_state(tmp_path / "nothing") == (None, 0)


def test_lines_behind_the_state_and_half_a_line_are_taken_back(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        add_record(tmp_path, {"step": step})
    with (tmp_path / PROGRESS).open("a") as file:
        file.write('{"step": 4, "lo')
    take_back(tmp_path, 2)
    assert [record["step"] for record in records(tmp_path)] == [1, 2]
    add_record(tmp_path, {"step": 3})
    assert [record["step"] for record in records(tmp_path)] == [1, 2, 3]
    take_back(tmp_path, 0)
    assert list(records(tmp_path)) == []


def test_another_run_does_not_go_on_in_a_folder(tmp_path: Path) -> None:
    rows = [row(0), row(1, label="safe")]
    first = run_identity("grpo", GrpoSettings(), MODEL, rows)
    open_run(tmp_path, first)
    open_run(tmp_path, first)
    for other in (
        run_identity("grpo", GrpoSettings(seed=1), MODEL, rows),
        run_identity("grpo", GrpoSettings(), MODEL, rows[::-1]),
        run_identity("grpo", GrpoSettings(), MODEL, [row(0, text="another"), rows[1]]),
        run_identity("supervised", GrpoSettings(), MODEL, rows),
    ):
        with pytest.raises(TrainingError, match="holds a run from other settings, weights or rows"):
            open_run(tmp_path, other)


def test_other_weights_are_another_run(tmp_path: Path) -> None:
    for name, content in (("one", b"a"), ("two", b"b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(content)
    one, two = (run_identity("grpo", GrpoSettings(), tmp_path / name, []) for name in ("one", "two"))
    assert one != two


def test_a_run_record_says_nothing_of_texts(tmp_path: Path) -> None:
    open_run(tmp_path, run_identity("grpo", GrpoSettings(), MODEL, [row(text="a private sentence")]))
    (path,) = tmp_path.iterdir()
    assert list(json.loads(path.read_text())) == ["identity"]


def test_a_finished_run_keeps_no_states(tmp_path: Path) -> None:
    state(tmp_path, 5, whole=True)
    clear_states(tmp_path)
    assert list(tmp_path.iterdir()) == []
