"""The engine: the servers of `remote`, looked at as a worker does before it sends calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from guard.serving.fleet_view import Looked
from workers.doctor.findings import Finding, ok, problem, warning

_LOOK: Final = "look at the address, at what lies between, and at the server's log"


def server_findings(looked: Sequence[Looked]) -> Iterator[Finding]:
    """A line for each server. One that serves is enough for a worker to start."""
    serving = [one for one in looked if not one.why]
    for one in looked:
        if not one.why:
            yield ok("engine", f"{one.server}: vLLM {one.version}, model, key and token endpoint as expected")
        elif one.answers:
            # At a worker's first start, a server that answers otherwise ends it.
            yield problem(
                "engine", f"{one.server}: {one.why}", "start it with `rsafe serve-guard`, or mend the setting"
            )
        elif serving:
            yield warning("engine", f"{one.server}: {one.why}; the others take its calls", _LOOK)
        else:
            yield problem("engine", f"{one.server}: {one.why}", _LOOK)
