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
        status, answer = _post(connection, completions.request(event))
        decision = completions.decision(event, status, answer)
        producer.produce(target, decision, message.key())
        assert producer.flush(TIMEOUT_S) == 0
        consumer.commit(message, asynchronous=False)
    consumer.close()


def _post(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, bytes]:
    try:
        connection.request("POST", PATH, body, HEADERS)
        response = connection.getresponse()
    except (
        ConnectionError,
        http.client.RemoteDisconnected,
    ):  # the server closes what is idle for some seconds
        connection.close()
        connection.request("POST", PATH, body, HEADERS)
        response = connection.getresponse()
    return response.status, response.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
