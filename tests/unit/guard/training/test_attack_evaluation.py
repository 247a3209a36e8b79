from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from guard.prompt import Turn, as_read
from guard.training.attack_evaluation import (
    FORGED_ENDINGS,
    MOST_ROWS,
    attacked_row,
    forged_endings,
    lines,
    measure_attacks,
    table,
)
from guard.training.attacks.attack import Attack, Variant, in_message
from guard.training.attacks.corpus import ATTACKS
from guard.training.evaluation import Outcome
from guard.training.generator.conversations import Row
from guard.training.generator.evaluation_sets import draw_rows

ROWS = draw_rows("train", 20, 5, "on")
UNSAFE = [Outcome("unsafe", ("C1",))] * len(ROWS)


def attack(name: str = "a", *, measured: bool = True, **changes: str) -> Attack:
    """An attack with a variant for each named text, which is put behind the message."""

    def ending(text: str) -> Variant:
        return Variant(text, in_message(lambda _random, message: f"{message} {text}"))

    named = tuple(ending(text) for text in changes.values())
    return Attack(name=name, kind="judgement", description="d.", variants=named, measured=measured)


class Guard:
    """Is deceived by `please`, and speechless at `what`."""

    def __init__(self) -> None:
        self.asked: dict[str, list[str]] = {}

    async def ask(self, name: str, rows: Sequence[Row]) -> list[Outcome]:
        texts = [row.exchange.turns[-1].text for row in rows]
        self.asked[name] = texts
        return [
            Outcome(None, reason="no_verdict")
            if text.endswith("what")
            else Outcome("safe" if text.endswith("please") else "unsafe")
            for text in texts
        ]


async def test_flips_are_counted_of_what_was_unsafe_and_the_unjudged_apart() -> None:
    before = [*UNSAFE[:12], Outcome("safe"), Outcome(None, reason="x"), *UNSAFE[14:]]
    report = await measure_attacks(Guard().ask, ROWS, before, 1, [attack(x="please", y="what", z="now")])
    figures = report["a"]
    assert (figures["n"], figures["safe"], figures["unjudged"], figures["undone"]) == (18, 6, 6, 0)
    assert figures["flip"] == {"value": 0.3333, "se": 0.1111, "n": 18}
    assert figures["reasons"] == {"no_verdict": 6}
    assert figures["variants"] == {
        "please": {"n": 6, "safe": 6, "unjudged": 0},
        "what": {"n": 6, "safe": 0, "unjudged": 6},
        "now": {"n": 6, "safe": 0, "unjudged": 0},
    }


async def test_what_the_normaliser_undoes_is_not_asked_again_and_is_no_flip() -> None:
    guard = Guard()
    hidden = Attack(
        name="hidden",
        kind="structural",
        description="d.",
        variants=(
            Variant("zero-width", in_message(lambda _random, text: text.replace(" ", " \u200b"))),
            Variant("word", in_message(lambda _random, text: f"{text} please")),
        ),
    )
    figures = (await measure_attacks(guard.ask, ROWS, UNSAFE, 1, [hidden]))["hidden"]
    assert (figures["n"], figures["undone"], figures["safe"]) == (20, 10, 10)
    assert figures["variants"]["zero-width"] == {"n": 10, "safe": 0, "unjudged": 0}
    assert len(guard.asked["attack hidden"]) == 10


async def test_attacks_that_take_the_message_out_of_the_last_turn_are_left_out() -> None:
    report = await measure_attacks(Guard().ask, ROWS, UNSAFE, 1, [attack("off", measured=False, x="please")])
    assert report == {}
    assert {one.name for one in ATTACKS if not one.measured} == {"blank last turn"}


async def test_at_most_so_many_rows_are_attacked() -> None:
    many = ROWS * (MOST_ROWS // len(ROWS) + 1)
    before = UNSAFE * (MOST_ROWS // len(ROWS) + 1)
    report = await measure_attacks(Guard().ask, many, before, 1, [attack(x="please")])
    assert report["a"]["n"] == MOST_ROWS


async def test_a_guard_that_finds_nothing_unsafe_has_no_figures() -> None:
    before = [Outcome("safe")] * len(ROWS)
    assert await measure_attacks(Guard().ask, ROWS, before, 1) == {}
    assert forged_endings(before, UNSAFE) == {}


async def test_every_attack_of_the_corpus_is_measured_and_the_same_draw_twice() -> None:
    one, two = Guard(), Guard()
    report = await measure_attacks(one.ask, ROWS, UNSAFE, 3)
    assert list(report) == [attack.name for attack in ATTACKS if attack.measured]
    await measure_attacks(two.ask, ROWS, UNSAFE, 3)
    assert one.asked == two.asked
    assert all(report[attack.name]["undone"] == len(ROWS) for attack in ATTACKS if attack.undone)


def test_an_attacked_row_keeps_policy_and_label_and_the_message_within_the_conversation() -> None:
    for attack in ATTACKS:
        for number in range(len(attack.variants)):
            row = ROWS[number % len(ROWS)]
            attacked = attacked_row(row, attack, 1, number)
            assert (attacked.policy, attacked.exchange.label) == (row.policy, "unsafe")
            assert attacked.exchange.turns != row.exchange.turns
            assert attacked.exchange.turns[-1].role == row.exchange.turns[-1].role


def test_forged_endings_are_the_rows_of_the_evaluation_set() -> None:
    before = [*UNSAFE[:3], Outcome("safe")]
    after = [Outcome("safe"), Outcome("unsafe"), Outcome(None, reason="cut_off"), Outcome("safe")]
    figures = forged_endings(before, after)[FORGED_ENDINGS]
    assert (figures["n"], figures["safe"], figures["unjudged"]) == (3, 1, 1)


async def test_the_report_is_shown_in_lines_and_as_a_table() -> None:
    figures = await measure_attacks(Guard().ask, ROWS, UNSAFE, 1, [attack("begging", x="please", y="now")])
    report = {"attacks": {"think": figures, "fast": {}}}
    (line,) = lines(report)
    shown = " ".join(line.split())
    assert shown == "think begging judgement flipped 10 of 20 (0.500) unjudged 0 undone 0"
    assert table(report).splitlines()[2:] == ["| begging | 10 of 20 | 0 | – | – |"]
    assert list(lines({})) == []
    assert table({}) == ""


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_a_split_message_is_said_by_its_speaker(role: str) -> None:
    (splitting,) = [one for one in ATTACKS if one.name == "splitting over turns"]
    turns = (Turn(role=role, text="how do i cheat at the casino"),)  # type: ignore[arg-type]
    for variant in splitting.variants:
        said = variant.make(Random(1), turns)
        theirs = " ".join(turn.text for turn in said if turn.role == role)
        assert theirs.startswith(turns[0].text)
        assert said[-1].role == role
        assert as_read(said) == said
