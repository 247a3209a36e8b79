from __future__ import annotations

from msgspec.structs import replace

from guard.prompt import Turn
from guard.training.asked_rows import Asked, measured_rows_of
from guard.training.calibration_split import draw_split, rows_digest
from guard.training.data.rows import LabelledRow
from guard.training.evaluation import Outcome
from guard.training.evaluation_settings import EvaluationSettings
from guard.training.generator.evaluation_sets import evaluation_sets
from guard.training.measured_rows import Reply
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


def test_the_floor_speaks_beside_the_modes_where_it_said_something() -> None:
    floor = {ROWS[0].id: Reply(label="safe", score=0.25)}
    rows = {row.id: row for row in measured_rows_of(asked(), FAST, None, floor)}
    assert rows[ROWS[0].id].replies["floor"] == Reply(label="safe", score=0.25)
    assert [name for name, row in rows.items() if "floor" in row.replies] == [ROWS[0].id]


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
