"""The yardstick of `naive_bound`: a moderation worker as one would write it in an afternoon.

    python -m benchmarks.naive SERVERS GROUP EVENTS_TOPIC DECISIONS_TOPIC URL CHECKPOINT POLICIES_FILE

Consumes one event, posts its prompt to `/v1/completions` of a vLLM server, waits for the answer, publishes
it, waits for the delivery, and commits. Runs until it is ended (SIGTERM).
"""

from __future__ import annotations

import http.client
import signal
import sys
from typing import Any
from urllib.parse import urlsplit

import msgspec
from confluent_kafka import Consumer, Producer

from benchmarks.completions import HEADERS, PATH, TIMEOUT_S, Completions
from schemas.event import Event
from schemas.keys import PARTITIONER


def main(
    servers: str, group: str, source: str, target: str, url: str, checkpoint: str, policies: str
) -> None:
    """Until it is ended."""
    completions = Completions(checkpoint, policies)
    address = urlsplit(url)
    # One connection that stays open.
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
    consumer: Any = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer: Any = Producer(
        {"bootstrap.servers": servers, "partitioner": PARTITIONER, "enable.idempotence": True, "linger.ms": 0}
    )
    decode = msgspec.json.Decoder(Event).decode
    running = True

    def end(_number: int, _frame: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, end)
    consumer.subscribe([source])
    while running:
        message = consumer.poll(0.2)
        if message is None:
            continue
        assert message.error() is None, message.error()
        event = decode(message.value())
        connection.request("POST", PATH, completions.request(event), HEADERS)
        response = connection.getresponse()
        decision = completions.decision(event, response.status, response.read())
        producer.produce(target, decision, message.key())
        assert producer.flush(TIMEOUT_S) == 0
        consumer.commit(message, asynchronous=False)
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
