from __future__ import annotations

import msgspec

from guard.serving.fan_out import about, worst_category
from schemas.policy import Category, Policy
from schemas.verdict import Step, Unjudged, Verdict

FIRST, SECOND = (Category(code=code, title=code, definition=code) for code in ("C1", "C2"))
POLICY = Policy(id="p", version="1", categories=(SECOND, FIRST))
ONE, TWO = (msgspec.structs.replace(POLICY, categories=(category,)) for category in (FIRST, SECOND))
STEP = Step(mode="fast", prompt_tokens=9, completion_tokens=1, finish_reason="stop")
SAFE = Verdict(label="safe", score=0.2, mode="fast", steps=(STEP,), answered_in="fast")
UNSAFE = Verdict(label="unsafe", score=0.7, mode="fast", steps=(STEP,), answered_in="fast")
NONE = Unjudged(reason="unparseable", detail="no_verdict", steps=(STEP,))


def test_an_answer_about_a_category_has_its_code_and_its_score() -> None:
    unsafe = about(UNSAFE, ONE)
    assert isinstance(unsafe, Verdict)
    assert (unsafe.codes, unsafe.category_scores) == (("C1",), {"C1": 0.7})
    safe = about(SAFE, TWO)
    assert isinstance(safe, Verdict)
    assert (safe.codes, safe.category_scores) == ((), {"C2": 0.2})
    assert about(NONE, ONE) is NONE


def test_the_whole_is_the_worst_and_every_category_has_its_score() -> None:
    found = worst_category([about(SAFE, ONE), about(UNSAFE, TWO)], POLICY)
    assert isinstance(found, Verdict)
    assert (found.label, found.score, found.codes) == ("unsafe", 0.7, ("C2",))
    assert found.category_scores == {"C1": 0.2, "C2": 0.7}
    assert (found.windows, found.by_window, len(found.steps)) == (1, (), 2)


def test_one_unsafe_is_enough_and_safe_needs_all() -> None:
    found = worst_category([NONE, about(UNSAFE, TWO)], POLICY)
    assert isinstance(found, Verdict)
    assert found.label == "unsafe"
    unjudged = worst_category([about(SAFE, ONE), NONE], POLICY)
    assert isinstance(unjudged, Unjudged)
    assert (unjudged.windows, len(unjudged.steps)) == (1, 2)


def test_one_category_is_itself() -> None:
    only = about(SAFE, ONE)
    assert worst_category([only], ONE) is only
