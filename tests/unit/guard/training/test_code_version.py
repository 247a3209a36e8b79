from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.training import code_version as module
from guard.training import steps
from guard.training.code_version import BEGINNINGS, STEPS, code_of, code_version, plain_code


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("x = 1", "x = 1  # why", True),
        ("x = 1", '"""About."""\n\n\nx = (\n    1\n)', True),
        ("def f():\n    return 1", 'def f():\n    """What."""\n    # how\n    return 1', True),
        ("class A:\n    x: int = 1", 'class A:\n    x: int = 1\n    """Unit."""', True),
        ("def f():\n    pass", 'def f():\n    """Only this."""', True),
        ("x = 1", "x = 2", False),
        ("x = 'a'", "x = 'b'", False),
        ("def f():\n    return 1", "def g():\n    return 1", False),
    ],
)
def test_code_is_told_apart_by_what_it_does(one: str, other: str, same: bool) -> None:
    assert (plain_code(one) == plain_code(other)) is same


@given(st.text(alphabet=st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=40))
def test_no_comment_changes_a_version(comment: str) -> None:
    assert plain_code(f"x = 1  # {comment}") == "x = 1"


def test_a_version_follows_the_modules_that_a_stage_reaches() -> None:
    names = {path.name for path in module._files(BEGINNINGS["warm-start"])}
    assert {"warm_start.py", "optimisers.py", "packing.py", "lexicon.py", "prompt.py", "policy.py"} <= names
    assert not {"cli.py", "settings.py", "errors.py", "evaluation.py", "stages.py"} & names
    with_rows = {path.name for path in module._files(BEGINNINGS["warm-start-with-rows"])}
    assert {"warm_start.py", "export.py", "row_trees.py", "row_deck.py", "rows.py"} <= with_rows
    assert not {"row_trees.py", "rows.py"} & names
    assert "row_words.py" in {path.name for path in module._files(BEGINNINGS["dataset"])}
    assert "texts.jsonl" in {path.name for path in module._files(BEGINNINGS["evaluation"])}


def test_an_evaluation_covers_the_floor_and_the_report_and_a_warm_start_the_export() -> None:
    evaluation, checkpoint = (
        {path.name for path in module._files(BEGINNINGS[stage])} for stage in ("evaluation", "checkpoint")
    )
    assert {"evaluation.py", "floor.py", "report.py", "report_rows.py"} <= evaluation
    assert {"package.py", "account.py"} <= checkpoint
    assert "report_template.html" in evaluation
    assert "export.py" in {path.name for path in module._files(BEGINNINGS["warm-start"])}


def test_the_pages_template_makes_the_pages_anew_and_no_weights() -> None:
    reads = {
        stage
        for stage, names in BEGINNINGS.items()
        if "report_template.html" in {path.name for path in module._files(names)}
    }
    assert reads == {"evaluation", "gate"}
    assert all(path.is_file() for path in module._files(BEGINNINGS["gate"]))


def test_every_stage_has_its_functions_among_the_steps() -> None:
    source = Path(steps.__file__).read_text(encoding="utf-8")
    assert set(STEPS) == set(BEGINNINGS)
    for names in STEPS.values():
        assert all(callable(getattr(steps, name)) for name in names)
    assert "def _rows" in code_of(source, STEPS["grpo"])
    assert "def measure" not in code_of(source, STEPS["grpo"])


def test_a_version_is_the_same_twice_and_another_for_another_stage() -> None:
    assert code_version("dataset") == code_version("dataset")
    assert code_version("dataset") != code_version("warm-start")
