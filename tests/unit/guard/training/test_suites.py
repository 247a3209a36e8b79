from __future__ import annotations

import pytest
from msgspec.structs import replace

from guard.prompt import Turn
from guard.training.attacks.corpus import ATTACKS
from guard.training.data.rows import LabelledRow
from guard.training.evaluation_settings import EvaluationSettings
from guard.training.generator.evaluation_sets import evaluation_sets
from guard.training.suites import (
    attacked_id,
    chosen_rows,
    labelled,
    suites_of_attack,
    suites_of_real,
    suites_of_set,
)
from schemas.policy import Category, Policy

SETS = evaluation_sets(30, 2)
POLICY = Policy(id="p", version="1", categories=(Category(code="C1", title="t", definition="d"),))


def real(number: int, source: str = "forum", **changes: object) -> LabelledRow:
    row = LabelledRow(
        id=f"{source}-{number}",
        source=source,
        split="dev",
        group=f"{source}-{number}",
        policy=POLICY,
        turns=(Turn(role="user", text="a"),),
        label="safe",
    )
    return replace(row, **changes)


def test_every_row_of_the_generator_has_an_id_of_its_own_and_a_suite() -> None:
    rows = [labelled(name, number, row) for name, drawn in SETS.items() for number, row in enumerate(drawn)]
    assert len({row.id for row in rows}) == len(rows)
    for name, drawn in SETS.items():
        for row in drawn:
            assert suites_of_set(name, row), name


def test_twins_name_each_other_and_are_one_group() -> None:
    for name in ("pairs", "pairs_both", "custom_themes"):
        on, off = (labelled(f"{name}/{side}", 3, SETS[f"{name}/{side}"][3]) for side in ("on", "off"))
        assert (on.twin, off.twin) == (off.id, on.id)
        assert on.group == off.group
        assert (on.label, off.label) == ("unsafe", "safe")
    other = labelled("custom_themes/other", 3, SETS["custom_themes/other"][3])
    assert other.twin == ""
    assert other.group != on.group


def test_what_is_made_of_one_draw_is_one_group() -> None:
    def group(name: str) -> str:
        return labelled(name, 5, SETS[name][5]).group

    assert group("reworded") == group("in_distribution")
    assert group("attacked") == group("pairs/on")
    assert group("pairs_both/on") != group("pairs/on")


def test_suites_hold_the_side_that_they_ask_about() -> None:
    labels: dict[str, set[str]] = {}
    for name, drawn in SETS.items():
        for row in drawn:
            for suite in suites_of_set(name, row):
                labels.setdefault(suite, set()).add(row.exchange.label)
    for suite, found in labels.items():
        kind = suite.partition("/")[0]
        expected = {"over_refusal": {"safe"}, "attacks": {"unsafe"}}.get(kind, {"safe", "unsafe"})
        assert found == expected, suite
    assert {"synthetic/held_out", "flips/held_out", "custom/all", "over_refusal/near_misses"} <= set(labels)


def test_attacked_rows_are_named_after_attack_and_row() -> None:
    ids = {attacked_id(attack, number) for attack in ATTACKS for number in range(3)}
    assert len(ids) == 3 * len(ATTACKS)
    assert suites_of_attack(ATTACKS[0]) == (f"attacks/{ATTACKS[0].name}", f"attacks/{ATTACKS[0].kind}")


def test_real_rows_are_in_their_source_and_language_when_it_has_rows_enough() -> None:
    rows = [real(n) for n in range(4)] + [real(n, "chat", language="ko") for n in range(2)]
    settings = EvaluationSettings(least_rows_of_language=3)
    suites = suites_of_real(chosen_rows(rows, settings), settings)
    assert suites["forum-0"] == ("real/forum", "real/all", "language/en")
    assert suites["chat-1"] == ("real/chat", "real/all")


def test_safe_rows_of_look_alike_sources_are_a_suite_of_over_refusal() -> None:
    settings = EvaluationSettings(look_alikes=("forum",))
    rows = [real(0), real(1, label="unsafe"), real(0, "chat")]
    suites = suites_of_real(chosen_rows(rows, settings), settings)
    assert [name for name, found in suites.items() if "over_refusal/real" in found] == ["forum-0"]


def test_real_twins_are_flips_when_both_are_judged() -> None:
    settings = EvaluationSettings()
    rows = [real(0, twin="forum-1"), real(1, twin="forum-0", label="unsafe"), real(2, twin="forum-9")]
    suites = suites_of_real(chosen_rows(rows, settings), settings)
    assert [name for name, found in suites.items() if "flips/real" in found] == ["forum-0", "forum-1"]


def test_a_category_is_shown_with_the_safe_rows_of_its_sources() -> None:
    settings = EvaluationSettings(least_rows_of_category=2)
    rows = [
        real(0, label="unsafe", codes=("C1",)),
        real(1, label="unsafe"),
        real(2),
        real(3, "chat", label="unsafe", codes=("C1",)),
        real(4, "shop"),
    ]
    suites = suites_of_real(chosen_rows(rows, settings), settings)
    shown = [name for name, found in suites.items() if "category/p/C1 t" in found]
    assert set(shown) == {"forum-0", "forum-2", "chat-3"}
    other = Policy(id="p", version="2", categories=(Category(code="C1", title="renamed", definition="d"),))
    renamed = [replace(rows[0], policy=other), *rows[1:]]
    again = suites_of_real(chosen_rows(renamed, settings), settings)
    assert not any(name.startswith("category/") for found in again.values() for name in found)


def test_a_sample_is_the_same_each_time_grows_with_its_size_and_keeps_twins() -> None:
    rows = [real(n, twin=f"forum-{n ^ 1}") for n in range(40)]
    few = chosen_rows(rows, EvaluationSettings(most_rows_per_source=9))["forum"]
    again = chosen_rows(rows[::-1], EvaluationSettings(most_rows_per_source=9))["forum"]
    more = chosen_rows(rows, EvaluationSettings(most_rows_per_source=20))["forum"]
    assert few == again
    ids = {row.id for row in few}
    assert ids <= {row.id for row in more}
    assert len(few) == 10
    assert all(row.twin in ids for row in few)
    assert len(chosen_rows(rows, EvaluationSettings())["forum"]) == 40


def test_an_ablation_without_reasoning_asks_in_fast_alone() -> None:
    with pytest.raises(ValueError, match="fast"):
        EvaluationSettings(ablation="without reasoning")
    settings = EvaluationSettings(ablation="without reasoning", modes=("fast",))
    assert not settings.calibrates
    assert EvaluationSettings().calibrates
    assert not EvaluationSettings(ablation="without reinforcement").calibrates
    with pytest.raises(ValueError, match="once"):
        EvaluationSettings(modes=("fast", "fast"))
