"""What the yardsticks of `naive_bound` and `faust_bound` ask a vLLM server: just what the worker asks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.workload import turns_of
from guard.checkpoint import open_checkpoint
from guard.prompt import PromptRenderer
from schemas.event import Event
from schemas.policy import Policy
from workers.policies import load_policies
from workers.settings import load_settings

PATH = "/v1/completions"
HEADERS = {"Content-Type": "application/json"}
TIMEOUT_S = 120.0


class Completions:
    """Requests and answers: the same prompts as the worker's, as token ids, and the same parameters."""

    def __init__(self, checkpoint: str, policies: str | Path) -> None:
        found = open_checkpoint(checkpoint)
        self._guard = load_settings().guard
        self._model = str(found.path)
        self._policies: Mapping[str, Policy] = load_policies(str(policies), "").by_id
        self._think_tokens = self._guard.think_budget_tokens + self._guard.answer_tokens
        self._renderer = PromptRenderer(found.path, found.template, b"yardstick")

    @property
    def at_a_time(self) -> int:
        """Questions that the worker has at the guard at a time."""
        return self._guard.max_concurrency

    def request(self, event: Event) -> bytes:
        """The body of `POST /v1/completions` for this event."""
        policy = self._policies[event.policy or ""]
        fast = policy.mode == "fast"
        renderer = self._renderer
        prompt = renderer.render(policy, turns_of(event)) + (renderer.fast_suffix if fast else ())
        tokens = renderer.verdict_tokens
        return msgspec.json.encode(
            {
                "model": self._model,
                "prompt": list(prompt),
                "max_tokens": 1 if fast else self._think_tokens,
                "temperature": 0,
                "logprobs": 1,
                "logprob_token_ids": [tokens.safe, tokens.unsafe],
                "stop_token_ids": list(renderer.eos_token_ids),
            }
        )

    @staticmethod
    def decision(event: Event, status: int, answer: bytes) -> bytes:
        """What is published for an answer of the server. Raises RuntimeError when it is none."""
        if status != 200:
            raise RuntimeError(f"the server answered with {status}")
        decoded: dict[str, Any] = msgspec.json.decode(answer)
        (choice,), usage = decoded["choices"], decoded["usage"]
        return msgspec.json.encode(
            {
                "event_id": event.event_id,
                "tenant": event.tenant,
                "conversation_id": event.conversation_id,
                "status": "judged",
                "answer": choice["text"],
                "tokens": {"prompt": usage["prompt_tokens"], "completion": usage["completion_tokens"]},
            }
        )
