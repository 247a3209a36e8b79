"""The yardsticks of `conduct_bound`: Faust agents on the same topic that count nothing.

    python -m benchmarks.faust_bare SERVERS GROUP DECISIONS_TOPIC TARGET_TOPIC RECORDS FOLDER reads|writes

The application is the very one of `rsafe conduct`, with its settings of Faust's client. `reads` looks at no
record, and writes a mark at the first and at the last one. `writes` publishes each record's key and waits
until that is acknowledged, one after the other, which is the least that an agent does that may lose nothing.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from workers.conduct.faust_door import faust_app, raw_topic
from workers.settings import load_settings


async def main(
    servers: str, group: str, source: str, target: str, records: int, folder: str, what: str
) -> None:
    """Until so many records are through."""
    environment = {
        "RSAFE_KAFKA__BOOTSTRAP_SERVERS": servers,
        "RSAFE_CONDUCT__GROUP_ID": group,
        "RSAFE_CONDUCT__STATE_FOLDER": folder,
    }
    app: Any = faust_app(load_settings(environment))
    written = raw_topic(app, target)
    through = asyncio.Event()

    async def tell(key: bytes | None) -> None:
        await (await written.send(key=key, value=b"1"))

    async def agent(stream: Any) -> None:
        read = 0
        async for event in stream.events():
            read += 1
            if what == "writes" or read in (1, records):
                await tell(event.message.key)
            if read == records:
                through.set()

    app.agent(raw_topic(app, source), name="bare")(agent)
    await app.start()
    await through.wait()
    await app.stop()


if __name__ == "__main__":
    _servers, _group, _source, _target, _records, _folder, _what = sys.argv[1:]
    asyncio.run(main(_servers, _group, _source, _target, int(_records), _folder, _what))
