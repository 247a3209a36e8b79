"""The yardstick of `naive_bound`: a moderation worker as one would write it in an afternoon.

    python -m benchmarks.naive SERVERS GROUP EVENTS_TOPIC DECISIONS_TOPIC URL CHECKPOINT POLICIES_FILE

Consumes one event, posts its prompt to `/v1/completions` of a vLLM server, waits for the answer, publishes
it, waits for the delivery, and commits. It asks what the worker asks: the same prompts, as token ids, and
the same parameters. Runs until it is ended (SIGTERM).
"""

from __future__ import annotations

import http.client
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from confluent_kafka import Consumer, Producer

from benchmarks.workload import turns_of
from guard.checkpoint import open_checkpoint
from guard.prompt import PromptRenderer
from schemas.event import Event
from schemas.keys import PARTITIONER
from schemas.policy import Policy
from workers.policies import load_policies
from workers.settings import load_settings

TIMEOUT_S = 120.0


class Asker:
    """Renders and asks, over one connection that stays open."""

    def __init__(self, url: str, checkpoint: str, policies: Mapping[str, Policy]) -> None:
        found = open_checkpoint(checkpoint)
        guard = load_settings().guard
        self._model, self._policies = str(found.path), policies
        self._think_tokens = guard.think_budget_tokens + guard.answer_tokens
        self._renderer = PromptRenderer(found.path, found.template, b"naive")
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)

    def ask(self, event: Event) -> dict[str, Any]:
        """The server's answer, decoded. Raises RuntimeError when it is none."""
        policy = self._policies[event.policy or ""]
        fast = policy.mode == "fast"
        renderer = self._renderer
        prompt = renderer.render(policy, turns_of(event)) + (renderer.fast_suffix if fast else ())
        tokens = renderer.verdict_tokens
        body = {
            "model": self._model,
            "prompt": list(prompt),
            "max_tokens": 1 if fast else self._think_tokens,
            "temperature": 0,
            "logprobs": 1,
            "logprob_token_ids": [tokens.safe, tokens.unsafe],
            "stop_token_ids": list(renderer.eos_token_ids),
        }
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", "/v1/completions", msgspec.json.encode(body), headers)
        response = self._connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise RuntimeError(f"the server answered with {response.status}")
        answer: dict[str, Any] = msgspec.json.decode(text)
        return answer


def main(
    servers: str, group: str, source: str, target: str, url: str, checkpoint: str, policies: str
) -> None:
    """Until it is ended."""
    asker = Asker(url, checkpoint, load_policies(policies, "").by_id)
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
        answer = asker.ask(event)
        (choice,) = answer["choices"]
        usage = answer["usage"]
        decision = {
            "event_id": event.event_id,
            "tenant": event.tenant,
            "conversation_id": event.conversation_id,
            "status": "judged",
            "answer": choice["text"],
            "tokens": {"prompt": usage["prompt_tokens"], "completion": usage["completion_tokens"]},
        }
        producer.produce(target, msgspec.json.encode(decision), message.key())
        assert producer.flush(TIMEOUT_S) == 0
        consumer.commit(message, asynchronous=False)
    consumer.close()


if __name__ == "__main__":
    assert Path(sys.argv[7]).exists()
    main(*sys.argv[1:])
