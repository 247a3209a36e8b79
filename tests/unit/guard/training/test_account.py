import json
from pathlib import Path

import msgspec

from guard.training.account import training_account, training_seconds
from guard.training.recipe import read_recipe
from guard.training.stages import make_stage
from guard.training.warm_start import PROGRESS


def progress(folder: Path) -> None:
    (folder / "stages").mkdir(exist_ok=True)
    records = [
        {"stage": "drills", "step": 50, "seconds": 30.0},
        {"stage": "drills", "step": 90, "seconds": 60.0},
        {"stage": "polish", "step": 50, "seconds": 120.0},
    ]
    (folder / "stages" / PROGRESS).write_text("".join(json.dumps(one) + "\n" for one in records))


def test_time_is_that_of_the_last_line_of_each_stage(tmp_path: Path) -> None:
    progress(tmp_path)
    assert training_seconds(tmp_path / "stages") == 180.0


def test_an_account_tells_what_a_repetition_needs(tmp_path: Path) -> None:
    versions = {"torch": "2.0"}
    for name in ("warm-start", "grpo"):
        make_stage(
            tmp_path / name, {"code": "abc"}, progress, lambda line: None, resumes=True, versions=versions
        )
    account = training_account(read_recipe("smoke"), tmp_path, None, {"warm-start", "gate"})
    assert account["made_in"] == "3 minutes on 2 CPU cores"
    assert account["parameters"] > 1_000_000
    assert account["recipe"]["seed"] == 0
    assert account["stages"]["warm-start"]["code"] == "abc"
    # Not `grpo`, which lies there from another recipe; versions are those of the making.
    assert set(account["stages"]) == {"warm-start"}
    assert account["stages"]["warm-start"]["versions"] == {"torch": "2.0"}
    assert json.loads(json.dumps(account)) == msgspec.json.decode(msgspec.json.encode(account))


def test_a_step_tells_of_itself_in_its_summary(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        progress(folder)
        (folder / "summary.json").write_text('{"rows": 12}')

    make_stage(tmp_path / "warm-start", {"code": "abc"}, make, lambda line: None, resumes=True)
    recipe = msgspec.structs.replace(read_recipe("smoke"), base="owner/name", stages=(), data={}, grpo={})
    account = training_account(recipe, tmp_path, {"name": "owner/name", "commit": "f00"}, {"warm-start"})
    assert account["stages"]["warm-start"]["summary"] == {"rows": 12}
    assert account["parent"] == {"name": "owner/name", "commit": "f00"}
    assert "parameters" not in account
