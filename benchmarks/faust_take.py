"""The yardstick of `faust_bound`: a Faust agent that takes events in batches.

    python -m benchmarks.faust_take SERVERS GROUP EVENTS_TOPIC DECISIONS_TOPIC URL CHECKPOINT POLICIES_FILE

`stream.take()` gives the agent up to as many events as the worker has at the guard at a time, or what came
within 50 ms; all of them are posted to `/v1/completions` of a vLLM server at once, and their answers are
published when the last one is there. Then the next batch is taken. Runs until it is ended (SIGTERM).
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import aiohttp
import faust
import msgspec

from benchmarks.completions import HEADERS, PATH, TIMEOUT_S, Completions
from schemas.event import Event

WITHIN_S = 0.05
IDLE_S = 2.0


def make_app(
    servers: str, group: str, source: str, target: str, url: str, checkpoint: str, policies: str
) -> Any:
    """The app with its one agent."""
    completions = Completions(checkpoint, policies)
    decode = msgspec.json.Decoder(Event).decode
    app: Any = faust.App(
        group,
        broker=f"kafka://{servers}",
        store="memory://",
        datadir=str(Path(policies).parent / "faust"),
        web_enabled=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,
        producer_linger_ms=0,
    )
    # Raw: Faust's own decoding drops what it cannot read.
    events = app.topic(source, key_serializer="raw", value_serializer="raw")
    decisions = app.topic(target, key_serializer="raw", value_serializer="raw")

    async def moderate(stream: Any) -> None:
        # The server closes what is idle for five seconds; an error here would cost the agent its whole batch.
        limit = aiohttp.TCPConnector(limit=completions.at_a_time, keepalive_timeout=IDLE_S)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(url, connector=limit, timeout=timeout) as session:

            async def judge(event: Event) -> bytes:
                async with session.post(PATH, data=completions.request(event), headers=HEADERS) as response:
                    return completions.decision(event, response.status, await response.read())

            async for batch in stream.take(completions.at_a_time, within=WITHIN_S):
                read = [decode(value) for value in batch]
                for event, decision in zip(read, await asyncio.gather(*map(judge, read)), strict=True):
                    await decisions.send(key=event.conversation_id.encode(), value=decision)

    app.agent(events)(moderate)
    return app


if __name__ == "__main__":
    faust.Worker(make_app(*sys.argv[1:]), loglevel="WARN").execute_from_commandline()
