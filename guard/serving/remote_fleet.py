"""The servers of a fleet: which there are, which of them get calls, and when none is left.

Every server has a task that watches it: a serving one is asked whether it is well, an ejected one is looked
at anew, from its version to its answer to a fixed prompt, since another may stand there by now.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal

from guard.errors import EngineAbsent, EngineNotReady
from guard.serving.engine import Clock
from guard.serving.fleet_view import EndpointView, FleetView, Told
from guard.serving.remote_admission import (
    Expected,
    NotYet,
    OtherVersion,
    Reference,
    Refused,
    compare,
    look_at,
)
from guard.serving.remote_endpoint import Broken, Endpoint, Unreachable
from guard.serving.remote_names import Names
from guard.serving.remote_options import RemoteOptions
from guard.serving.remote_silence import Silence

Why = Literal["unreachable", "failing", "silent", "refused"]

# Between two questions to a server that answers its health with an error, in seconds.
_ASK_AGAIN_S: Final = 0.2
# A server that has served for so long was back: the next pause after an ejection is the first one again.
_STEADY_S: Final = 10.0
# Bytes of `/health`, which has none.
_SHORT: Final = 65_536


def _nobody(name: str, state: str, why: str) -> None:
    """Is told, and keeps it to itself."""


@dataclass
class History:
    """What outlives a fleet's death: counts, what the first server said, and who is told of changes."""

    retries: int = 0
    ejections: Counter[str] = field(default_factory=Counter)
    reference: Reference | None = None
    told: Told = _nobody


