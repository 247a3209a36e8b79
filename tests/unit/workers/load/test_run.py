"""A whole run over a Kafka that is a queue, with real threads."""

from __future__ import annotations

import _thread
import io
import queue
import time
from collections.abc import Callable, Sequence

import pytest
from rich.console import Console

from tests.unit.workers.load.worlds import EVENTS, decision, plan
from workers.adapters.load_topics import Arrival
from workers.errors import StreamStopped
from workers.load.drive import Pace
from workers.load.figures import LoadReport
from workers.load.plan import Traffic
from workers.load.run import Clocks, Run
from workers.load.words import Progress


class Echo:
    """Producer and reader: what is sent is decided at once, unless `lost` says otherwise of the event id."""

    stamped: bool | None = True

    def __init__(self, lost: Callable[[str], bool] = lambda _: False) -> None:
        self._decided: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self._asked: set[str] = set()
        self._lost = lost
        self.finished = 0

    def send(self, key: bytes, value: bytes) -> bool:
        event = EVENTS.decode(value)
        hit = event.message.text in self._asked
        self._asked.add(event.message.text)
        if not self._lost(event.event_id):
            self._decided.put(decision(event.event_id, hit=hit))
        return True

    def serve(self, wait_s: float = 0) -> None:
        time.sleep(wait_s)

    def finish(self) -> None:
        self.finished += 1

    def take(self, wait_s: float) -> Sequence[Arrival]:
        try:
            return [self._decided.get(timeout=wait_s)]
        except queue.Empty:
            return ()


def _run(
    echo: Echo, pace: Pace, *, drain_timeout_s: float = 20.0, hits: float = 0.8, pool: int = 30
) -> LoadReport:
    with Progress(Console(file=io.StringIO()), time.monotonic) as progress:
        return Run(
            Traffic(plan(hits=hits, pool=pool)),
            pace,
            echo,
            echo,
            drain_timeout_s=drain_timeout_s,
            progress=progress,
            clocks=Clocks(time.monotonic, time.sleep),
        ).whole()


@pytest.mark.parametrize(("rate", "warm_up_s"), [(2000.0, 0.1), (None, 0.0)])
def test_everything_comes_back_and_hits_are_as_asked(rate: float | None, warm_up_s: float) -> None:
    echo = Echo()
    report = _run(echo, Pace(rate, warm_up_s, 500, None))
    assert (report.pool.sent, report.pool.misses, report.measured.sent) == (30, 30, 500)
    assert report.warm_up.sent == (0 if rate is None else 200)
    assert report.missing == 0
    assert report.hit_share == pytest.approx(0.8, abs=0.06)
    assert echo.finished == 2
    assert not report.interrupted


def test_without_hits_nothing_is_asked_first() -> None:
    report = _run(Echo(), Pace(2000.0, 0, 100, None), hits=0.0, pool=0)
    assert (report.pool.sent, report.measured.misses) == (0, 100)


def test_what_does_not_come_back_is_missing() -> None:
    echo = Echo(lost=lambda name: name.endswith("7"))
    report = _run(echo, Pace(5000.0, 0, 100, None), drain_timeout_s=0.3, hits=0.0, pool=0)
    assert (report.measured.missing, report.measured.misses) == (10, 90)


def test_a_pool_that_is_not_judged_ends_the_run_before_anything_is_measured() -> None:
    report = _run(Echo(lost=lambda _: True), Pace(100.0, 0, 100, None), drain_timeout_s=0.3)
    assert (report.pool.missing, report.measured.sent, report.warm_up.sent) == (30, 0, 0)


def test_a_pool_of_more_than_may_be_under_way_ends_as_well() -> None:
    report = _run(Echo(lost=lambda _: True), Pace(100.0, 0, 100, None), drain_timeout_s=0.3, pool=1000)
    assert report.pool.missing == 256


@pytest.mark.parametrize("broken", ["send", "take", "finish"])
def test_an_error_of_either_side_ends_the_run(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise StreamStopped("the broker is gone")

    echo = Echo()
    monkeypatch.setattr(echo, broken, fail)
    with pytest.raises(StreamStopped, match="the broker is gone"):
        _run(echo, Pace(100.0, 0, 100, None))


def test_an_interruption_ends_the_sending_and_what_was_measured_is_reported() -> None:
    def lost(name: str) -> bool:
        if name.endswith("-200"):
            _thread.interrupt_main()
        return False

    report = _run(Echo(lost), Pace(1000.0, 0, 100_000, None))
    assert report.interrupted
    assert 100 < report.measured.sent < 5_000
    assert report.latency_ms.all.count > 0
