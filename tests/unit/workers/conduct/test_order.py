"""Which record comes next, against a reader that skips, repeats and goes back."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from workers.conduct.order import Order


class Tp(tuple[str, int]):
    """Topic and partition, as Faust has them."""

    @property
    def topic(self) -> str:
        return self[0]


A, B, OTHER = Tp(("t", 0)), Tp(("t", 1)), Tp(("u", 0))


class Clock:
    """Told what time it is."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def order(**positions: int) -> tuple[Order, Clock]:
    clock = Clock()
    made = Order(clock)
    made.begin({{"a": A, "b": B}[name]: offset for name, offset in positions.items()})
    return made, clock


def test_the_next_record_is_taken_and_what_was_done_is_skipped() -> None:
    made, _ = order(a=5)
    assert made.judge(A, 5) == "take"
    made.done(A, 5)
    assert made.judge(A, 5) == "skip"
    assert made.judge(A, 6) == "take"


def test_a_record_ahead_sends_the_client_back_once() -> None:
    made, _ = order(a=5)
    assert [made.judge(A, offset) for offset in (7, 8, 9)] == ["go_back", "skip", "skip"]
    assert made.judge(A, 5) == "take"
    made.done(A, 5)
    assert made.judge(A, 6) == "take"


def test_where_the_same_comes_again_nothing_lies_between() -> None:
    made, _ = order(a=5)
    assert [made.judge(A, 7), made.judge(A, 8), made.judge(A, 7)] == ["go_back", "skip", "take"]
    made.done(A, 7)
    assert made.judge(A, 8) == "take"


def test_an_earlier_one_than_was_ahead_is_ahead_itself() -> None:
    made, _ = order(a=5)
    assert [made.judge(A, 9), made.judge(A, 7), made.judge(A, 9)] == ["go_back", "go_back", "skip"]
    assert made.judge(A, 7) == "take"


def test_of_partitions_that_are_elsewhere_nothing_is_taken_or_committed() -> None:
    made, _ = order(a=5)
    assert made.judge(B, 5) == "skip"
    made.done(B, 5)
    made.committed({B: 6})
    made.done(A, 5)
    made.clear()
    assert made.judge(A, 6) == "skip"
    assert made.to_commit() == {} and made.positions() == {} and made.next(A) is None
    assert not made.stalled(A, 100)


def test_what_is_done_is_committed_until_it_is_committed() -> None:
    made, _ = order(a=5, b=0)
    made.done(A, 5)
    assert made.to_commit() == {A: 6}
    made.done(A, 6)
    made.committed({A: 6})
    assert made.to_commit() == {A: 7}
    made.committed({A: 7})
    assert made.to_commit() == {}


def test_a_partition_that_stands_still_before_its_end_is_read_again_ever_more_seldom() -> None:
    made, clock = order(a=5)
    assert not made.stalled(A, 5) and not made.stalled(A, None)
    told = []
    for second in range(1, 600):
        clock.now = 100.0 + second
        if made.stalled(A, 9):
            told.append(second)
    assert told == [2, 6, 14, 30, 62, 126, 246, 366, 486]


def test_a_partition_may_wait_behind_others_of_its_topic() -> None:
    made, clock = order(a=5, b=0)
    told = []
    for second in range(1, 40):
        clock.now = 100.0 + second
        made.done(B, second)
        if made.stalled(A, 9):
            told.append(second)
    assert told == [30]


def test_one_that_was_skipped_ahead_does_not_wait_for_the_others() -> None:
    made, clock = order(a=5, b=0)
    assert made.judge(A, 7) == "go_back"
    clock.now += 2.0
    made.done(B, 0)
    assert made.stalled(A, 9)


def test_progress_begins_the_waiting_anew() -> None:
    made, clock = order(a=5)
    for _ in range(4):
        clock.now += 40.0
        assert made.stalled(A, 9)
    made.done(A, 5)
    clock.now += 1.9
    assert not made.stalled(A, 9)
    clock.now += 0.1
    assert made.stalled(A, 9)


@given(st.data(), st.sets(st.integers(0, 30), min_size=1))
def test_whatever_the_client_loses_every_record_is_done_in_order(
    data: st.DataObject, there: set[int]
) -> None:
    """A topic with gaps. The client loses what it has read, at any moment but not twice in one place: where
    Faust throws away what it read, there is a rebalance, and after it the order begins anew."""
    topic = sorted(there)
    made, clock = order(a=0)
    done: list[int] = []
    read: deque[int] = deque(topic)
    lost_at: set[int] = set()
    for _ in range(3000):
        clock.now += 1.0
        at = made.next(A) or 0
        if read and at not in lost_at and data.draw(st.booleans(), "lost"):
            lost_at.add(at)
            for _ in range(data.draw(st.integers(1, len(read)), "how many")):
                read.popleft()
        elif read:
            offset = read.popleft()
            verdict = made.judge(A, offset)
            if verdict == "take":
                done.append(offset)
                made.done(A, offset)
            elif verdict == "go_back":
                again = [offset for offset in topic if offset >= at]
                if data.draw(st.booleans(), "what was read before is thrown away"):
                    read.clear()
                read.extend(again)
        elif made.stalled(A, 31):
            read.extend(offset for offset in topic if offset >= at)
        elif done and done[-1] == topic[-1]:
            break
    assert done == topic
