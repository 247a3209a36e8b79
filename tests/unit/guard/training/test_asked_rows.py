from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from guard.prompt import Turn
from guard.training import asked_rows
from guard.training.asked_rows import Asked, floor_of, measured_rows_of
from guard.training.calibration_split import draw_split, rows_digest
from guard.training.data.rows import LabelledRow
from guard.training.evaluation import Outcome
from guard.training.evaluation_settings import EvaluationSettings
from guard.training.generator.evaluation_sets import evaluation_sets
from schemas.policy import Category, Policy

POLICY = Policy(id="p", version="1", categories=(Category(code="C1", title="t", definition="d"),))
FAST = EvaluationSettings(ablation="without reasoning", modes=("fast",))


def real(number: int, label: str) -> LabelledRow:
    return LabelledRow(
        id=f"forum-{number}",
        source="forum",
        split="dev",
        group=f"g{number}",
        policy=POLICY,
        turns=(Turn(role="user", text=f"{'poison' if label == 'unsafe' else 'bread'} number {number}"),),
        label="unsafe" if label == "unsafe" else "safe",
    )


ROWS = [real(n, "unsafe" if n % 2 else "safe") for n in range(6)]
TRAINING = [real(100 + n, "unsafe" if n % 2 else "safe") for n in range(12)]


def asked() -> Asked:
    sets = evaluation_sets(2, 3)
    found = Asked(sets, draw_split(sets, 2, 3), {"forum": ROWS})
    found.held_out["fast"] = {
        name: [Outcome(row.exchange.label) for row in rows] for name, rows in sets.items()
    }
    found.real["fast"] = {"forum": [Outcome(None, reason="no_verdict")] * len(ROWS)}
    found.attacked["fast"] = []
    return found


def test_every_row_gets_its_own_answer() -> None:
    rows = {row.id: row for row in measured_rows_of(asked(), FAST, None, {})}
    assert len(rows) == 6 + sum(map(len, asked().sets.values()))
    assert all(rows[row.id].replies["fast"].reason == "no_verdict" for row in ROWS)
    for name, one in rows.items():
        if name.startswith("generator/"):
            assert one.replies["fast"].label == ("unsafe" if one.unsafe else "safe")


def test_the_floor_is_learnt_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replies = floor_of(tmp_path, asked(), TRAINING, 1)
    assert set(replies) == {row.id for row in ROWS}
    assert [replies[row.id].label for row in ROWS] == [row.label for row in ROWS]
    monkeypatch.setattr(asked_rows, "floor_replies", None)
    assert floor_of(tmp_path, asked(), TRAINING, 1) == replies
    with pytest.raises(TypeError):  # other rows to learn from: learnt anew
        floor_of(tmp_path, asked(), TRAINING[:-1], 1)


def test_without_rows_of_both_kinds_there_is_no_floor(tmp_path: Path) -> None:
    assert floor_of(tmp_path, asked(), TRAINING[::2], 1) == {}
    assert floor_of(tmp_path, asked(), (), 1) == {}
    nothing = asked()
    nothing.sources.clear()
    assert floor_of(tmp_path, nothing, TRAINING, 1) == {}


def test_the_digest_of_rows_changes_with_what_is_judged_and_its_label_alone() -> None:
    row = ROWS[0]
    other = policy_with("another definition")
    digest = rows_digest({"a": [row]})
    for changed in (
        replace(row, id="forum-x"),
        replace(row, policy=other),
        replace(row, turns=(Turn(role="assistant", text=row.turns[0].text),)),
        replace(row, label="unsafe"),
    ):
        assert rows_digest({"a": [changed]}) != digest
    assert rows_digest({"b": [row]}) != digest
    assert rows_digest({"a": [replace(row, licence="MIT", policy=policy_with("d"))]}) == digest


def policy_with(definition: str) -> Policy:
    return Policy(id="q", version="2", categories=(Category(code="C1", title="t", definition=definition),))
