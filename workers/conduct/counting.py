"""Takes entries into the states that are here: `engine` against `states`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from workers.conduct.engine import Engine, Step
from workers.conduct.entries import Entry, Erase
from workers.conduct.metrics import ConductMetrics
from workers.conduct.state import State, decode_state, encode_state
from workers.conduct.states import Change, States
from workers.errors import StreamStopped


class Publish(Protocol):
    """What a step leads to, on its topics."""

    async def step(self, made: Step) -> None:
        """Returns when all of it is acknowledged."""
        ...


class Counting:
    """One entry after the other. `here`: whether a partition's states are still this process's to change."""

    def __init__(
        self,
        engine: Engine,
        states: States,
        publish: Publish,
        metrics: ConductMetrics,
        here: Callable[[Any], bool],
    ) -> None:
        self._engine, self._states, self._publish = engine, states, publish
        self._metrics, self._here = metrics, here

    async def take(self, tp: Any, entry: Entry) -> None:
        """What follows from an entry is published first, and then kept."""
        if isinstance(entry, Erase):
            return await self._erase(tp, entry)
        key = entry.subject.key
        stored = self._states.get(key)
        step = self._engine.apply(None if stored is None else decode_state(stored), entry)
        await self._publish.step(step)
        after = _stored(step.state)
        if after != stored:
            await self._keep(tp, [(key, after)])
        self._metrics.conduct_entries.labels(step.result).inc()
        for made in step.escalations:
            self._metrics.conduct_escalations.labels(made.change, made.recommend).inc()
        return None

    async def _erase(self, tp: Any, entry: Erase) -> None:
        """Written at once, not by further entries: they would come behind what counts again of the author."""
        author = entry.author.encode()
        async for chunk in self._states.chunks(tp.partition, lambda: self._here(tp)):
            changes: list[Change] = []
            for key, value in chunk:
                # Most states do not name the author, and are not worth to be decoded.
                if author in value and (step := self._engine.erased(decode_state(value), entry.author)):
                    changes.append((key, _stored(step.state)))
            if changes:
                await self._keep(tp, changes)
        self._require_here(tp)
        self._metrics.conduct_entries.labels("dropped").inc()

    async def _keep(self, tp: Any, changes: list[Change]) -> None:
        self._require_here(tp)
        await self._states.keep(tp.partition, changes)

    def _require_here(self, tp: Any) -> None:
        if not self._here(tp):
            raise StreamStopped("the state of a record in hand went to another process")


def _stored(state: State | None) -> bytes | None:
    return None if state is None else encode_state(state)
