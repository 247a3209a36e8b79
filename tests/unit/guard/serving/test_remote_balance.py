from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from guard.serving.remote_balance import Place, choose, wait_s


def place(**values: object) -> Place:
    made = Place(3, 1.0)
    made.admit()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def test_the_fewest_outstanding_tokens_win_and_then_the_fewest_calls() -> None:
    heavy, light, many = place(tokens=50, calls=1), place(tokens=10, calls=1), place(tokens=10, calls=4)
    assert choose([heavy, many, light], 0.0) is light
    assert choose([heavy, many], 0.0) is many


def test_a_server_that_failed_the_call_comes_last_and_not_never() -> None:
    failed, other = place(), place(tokens=1000)
    assert choose([failed, other], 0.0, [failed]) is other
    assert choose([failed], 0.0, [failed]) is failed


def test_a_busy_server_is_left_alone_until_its_time() -> None:
    busy = place(busy_until_s=5.0)
    assert choose([busy], 4.0) is None
    assert wait_s([busy], 4.0) == 1.0
    assert choose([busy], 5.0) is busy
    busy.eject("down")
    assert wait_s([busy], 4.0) is None


def test_failures_in_a_row_count_and_an_answer_ends_the_row() -> None:
    one = place()
    assert [one.failed(), one.failed()] == [False, False]
    one.answered()
    assert [one.failed(), one.failed(), one.failed()] == [False, False, True]


def test_pauses_double_up_to_a_bound_and_begin_anew_after_a_steady_time() -> None:
    one = place()
    assert [one.pause_s() for _ in range(6)] == [1, 2, 4, 8, 16, 16]
    one.admit()
    assert one.pause_s() == 16
    one.steady()
    assert one.pause_s() == 1


class Balance(RuleBasedStateMachine):
    """Calls come and go while servers are ejected, admitted and busy."""

    @initialize(count=st.integers(1, 5))
    def make(self, count: int) -> None:
        self.places = [place() for _ in range(count)]
        self.at: list[tuple[Place, int]] = []
        self.now = 0.0

    @rule(tokens=st.integers(1, 5000), tried=st.sets(st.integers(0, 4)))
    def send(self, tokens: int, tried: set[int]) -> None:
        before = [one for n, one in enumerate(self.places) if n in tried]
        chosen = choose(self.places, self.now, before)
        able = [one for one in self.places if one.state == "serving" and one.busy_until_s <= self.now]
        if chosen is None:
            assert not able
            return
        assert chosen in able
        fresh = [one for one in able if one not in before]
        if fresh:
            assert chosen in fresh
        assert chosen.tokens == min(one.tokens for one in fresh or able)
        chosen.begin(tokens)
        self.at.append((chosen, tokens))

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if self.at:
            where, tokens = self.at.pop(data.draw(st.integers(0, len(self.at) - 1)))
            where.end(tokens)

    @rule(number=st.integers(0, 4))
    def eject(self, number: int) -> None:
        self.places[number % len(self.places)].eject("down")

    @rule(number=st.integers(0, 4))
    def admit(self, number: int) -> None:
        self.places[number % len(self.places)].admit()

    @rule(number=st.integers(0, 4), pause=st.floats(0, 5))
    def too_much(self, number: int, pause: float) -> None:
        self.places[number % len(self.places)].busy_until_s = self.now + pause

    @rule(step=st.floats(0, 5))
    def later(self, step: float) -> None:
        self.now += step

    @invariant()
    def counts_are_those_of_the_calls_at_it(self) -> None:
        for one in getattr(self, "places", ()):
            assert one.tokens == sum(tokens for where, tokens in self.at if where is one)
            assert one.calls == sum(where is one for where, _ in self.at)

    def teardown(self) -> None:
        for where, tokens in getattr(self, "at", ()):
            where.end(tokens)
        for one in getattr(self, "places", ()):
            assert (one.tokens, one.calls) == (0, 0)


TestBalance = Balance.TestCase


@given(st.lists(st.floats(0, 10), min_size=1, max_size=5), st.floats(0, 10))
def test_after_the_wait_there_is_somebody_to_choose(busy: list[float], now: float) -> None:
    places = [place(busy_until_s=until) for until in busy]
    pause = wait_s(places, now)
    assert pause is not None
    assert choose(places, max(now + pause, min(busy))) is not None