class Fleet:
    """From the first look to the loss of the last server. One event loop."""

    def __init__(
        self,
        options: RemoteOptions,
        expected: Expected,
        history: History,
        *,
        hang_timeout_s: float,
        clock: Clock = time.monotonic,
    ) -> None:
        self.history = history
        self.endpoints: list[Endpoint] = []
        self._options, self._expected, self._clock = options, expected, clock
        self._hang_timeout_s = hang_timeout_s
        self._names = Names(options)
        self._lost = asyncio.Event()
        self._begun = False
        self._watches: dict[Endpoint, asyncio.Task[None]] = {}
        self._looks: dict[Endpoint, asyncio.Task[None]] = {}
        self._finder: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether any server gets calls."""
        return self._begun and not self._lost.is_set()

    async def gone(self) -> None:
        """Returns when no server is left."""
        await self._lost.wait()

    def view(self) -> FleetView:
        return FleetView(
            tuple(
                EndpointView(one.name, one.state, one.why, one.calls, one.tokens) for one in self.endpoints
            ),
            self.history.retries,
            dict(self.history.ejections),
        )

    async def begin(self, patience_s: float) -> None:
        """Returns once a server serves; the others follow as they come up.

        In the first start of an engine all that answer must be as expected, and it is waited for the first
        one for so many seconds. Raises `EngineNotReady`; `EngineAbsent` when there are servers, and all of
        another version than the engine has already been named by.
        """
        first, until_s = self.history.reference is None, self._clock() + patience_s
        while True:
            await self._find()
            looks = [self._admit(one, self._hang_timeout_s) for one in self.endpoints]
            other = [found for found in await asyncio.gather(*looks) if isinstance(found, Refused)]
            if any(one.state == "serving" for one in self.endpoints) and not (first and other):
                break
            if first and other:
                raise EngineNotReady(f"a vLLM server cannot be used: {self._reasons(('ejected',))}")
            if (
                other
                and len(other) == len(self.endpoints)
                and all(isinstance(o, OtherVersion) for o in other)
            ):
                raise EngineAbsent(
                    f"the vLLM servers are of another version now; start anew: {self._reasons()}"
                )
            if not first or self._clock() >= until_s:
                raise EngineNotReady(f"no vLLM server can be used: {self._reasons()}")
            await asyncio.sleep(min(self._options.back_off_s, max(0.0, until_s - self._clock())))
        self._begun = True
        for endpoint in self.endpoints:
            self._watch(endpoint)
        if self._options.addresses == "all":
            self._finder = asyncio.create_task(self._keep_finding())

    def _reasons(self, states: tuple[str, ...] = ("waiting", "ejected")) -> str:
        known = [f"{one.name}: {one.why}" for one in self.endpoints if one.state in states]
        return "; ".join([*known, *(f"{url}: {why}" for url, why in self._names.unknown.items())])

    def eject(self, endpoint: Endpoint, kind: Why, why: str) -> None:
        """It gets no more calls, and those at it go elsewhere."""
        was = endpoint.state
        endpoint.eject(why)
        if was == "serving":
            endpoint.since_s = self._clock()
            self.history.ejections[kind] += 1
        if was != "ejected":
            self.history.told(endpoint.name, "ejected", why)
        self._see_whether_any_is_left()

    def failed(self, endpoint: Endpoint, why: str) -> None:
        """A call of it failed; enough of these in a row, and it is ejected. Its health is asked for."""
        if endpoint.state == "serving" and endpoint.failed():
            self.eject(endpoint, "failing", why)
        else:
            self.look(endpoint)

    async def decide(self, endpoint: Endpoint) -> None:
        """Returns when it has given a sign of life, or is ejected."""
        if endpoint.state == "serving":
            await asyncio.wait([self.look(endpoint)])

    async def close(self) -> None:
        """No server gets calls any more; those at them end."""
        self._lost.set()
        tasks = [*self._watches.values(), *self._looks.values(), *([self._finder] if self._finder else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for endpoint in self.endpoints:
            endpoint.eject("closed")
        # What they were in the middle of ends first.
        await asyncio.gather(*(a for one in self.endpoints for a in one.attempts), return_exceptions=True)
        await asyncio.gather(*(endpoint.close() for endpoint in self.endpoints))

    def _see_whether_any_is_left(self) -> None:
        if self._begun and not any(one.state == "serving" for one in self.endpoints):
            self._lost.set()

    # which there are

    async def _find(self) -> None:
        """Bring `endpoints` up to what the names resolve to."""
        wanted = await self._names.places()
        for endpoint in [one for one in self.endpoints if one.place not in wanted]:
            self._let_go(endpoint)
        known = {one.place for one in self.endpoints}
        for url, address in wanted:
            if (url, address) not in known:
                endpoint = Endpoint(url, self._options, address)
                self.endpoints.append(endpoint)
                if self._begun:
                    self._watch(endpoint)
        self._see_whether_any_is_left()

    async def _keep_finding(self) -> None:
        while True:
            await asyncio.sleep(self._options.health_interval_s)
            await self._find()

    def _let_go(self, endpoint: Endpoint) -> None:
        """It has no name any more: it finishes its calls and gets no others."""
        self.endpoints.remove(endpoint)
        if endpoint in self._watches:
            self._watches.pop(endpoint).cancel()
        self._watches[endpoint] = asyncio.create_task(self._finish(endpoint))

    async def _finish(self, endpoint: Endpoint) -> None:
        try:
            while endpoint.attempts:
                await asyncio.wait(list(endpoint.attempts))
        finally:
            endpoint.eject("gone")
            await endpoint.close()
            self._watches.pop(endpoint, None)

    # how each one is

    def _watch(self, endpoint: Endpoint) -> None:
        task = asyncio.create_task(self._keep_watch(endpoint))
        task.add_done_callback(self._watch_ended)
        self._watches[endpoint] = task

    def _watch_ended(self, task: asyncio.Task[None]) -> None:
        """A fault of ours: unwatched, a server would get calls for ever, so the fleet begins anew."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.history.told("all", "ejected", f"an unexpected {type(error).__name__}")
            self._lost.set()

    async def _keep_watch(self, endpoint: Endpoint) -> None:
        options = self._options
        silence = Silence(self._hang_timeout_s)
        while True:
            if endpoint.state != "serving":
                await asyncio.sleep(endpoint.pause_s())
                await self._admit(endpoint, self._hang_timeout_s)
                continue
            await asyncio.sleep(options.health_interval_s)
            await self.decide(endpoint)
            now_s = self._clock()
            if now_s - endpoint.since_s >= _STEADY_S:
                endpoint.steady()
            if await silence.hangs(endpoint, now_s, options.health_interval_s):
                self.eject(endpoint, "silent", f"it has calls and did nothing for {self._hang_timeout_s:g} s")

    async def _admit(self, endpoint: Endpoint, timeout_s: float) -> Refused | None:
        """Look at one that does not serve; it does then, or `why` says why not."""
        if endpoint.state == "serving":
            return None
        history = self.history
        try:
            found = await look_at(endpoint, self._expected, timeout_s)
            if history.reference is None:
                history.reference = found
            compare(found, history.reference)
        except Refused as error:
            self.eject(endpoint, "refused", str(error))
            return error
        except NotYet as error:
            endpoint.why = str(error)
            return None
        endpoint.admit()
        endpoint.since_s = self._clock()
        history.told(endpoint.name, "serving", "")
        return None

    def look(self, endpoint: Endpoint) -> asyncio.Task[None]:
        """A look at its health, one at a time; it is ejected where that is bad."""
        if endpoint not in self._looks:
            task = asyncio.create_task(self._ask_health(endpoint))
            self._looks[endpoint] = task
            task.add_done_callback(lambda _: self._looks.pop(endpoint, None))
        return self._looks[endpoint]

    async def _ask_health(self, endpoint: Endpoint) -> None:
        """Until it is well, or not serving."""
        misses, interval_s = 0, self._options.health_interval_s
        kind: Why = "silent"
        why = f"its health has not been told within {interval_s:g} s"
        while endpoint.state == "serving":
            try:
                status, _ = await endpoint.get("/health", _SHORT, interval_s)
            except Unreachable as error:
                return self.eject(endpoint, "unreachable", str(error))
            except TimeoutError:
                pass
            except Broken as error:
                kind, why = "failing", str(error)
                await asyncio.sleep(_ASK_AGAIN_S)
            else:
                if status == 200:
                    return None
                kind, why = "failing", f"it is not well (HTTP {status})"
                if status == 503:  # vLLM's word for a core that is dead
                    return self.eject(endpoint, kind, why)
                await asyncio.sleep(_ASK_AGAIN_S)
            misses += 1
            if misses >= self._options.failures:
                return self.eject(endpoint, kind, why)
        return None
