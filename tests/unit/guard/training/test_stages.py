import contextlib
import itertools
import os
from pathlib import Path

import pytest

from guard.errors import TrainingError
from guard.training.stages import RECORD, make_stage, record_of, sole_run
from tests.unit.guard.training.dying import dies_before


def quiet(line: str) -> None:
    pass


def write_two(place: Path) -> None:
    """A folder of files, some of which a run that was killed may have left."""
    (place / "below").mkdir(exist_ok=True)
    (place / "below" / "first").write_text("1")
    (place / "second").write_text("22")


def make(folder: Path, inputs: int, *, resumes: bool = False) -> bool:
    return make_stage(folder, {"a": inputs}, write_two, quiet, resumes=resumes)


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != RECORD
    }


WHOLE = {"below/first": "1", "second": "22"}


def test_a_stage_is_made_once_for_the_same_inputs(tmp_path: Path) -> None:
    folder = tmp_path / "stage"
    assert make(folder, 1)
    assert not make(folder, 1)
    assert make(folder, 2)
    assert contents(folder) == WHOLE
    assert [path.name for path in tmp_path.iterdir()] == ["stage"]


def test_inputs_are_compared_as_values_and_not_by_their_order(tmp_path: Path) -> None:
    folder = tmp_path / "stage"
    assert make_stage(folder, {"a": 1, "b": [1.0]}, write_two, quiet, resumes=False)
    assert not make_stage(folder, {"b": [1.0], "a": 1}, write_two, quiet, resumes=False)


def test_a_record_names_inputs_and_every_file(tmp_path: Path) -> None:
    make(tmp_path / "stage", 1)
    record = record_of(tmp_path / "stage")
    assert record is not None
    assert record.inputs == {"a": 1}
    assert {name: file.size for name, file in record.files.items()} == {"below/first": 1, "second": 2}
    assert len({record.digest(), record.digest("below/"), record.digest("none/")}) == 3
    make(tmp_path / "other", 2)
    other = record_of(tmp_path / "other")
    assert other is not None
    assert other.digest() == record.digest()


@pytest.mark.parametrize("change", ["gone", "longer"])
def test_a_stage_that_was_damaged_is_made_anew(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "stage"
    make(folder, 1)
    if change == "gone":
        (folder / "second").unlink()
    else:
        (folder / "second").write_text("222")
    assert make(folder, 1)
    assert contents(folder) == WHOLE


def test_a_folder_that_no_stage_made_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "stage"
    folder.mkdir()
    (folder / "mine").write_text("dear")
    with pytest.raises(TrainingError, match=r"found a folder without \.stage\.json; expected none"):
        make(folder, 1)
    assert contents(folder) == {"mine": "dear"}


def test_a_record_that_is_none_is_an_error_that_names_it(tmp_path: Path) -> None:
    make(tmp_path / "stage", 1)
    (tmp_path / "stage" / RECORD).write_text("{")
    with pytest.raises(TrainingError, match=r"stage/\.stage\.json: no record of a stage"):
        make(tmp_path / "stage", 1)


@pytest.mark.parametrize("resumes", [True, False])
def test_a_failed_stage_leaves_nothing_in_its_place(tmp_path: Path, resumes: bool) -> None:
    folder, found = tmp_path / "stage", []

    def fail(place: Path) -> None:
        (place / "half").write_text("x")
        raise RuntimeError("out of luck")

    def look(place: Path) -> None:
        found.append((place / "half").exists())

    with pytest.raises(RuntimeError):
        make_stage(folder, {}, fail, quiet, resumes=resumes)
    assert not folder.exists()
    assert make_stage(folder, {}, look, quiet, resumes=resumes)
    assert found == [resumes]


def test_what_was_left_from_other_inputs_is_thrown_away(tmp_path: Path) -> None:
    def fail(place: Path) -> None:
        (place / "half").write_text("x")
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError):
        make_stage(tmp_path / "stage", {"a": 1}, fail, quiet, resumes=True)
    make(tmp_path / "stage", 2, resumes=True)
    assert contents(tmp_path / "stage") == WHOLE


def write_on(place: Path) -> None:
    """As a training run that goes on: every part is made once, and says how many were there before."""
    parts = [place / name for name in ("one", "two", "three")]
    for part in parts:
        if not part.exists():
            before = sum(other.exists() for other in parts)
            (place / "part.writing").write_text(str(before))
            os.replace(place / "part.writing", part)  # noqa: PTH105 - what dies is the function of `os`


def work(folder: Path, inputs: int, resumes: bool) -> None:
    make_stage(folder, {"a": inputs}, write_on if resumes else write_two, quiet, resumes=resumes)


@pytest.mark.parametrize("resumes", [True, False])
@pytest.mark.parametrize("replaces", [True, False])
def test_a_stage_killed_before_any_change_of_the_disk_is_whole_afterwards(
    tmp_path: Path, resumes: bool, replaces: bool
) -> None:
    whole = {"one": "0", "two": "1", "three": "2"} if resumes else WHOLE
    for change in itertools.count(1):
        folder = tmp_path / str(change) / "stage"
        folder.parent.mkdir()
        if replaces:
            make(folder, 1)
        died = dies_before(change, work, folder, 2, resumes)
        if folder.exists():  # old or new, and whole
            record = record_of(folder)
            assert record is not None
            assert contents(folder) == (WHOLE if record.inputs == {"a": 1} else whole)
        else:
            assert died
        work(folder, 2, resumes)
        assert contents(folder) == whole
        assert [path.name for path in folder.parent.iterdir()] == ["stage"]
        if not died:
            break
    assert change > 10  # so many places were tried


def test_a_training_run_that_is_killed_while_it_is_recorded_is_not_made_anew(tmp_path: Path) -> None:
    made: list[Path] = []
    for change in itertools.count(1):
        folder = tmp_path / str(change) / "stage"
        folder.parent.mkdir()
        if not dies_before(change, work, folder, 2, True):
            break
        partial = folder.with_name("stage.partial")
        if (partial / "three").exists():  # the work was done
            (partial / "three").chmod(0o400)
            make_stage(folder, {"a": 2}, lambda place: made.append(place / "three"), quiet, resumes=True)
            assert (folder / "three").stat().st_mode & 0o777 == 0o400  # that very file
    assert change > 10


def leave(folder: Path, inputs: int) -> None:
    """What a run leaves that fails after two parts of three."""

    def fail(place: Path) -> None:
        for name in ("one", "two"):
            (place / name).write_text(str(inputs))
        raise RuntimeError("out of luck")

    with contextlib.suppress(RuntimeError):
        make_stage(folder, {"a": inputs}, fail, quiet, resumes=True)


def test_half_of_what_was_left_is_never_gone_on_with(tmp_path: Path) -> None:
    for change in itertools.count(1):
        folder = tmp_path / str(change) / "stage"
        folder.parent.mkdir()
        leave(folder, 1)
        # Inputs that changed throw it away; the process dies meanwhile, and the inputs change back.
        died = dies_before(change, work, folder, 2, True)
        found: list[set[str]] = []

        def look(place: Path, found: list[set[str]] = found) -> None:
            found.append({name for name in ("one", "two") if (place / name).exists()})

        make_stage(folder, {"a": 1}, look, quiet, resumes=True)
        assert found[0] in (set(), {"one", "two"})
        if not died:
            break
    assert change > 10


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    with (
        sole_run(tmp_path / "out"),
        pytest.raises(TrainingError, match="another training run works in this folder"),
        sole_run(tmp_path / "out"),
    ):
        pass
    with sole_run(tmp_path / "out"):
        pass
