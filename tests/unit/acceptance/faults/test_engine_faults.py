"""Whether a worker that does not hold while the engine is away is found out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from tests.acceptance.faults import engine_faults, own_word
from tests.acceptance.faults.engine_faults import NOT_READY, assert_held

AWAY, READY = (503, f"{NOT_READY}\n"), (200, "ready\n")
Answers = list[tuple[int, str] | None]


class FakeSite:
    """Stands for a site with one worker; the last of what is given stays so."""

    workers = ("the worker",)

    def __init__(self, committed: list[Mapping[int, int]]) -> None:
        self._committed = iter_to_last(committed)

    def assert_alive(self) -> None: ...

    def committed(self) -> Mapping[int, int]:
        return next(self._committed)

    def until(self, condition: Callable[[], bool], *, timeout_s: float, awaited: str) -> None:
        assert any(condition() for _ in range(20)), f"no {awaited}"


def iter_to_last(values: list[Any]) -> Iterator[Any]:
    yield from values
    while True:
        yield values[-1]


def held(
    monkeypatch: pytest.MonkeyPatch,
    answers: Answers,
    committed: list[Mapping[int, int]],
    holding: list[float],
    returns: Sequence[float] = (1.0, 1.0, 1.0, 2.0),
) -> None:
    told, came_up = iter_to_last(list(answers)), iter_to_last(list(returns))

    def samples(_worker: str, name: str, **_labels: str) -> list[float]:
        return [next(came_up)] if name == "rsafe_guard_restarts_total" else holding

    monkeypatch.setattr(own_word, "ask", lambda _worker, _path: next(told))
    monkeypatch.setattr(own_word, "samples", samples)
    assert_held(FakeSite(committed), settled_s=0.0, look_s=0.0)  # type: ignore[arg-type]


def test_a_worker_that_holds_and_is_back_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Answers = [READY, None, AWAY, AWAY, AWAY, None, READY]
    held(monkeypatch, answers, [{0: 5}], [3.0])


def test_what_is_committed_when_the_guard_is_back_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    held(monkeypatch, [AWAY, AWAY, READY], [{0: 5}, {0: 5}, {0: 9}], [3.0], [1.0, 1.0, 2.0])


def test_a_guard_that_was_back_and_is_gone_again_was_back(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Answers = [AWAY, AWAY, AWAY, READY]
    held(monkeypatch, answers, [{0: 5}, {0: 5}, {0: 9}], [3.0], [1.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("answers", "committed", "holding", "sentence"),
    [
        ([READY], [{0: 5}], [3.0], NOT_READY),
        ([(503, "the consumer group is not joined\n")], [{0: 5}], [3.0], NOT_READY),
        ([AWAY], [{0: 5}], [], "waits for the guard"),
        ([AWAY], [{0: 5}, {0: 5}, {0: 6}], [3.0], "offsets were committed"),
        ([AWAY, READY], [{0: 5}], [3.0], "before it was seen"),
        ([AWAY, AWAY, AWAY], [{0: 5}], [3.0], "worker that is ready again"),
    ],
)
def test_a_worker_that_does_not_hold_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
    answers: Answers,
    committed: list[Mapping[int, int]],
    holding: list[float],
    sentence: str,
) -> None:
    with pytest.raises(AssertionError, match=sentence):
        held(monkeypatch, answers, committed, holding)


def test_a_guard_that_stays_away_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_faults, "_BACK_S", -1.0)
    with pytest.raises(AssertionError, match="not back within"):
        held(monkeypatch, [AWAY], [{0: 5}], [3.0], [1.0])
