"""Lines, sources over pipes, and a guard that answers by the text."""

from __future__ import annotations

import asyncio
import os
import tempfile
from types import MappingProxyType
from typing import Any

from guard.serving.question import Question
from schemas.policy import Policy
from schemas.verdict import Step, Unjudged, Verdict
from tests.unit.workers.moderation.builders import GUARD, LIMITS, make_policy
from workers.lines.answer import Answering, LinePolicies
from workers.lines.read import Line, LineSplitter, Source, read_line
from workers.moderation.choose_policy import RAW
from workers.policies import PolicySet
from workers.stream.budget import GuardBudget

KEY = b"key of the lines"
RUN = "ab" * 8


def lines_of(content: bytes, most_bytes: int = LIMITS.event_bytes) -> list[Line]:
    splitter = LineSplitter(KEY, most_bytes)
    return [*splitter.feed(content), *splitter.finish()]


def source_of(content: bytes, name: str = "in.jsonl") -> Source:
    """Over an anonymous file, which is closed when the process ends."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        return Source(os.dup(file.fileno()), LineSplitter(KEY, LIMITS.event_bytes), name)


def policies(*loaded: Policy, only: Policy | None = None, mode: Any = None) -> LinePolicies:
    everyone = loaded or (make_policy(),)
    by_id = {policy.id: policy for policy in everyone}
    by_tenant = {policy.tenant: policy for policy in everyone if policy.tenant}
    chosen = PolicySet(MappingProxyType(by_id), MappingProxyType(by_tenant), everyone[0])
    return LinePolicies(chosen, RAW, only=only, mode=mode)


class FakeGuard:
    """`unsafe` where the text says so, no verdict where it says `lost`; later where it says `slow`."""

    alive = True

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self.at_once = self.most_at_once = 0

    async def judge(self, question: Question) -> Verdict | Unjudged:
        self.asked.append(question)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        text = question.turns[-1].text
        for _ in range(50 if "slow" in text else 1):
            await asyncio.sleep(0)
        self.at_once -= 1
        if "lost" in text:
            return Unjudged(reason="unparseable", detail="no_verdict")
        unsafe = "unsafe" in text
        step = Step(mode=question.mode, prompt_tokens=7, completion_tokens=2, finish_reason="stop")
        return Verdict(
            label="unsafe" if unsafe else "safe",
            score=0.9 if unsafe else 0.1,
            codes=("C1",) if unsafe else (),
            rationale=f"the text says {text}",
            mode=question.mode,
            steps=(step,),
        )

    def estimate_tokens(self, question: Question) -> int:
        return 10


def answering(guard: FakeGuard | None = None, *, calls: int = 4, **changes: Any) -> Answering:
    base: dict[str, Any] = {
        "read": lambda line: read_line(line, LIMITS, "user"),
        "rationale": "masked",
        "guards": {"think": GUARD, "fast": GUARD},
        "run": RUN,
        "clock": lambda: 0.0,
    }
    chosen = changes.pop("policies", None) or policies()
    return Answering(guard or FakeGuard(), chosen, GuardBudget(calls=calls, tokens=1000), **(base | changes))
