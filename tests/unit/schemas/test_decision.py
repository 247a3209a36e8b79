"""Which of several decisions about one message counts."""

from __future__ import annotations

from functools import reduce
from itertools import permutations

import msgspec
import pytest

from schemas.decision import Decision, replaces
from schemas.generate import FOLDER

GOOD = (FOLDER / "examples" / "decision" / "v1" / "good_judged.json").read_bytes()


def decision(name: str, **changes: object) -> Decision:
    first = msgspec.json.decode(GOOD, type=Decision)
    return msgspec.structs.replace(first, decision_id=name * 64, supersedes=None, **changes)


def test_the_latest_revision_counts_in_whatever_order_they_are_read() -> None:
    revisions = [
        decision("a", message_revision=None),
        decision("b", message_revision=0),
        decision("c", message_revision=2),
    ]
    for order in permutations(revisions):
        assert reduce(lambda kept, one: one if replaces(one, kept) else kept, order).decision_id == "c" * 64


def test_a_second_delivery_replaces_nothing() -> None:
    one = decision("a", message_revision=1)
    assert not replaces(one, one)


@pytest.mark.parametrize("field", ["tenant", "conversation_id", "message_id"])
def test_another_message_replaces_nothing(field: str) -> None:
    old = decision("a", message_revision=1)
    assert not replaces(msgspec.structs.replace(old, message_revision=2, **{field: "other"}), old)


def test_a_shadow_replaces_nothing_that_is_live() -> None:
    assert not replaces(decision("b", message_revision=2, lane="shadow"), decision("a", message_revision=1))


def test_of_one_revision_the_one_that_names_the_other_counts() -> None:
    old, new = decision("a", message_revision=1), decision("b", message_revision=1)
    assert not replaces(new, old)
    new = msgspec.structs.replace(new, supersedes=old.decision_id)
    assert replaces(new, old)
    assert not replaces(old, new)
