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
    make_stage(tmp_path / "warm-start", {"code": "abc"}, progress, lambda line: None, resumes=True)
    account = training_account(read_recipe("smoke"), tmp_path, None)
    assert account["made_in"] == "3 minutes on 2 CPU cores"
    assert account["parameters"] > 1_000_000
    assert account["recipe"]["seed"] == 0
    assert account["stages"]["warm-start"]["code"] == "abc"
    assert set(account["stages"]) == {"warm-start"}
    assert {"torch", "tokenizers", "rsafe-stream"} <= set(account["versions"])
    assert "trl" not in account["versions"]
    assert json.loads(json.dumps(account)) == msgspec.json.decode(msgspec.json.encode(account))


def test_a_step_tells_of_itself_in_its_summary(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        progress(folder)
        (folder / "summary.json").write_text('{"rows": 12}')

    make_stage(tmp_path / "warm-start", {"code": "abc"}, make, lambda line: None, resumes=True)
    recipe = msgspec.structs.replace(read_recipe("smoke"), base="owner/name", stages=(), data={}, grpo={})
    account = training_account(recipe, tmp_path, {"name": "owner/name", "commit": "f00"})
    assert account["stages"]["warm-start"]["summary"] == {"rows": 12}
    assert account["parent"] == {"name": "owner/name", "commit": "f00"}
    assert "trl" in account["versions"]
    assert "parameters" not in account
