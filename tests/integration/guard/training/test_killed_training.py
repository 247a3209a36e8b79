"""`rsafe train run` is killed (SIGKILL) in every stage and at random moments, and started again each time."""

import json
import random
import re
import time
from pathlib import Path
from typing import Any

import pytest

from guard.checkpoint import open_checkpoint
from guard.training.recipe import SHIPPED_RECIPES
from guard.training.stages import record_of
from guard.training.warm_start import PROGRESS, read_progress
from tests.integration.guard.training.training_program import start

pytestmark = pytest.mark.heavy

LONGEST_S = 120.0
STAGES = ("dataset", "warm-start", "evaluation", "checkpoint")
# Lines of the log at which the run is killed, in the order in which they come; some come with the second run.
POINTS = (
    "dataset: started",
    "dataset: done",
    "stage=drills",
    "warm-start: goes on",
    "stage=sentences",
    "warm-start: done",
    "evaluation: started",
    "evaluation: done",
    "checkpoint: started",
)
RANDOM_KILLS = 6


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`smoke`, of three stages, with a smaller model and fewer rows, saved every second step."""
    text = (SHIPPED_RECIPES / "smoke.yaml").read_text(encoding="utf-8")
    for field, value in (
        ("model", "{vocabulary: 2304, width: 32, layers: 1, head_width: 16, hidden: 32}"),
        ("evaluation_rows", "10"),
        ("save_every", "2"),
        ("threads", "1"),
    ):
        text = re.sub(rf"(?m)^{field}: .*$", f"{field}: {value}", text)
    text = text[: text.index("  - name: widen")]
    file = tmp_path_factory.mktemp("recipe") / "small.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def arguments(recipe: Path, output: Path) -> list[str]:
    return ["run", "--recipe", str(recipe), "--output", str(output)]


def run(recipe: Path, output: Path, log: Path, *, kill_at: str = "", kill_after_s: float = LONGEST_S) -> bool:
    """Run until the end, or kill it; True when it came to its end."""
    process = start(arguments(recipe, output), log)
    begun = time.monotonic()
    try:
        while process.is_alive():
            passed = time.monotonic() - begun
            assert passed < LONGEST_S, "the run takes too long"
            seen = kill_at and log.is_file() and kill_at in log.read_text(encoding="utf-8")
            if seen or passed > kill_after_s:
                break
            process.join(0.02)
    finally:
        if process.is_alive():
            process.kill()
        process.join()
    if process.exitcode == 0:
        return True
    assert process.exitcode == -9, log.read_text(encoding="utf-8")
    return False


def assert_stages_are_whole(output: Path) -> None:
    for folder in (output / name for name in STAGES):
        if folder.exists():
            record = record_of(folder)
            assert record is not None
            for name, file in record.files.items():
                assert (folder / name).stat().st_size == file.size, name
    if (output / "checkpoint").exists():
        assert open_checkpoint(str(output / "checkpoint")).verified


def without_time(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in one.items() if name != "seconds"} for one in records]


def result(output: Path) -> dict[str, Any]:
    """Everything that two runs must have in common."""
    checkpoint = open_checkpoint(str(output / "checkpoint"))
    assert checkpoint.verified
    report = json.loads((output / "evaluation" / "report.json").read_text(encoding="utf-8"))
    report.pop("seconds")
    return {
        "weights": checkpoint.weights_digest,
        "report": report,
        "progress": without_time(read_progress(output / "warm-start" / "stages" / PROGRESS)),
        "files": {
            name: sorted(path.name for path in (output / name).iterdir())
            for name in ("dataset", "checkpoint")
        },
    }


@pytest.fixture(scope="module")
def through(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], float]:
    """What a run that nothing disturbs ends with, and its seconds."""
    folder = tmp_path_factory.mktemp("through")
    begun = time.monotonic()
    assert run(recipe, folder / "out", folder / "log")
    return result(folder / "out"), time.monotonic() - begun


@pytest.mark.timeout(600)
def test_a_run_killed_in_every_stage_ends_as_one_that_was_not(
    recipe: Path, tmp_path: Path, through: tuple[dict[str, Any], float]
) -> None:
    output = tmp_path / "out"
    for number, point in enumerate(POINTS):
        log = tmp_path / f"log-{number}"
        ended = run(recipe, output, log, kill_at=point)
        assert point in log.read_text(encoding="utf-8")
        assert_stages_are_whole(output)
        assert not ended or point == POINTS[-1]
    assert run(recipe, output, tmp_path / "log")
    assert result(output) == through[0]
    names = {path.name for path in output.iterdir()}
    assert names == {*STAGES, ".lock"}


@pytest.mark.timeout(600)
def test_a_run_killed_at_random_moments_ends_as_one_that_was_not(
    recipe: Path, tmp_path: Path, through: tuple[dict[str, Any], float]
) -> None:
    output = tmp_path / "out"
    rng = random.Random(8)
    for number in range(RANDOM_KILLS):
        run(recipe, output, tmp_path / f"log-{number}", kill_after_s=rng.uniform(0.3, 0.7) * through[1])
        assert_stages_are_whole(output)
    assert run(recipe, output, tmp_path / "log")
    assert result(output) == through[0]
