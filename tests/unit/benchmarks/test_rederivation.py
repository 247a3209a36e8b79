from __future__ import annotations

import pytest

from benchmarks.rederivation import Said, agreement

ALONE = [Said("safe", 0.1, [1, 2, 3]), Said("unsafe", 0.9, [4, 5]), Said(None, None, [6])]


def test_the_same_answers_agree_wholly() -> None:
    found = agreement(ALONE, [ALONE, ALONE])
    assert (found["labels"], found["written"], found["tokens"], found["equal_scores"]) == (1, 1, 1, 1)
    assert (found["pairs"], found["scored"], found["score_max"]) == (6, 4, 0)


def test_a_batch_that_differs_is_counted_and_the_worst_one_is_told() -> None:
    other = [Said("safe", 0.2, [1, 2, 9, 9]), Said("safe", 0.4, [4, 5]), Said(None, None, [6])]
    found = agreement(ALONE, [ALONE, other])
    assert found["labels"] == pytest.approx(5 / 6, abs=1e-4)
    assert found["labels_worst"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["written"] == pytest.approx(5 / 6, abs=1e-4)
    # Of two completions the longer one counts, and what they share is what both begin with.
    assert found["tokens"] == pytest.approx((6 + 5) / (6 + 7), abs=1e-4)
    assert found["score_max"] == pytest.approx(0.5)


def test_no_verdict_on_one_side_alone_is_no_agreement() -> None:
    other = [ALONE[0], ALONE[1], Said("safe", 0.3, [6])]
    assert agreement(ALONE, [other])["labels"] == pytest.approx(2 / 3, abs=1e-4)
