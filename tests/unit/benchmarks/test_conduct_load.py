from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from benchmarks.conduct_load import POLICY, STRIDE, alone, decisions
from schemas.decision import Decision
from workers.conduct.entries import Subject
from workers.conduct.state import decode_state

AUTHORS = 12


def read(share: float, seed: int = 1) -> list[Decision]:
    made = decisions(36, authors=AUTHORS, share=share, seed=seed)
    return [msgspec.json.decode(value, type=Decision) for _, value in made]


def test_every_author_has_as_many_decisions_and_all_are_of_the_policy() -> None:
    made = read(1.0)
    assert set(Counter(one.author for one in made).values()) == {3}
    assert {(one.policy.id, one.action) for one in made} == {(POLICY.id, "block")}
    assert len({one.decision_id for one in made}) == len(made)


def test_the_decisions_are_the_same_every_time_and_others_with_another_seed() -> None:
    assert read(0.5) == read(0.5)
    assert {one.decision_id for one in read(0.5)}.isdisjoint(one.decision_id for one in read(0.5, seed=2))


def test_a_number_of_authors_that_would_leave_some_out_is_refused() -> None:
    with pytest.raises(ValueError, match="authors"):
        next(decisions(1, authors=2 * STRIDE, share=1.0))


def test_what_has_weight_changes_author_conversation_message_and_the_decisions_own_state() -> None:
    found = alone(list(decisions(36, authors=AUTHORS, share=1.0)))
    assert found.writes == 4 * 36
    author = decode_state(found.states[Subject("author", "acme", "author-0").key])
    assert len(author.strikes) == 3


def test_what_has_no_weight_changes_nothing() -> None:
    found = alone(list(decisions(36, authors=AUTHORS, share=0.0)))
    assert (found.writes, found.states, found.escalations) == (0, {}, 0)
