from __future__ import annotations

import pytest
from msgspec.structs import replace

from guard.prompt import Turn
from guard.training.data.rows import LabelledRow
from guard.training.floor import CannotLearn, floor_replies
from schemas.policy import Category, Policy

POLICY = Policy(id="p", version="1", categories=(Category(code="C1", title="t", definition="d"),))
BAD = ("buy the poison", "sell poison today", "poison for you", "he wants poison now")
GOOD = ("buy the bread", "sell bread today", "bread for you", "he wants bread now")


def row(name: str, text: str, label: str, earlier: str = "") -> LabelledRow:
    said = [earlier, text] if earlier else [text]
    return LabelledRow(
        id=name,
        source="s",
        split="train",
        group=name,
        policy=POLICY,
        turns=tuple(Turn(role="user", text=one) for one in said),
        label="unsafe" if label == "unsafe" else "safe",
    )


TRAINING = [row(f"b{n}", text, "unsafe") for n, text in enumerate(BAD)] + [
    row(f"g{n}", text, "safe") for n, text in enumerate(GOOD)
]


def test_it_tells_the_words_of_one_kind_from_the_other() -> None:
    replies = floor_replies(TRAINING, [row("x", "more poison", "unsafe"), row("y", "more bread", "safe")])
    assert (replies["x"].label, replies["y"].label) == ("unsafe", "safe")
    scores = [replies[name].score for name in ("x", "y")]
    assert scores[0] is not None
    assert scores[1] is not None
    assert scores[0] > 0.5 > scores[1]


def test_it_reads_texts_as_a_guard_does_and_the_turn_before() -> None:
    hidden = row("x", "more p\u200boison", "unsafe")
    told = row("y", "why not", "unsafe", earlier="poison poison")
    plain = row("z", "why not", "safe")
    replies = floor_replies(TRAINING, [hidden, row("w", "more poison", "unsafe"), told, plain])
    assert replies["x"] == replies["w"]
    assert (replies["y"].score or 0.0) > (replies["z"].score or 0.0)


def test_texts_under_both_labels_teach_nothing() -> None:
    twins = [row("t1", "bread and poison", "safe"), row("t2", "bread and poison", "unsafe")]
    asked = [row("x", "bread and poison", "safe")]
    assert floor_replies(TRAINING + twins, asked) == floor_replies(TRAINING, asked)


def test_a_row_stays_when_twins_were_made_of_it() -> None:
    original = row("t1", "bread and poison", "unsafe")
    made = [row("t1~off", "bread and poison", "safe"), row("t1~renamed", "bread and poison", "unsafe")]
    asked = [row("x", "bread and poison", "safe")]
    assert floor_replies([*TRAINING, original, *made], asked) == floor_replies([*TRAINING, original], asked)
    # A made row whose text has one label is kept.
    assert floor_replies([*TRAINING, original, made[1]], asked) != floor_replies([*TRAINING, original], asked)


def test_rows_of_one_kind_are_refused_and_no_rows_have_no_replies() -> None:
    with pytest.raises(CannotLearn):
        floor_replies([replace(one, label="safe") for one in TRAINING], [])
    with pytest.raises(CannotLearn):
        floor_replies([], [])
    assert floor_replies(TRAINING, []) == {}
