"""One run: the pool, the warm-up, what is measured, and the wait for what is still under way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event as Flag
from typing import Final, Protocol

from workers.load.drive import Driver, Pace, Sender, Sent
from workers.load.figures import LoadReport
from workers.load.follow import Follower, Outcomes, Reader
from workers.load.plan import Traffic, event_prefix
from workers.load.report import summarise
from workers.load.words import Progress

# Texts of the pool that are under way at a time: they fill batches, and are soon through a slow guard.
POOL_AT_MOST: Final = 256
# Steps, as the progress names them.
POOL: Final = "pool"
LOAD: Final = "load"
# How often it is looked whether all has come, in seconds.
_LOOK_S: Final = 0.1


class Producer(Sender, Protocol):
    @property
    def stamped(self) -> bool | None:
        """Whether the broker stamps events with its own time; None: not known."""
        ...

    def finish(self) -> None:
        """Wait until all is acknowledged."""
        ...


@dataclass(frozen=True, slots=True)
class Clocks:
    """`now` in seconds that only grow."""

    now: Callable[[], float]
    sleep: Callable[[float], None]


class Run:
    """One run over a producer and a reader that stand ready. Errors of either end it."""

    def __init__(
        self,
        traffic: Traffic,
        pace: Pace,
        producer: Producer,
        reader: Reader,
        *,
        drain_timeout_s: float,
        progress: Progress,
        clocks: Clocks,
    ) -> None:
        self._traffic, self._pace = traffic, pace
        self._producer, self._progress, self._now = producer, progress, clocks.now
        self._drain_timeout_s = drain_timeout_s
        self._sent, self._outcomes = Sent(), Outcomes()
        self._stop_sending, self._stop_following = Flag(), Flag()
        self._driver = Driver(producer, self._sent, self._stop_sending, clock=clocks.now, sleep=clocks.sleep)
        self._follower = Follower(
            reader,
            self._outcomes,
            event_prefix(traffic.plan.run),
            sent=lambda: len(self._sent.at_s),
            clock=clocks.now,
        )
        self._interrupted = False

    def whole(self) -> LoadReport:
        """Run it to its end, or until it is interrupted from the keyboard; the report says which.

        Raises what the producer and the reader raise.
        """
        with self._threads() as submit:
            following = submit(self._follower.until, self._stop_following)
            try:
                if self._traffic.plan.pool:
                    sending = submit(self._send_pool)
                    self._await(POOL, sending, following)
                if len(self._outcomes) == len(self._sent.at_s):
                    sending = submit(self._send_load)
                    self._await(LOAD, sending, following)
            except KeyboardInterrupt:
                self._interrupted = True
        return summarise(
            self._traffic.plan,
            self._pace,
            self._sent,
            self._outcomes,
            drain_timeout_s=self._drain_timeout_s,
            events_stamped=self._producer.stamped,
            interrupted=self._interrupted,
        )

    def _send_pool(self) -> None:
        self._driver.pool(self._traffic.pool(), lambda: len(self._outcomes), POOL_AT_MOST)
        self._producer.finish()

    def _send_load(self) -> None:
        self._driver.events(self._traffic.events(), self._pace)
        self._producer.finish()

    def _await(self, step: str, sending: Future[None], following: Future[None]) -> None:
        """Until everything has come, or nothing came for the drain time-out.

        A load is sent to its end whatever comes back; a pool is not, since what follows would hit nothing.
        """
        begun_s, sent, outcomes = self._now(), self._sent, self._outcomes
        while not (sending.done() and len(outcomes) >= len(sent.at_s)):
            wait([one for one in (sending, following) if not one.done()], _LOOK_S, FIRST_COMPLETED)
            for future in (sending, following):
                if future.done():
                    future.result()
            newest_s = max(begun_s, outcomes.newest_s, sent.at_s[-1] if sent.at_s else begun_s)
            if self._now() - newest_s > self._drain_timeout_s and (sending.done() or step == POOL):
                return
            self._progress.told(step, sent, outcomes, self._pace.rate)

    @contextmanager
    def _threads(self) -> Iterator[Callable[..., Future[None]]]:
        """Two threads; when the block is left, both are told to end, and have."""
        with ThreadPoolExecutor(2, "load") as pool:
            try:
                yield pool.submit
            finally:
                self._stop_sending.set()
                self._stop_following.set()
