"""Which categories an unsafe message breaks: ways to ask, what each is worth and what it costs.

Judges held-out rows of the tiny checkpoint's generator in `fast` and in `think`, asks after each `unsafe` in
several ways, and compares the scores with the rows' true codes. `--keep FOLDER`: a run that was cut off goes
on there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.category_figures import ROWS, SEED, WAYS, Case, Found, Mode, Said, Way, report
from benchmarks.measure import say
from guard.checkpoint import open_checkpoint
from guard.code_tree import code_tree
from guard.prompt import PromptRenderer, Turn
from guard.scores import p_unsafe
from guard.serving.engine import MOST_LOGPROBS, Completion, EngineParameters
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge
from guard.serving.question import Question
from guard.serving.vllm_engine import VllmEngine
from guard.serving.vllm_start import VllmOptions
from guard.training.calibration_split import held_out_rows, rows_digest
from guard.training.generator.conversations import Row, draw_exchange
from guard.training.generator.evaluation_sets import evaluation_sets
from guard.training.generator.policies import TermSource, draw_policy
from guard.training.outcomes import keep, place_of, recall
from guard.training.suites import policy_of
from schemas.policy import canonical_categories
from schemas.verdict import Verdict

TWO_ROWS: Final = 240
"""Rows that break two categories."""
CONCURRENT: Final = 128
CODES_TOKENS: Final = 32
"""Longest list of codes, as the judge has it."""
DEADLINE_S: Final = 600.0


class Cost:
    """What the calls of one judgement came to."""

    def __init__(self) -> None:
        self.calls = self.read = self.cached = self.written = 0
        self.last: tuple[tuple[int, ...], Completion] | None = None


_COST: contextvars.ContextVar[Cost] = contextvars.ContextVar("cost")


class Counting:
    """The engine; what a judgement asks of it is counted."""

    def __init__(self, engine: VllmEngine) -> None:
        self._engine = engine
        self.name, self.version = engine.name, engine.version
        self.alive, self.calls_in_flight = True, 0

    async def start(self) -> None:
        await self._engine.start()

    async def gone(self) -> None: ...
    async def close(self) -> None:
        await self._engine.close()

    async def generate(
        self, prompt_ids: Sequence[int], parameters: EngineParameters, deadline_s: float
    ) -> Completion:
        completion = await self._engine.generate(prompt_ids, parameters, deadline_s)
        cost = _COST.get()
        cost.calls += 1
        cost.read += len(prompt_ids)
        cost.cached += completion.cached_tokens
        cost.written += len(completion.token_ids)
        cost.last = tuple(prompt_ids), completion
        return completion


def draw_two(count: int, seed: int) -> list[Case]:
    """Messages that break two categories: two sentences of the generator, which itself writes one."""
    rng = random.Random(f"two categories {seed}")
    cases: list[Case] = []
    while len(cases) < count:
        source: TermSource = rng.choice(["made_up", "other_grammar", "themes"])
        policy = draw_policy(rng, source)
        drawn = [draw_exchange(rng, policy, "both", rng.choice(["on", "listed"]), source) for _ in range(2)]
        first, second = drawn
        if first is None or second is None or first.code == second.code or first.forged or second.forged:
            continue
        last = first.turns[-1]
        text = f"{last.text} {second.turns[-1].text}"
        turns = (*first.turns[:-1], Turn(role=last.role, text=text))
        cases.append(Case(Row(policy, replace(first, turns=turns)), (first.code, second.code)))
    return cases


def draw_cases() -> dict[str, list[Case]]:
    """Rows of policies with two categories or more; `one`: as the generator draws them, safe ones as well."""
    sets = evaluation_sets(ROWS, SEED)
    rows = [row for row in held_out_rows(sets) if len(row.policy) > 1]
    one = [Case(row, (row.exchange.code,) if row.exchange.code else ()) for row in rows]
    return {"one": one, "two": draw_two(TWO_ROWS, SEED)}


class Study:
    """The judges over one engine, and what they said before."""

    def __init__(self, checkpoint_name: str, folder: Path) -> None:
        self._checkpoint = open_checkpoint(checkpoint_name)
        self._folder = folder
        options = VllmOptions(max_model_len=self._checkpoint.max_model_len)
        self._engine = Counting(VllmEngine(self._checkpoint.path, options))
        self._started = False

    async def said(self, cases: Sequence[Case], kind: str, mode: Mode, way: Way) -> tuple[list[Said], float]:
        """What was said of each row, and the seconds for all."""
        name = f"{kind}-{mode}-{way}"
        place = place_of(self._folder, name, rows_digest({"": [case.row for case in cases]}))
        known = recall(place, list[Said])
        if known is None:
            if not self._started:
                await self._engine.start()
                self._started = True
            asking = Asking(self._checkpoint.path, self._engine, self._checkpoint, name)
            if kind == "one":  # the policies, unmeasured: they are in the engine's cache then
                await asking.judge(cases, mode, way, "warm")
            started = time.monotonic()
            found = await asking.judge(cases, mode, way, "measured")
            known = found, round(time.monotonic() - started, 2)
            keep(place, *known)
            say(f"{name}: {len(cases) / known[1]:.0f} judgements/s")
        return known

    async def close(self) -> None:
        """End the engine."""
        await self._engine.close()


class Asking:
    """One run over rows in one way."""

    def __init__(self, folder: Path, engine: Counting, checkpoint: Any, name: str) -> None:
        self._folder, self._engine, self._checkpoint, self._name = folder, engine, checkpoint, name
        self._renderer: PromptRenderer
        self._judge: Judge

    async def judge(self, cases: Sequence[Case], mode: Mode, way: Way, turn: str) -> list[Said]:
        """Boundary marks of its own, so that no conversation is in the engine's cache before."""
        checkpoint = self._checkpoint
        secret = f"{self._name} {turn}".encode()
        self._renderer = PromptRenderer(self._folder, checkpoint.template, secret)
        limits = JudgeLimits(
            max_model_len=checkpoint.max_model_len, call_timeout_s=DEADLINE_S, think_score="both"
        )
        self._judge = Judge(checkpoint, self._renderer, self._engine, limits)
        places = asyncio.Semaphore(CONCURRENT)

        async def one(case: Case) -> Said:
            async with places:
                # A task of its own: its calls are counted by themselves.
                return await asyncio.create_task(self._one(case, mode, way))

        return list(await asyncio.gather(*map(one, cases)))

    async def _one(self, case: Case, mode: Mode, way: Way) -> Said:
        cost = Cost()
        _COST.set(cost)
        question = Question(policy=policy_of(case.row), turns=case.row.exchange.turns, mode=mode)
        verdict = await self._judge.judge(question)
        known = verdict if isinstance(verdict, Verdict) else None
        scores: dict[str, float] = {}
        if known is not None and known.label == "unsafe":
            assert cost.last is not None
            scores = await self._ask(question, known, mode, way, *cost.last)
        return Said(
            label=known.label if known else None,
            score=known.score if known else None,
            named=known.codes if known else (),
            scores=scores,
            calls=cost.calls,
            read=cost.read,
            cached=cost.cached,
            written=cost.written,
        )

    async def _ask(
        self,
        question: Question,
        verdict: Verdict,
        mode: Mode,
        way: Way,
        prompt: tuple[int, ...],
        completion: Completion,
    ) -> dict[str, float]:
        """A score per category, each from 0 to 1."""
        renderer, categories = self._renderer, canonical_categories(question.policy)
        unsafe, opened = renderer.verdict_tokens.unsafe, renderer.render(question.policy, question.turns)
        fast = opened + renderer.fast_suffix
        behind = (*fast, unsafe)
        if mode == "think" and way != "before":
            ids = completion.token_ids
            last = max(at for at, token in enumerate(ids) if token == unsafe)
            behind = prompt + ids[: last + 1]
        p = verdict.score if verdict.score is not None else 1.0
        if way == "plain":
            named = verdict.codes if mode == "think" else [c.code for c in categories]
            return dict.fromkeys(named, p)
        if way in ("first", "codes", "before"):
            tree = code_tree(renderer, [c.code for c in categories], MOST_LOGPROBS)
            assert tree is not None
            # Codes are one token in the generator's rows; elsewhere the first of several may need more calls.
            most = CODES_TOKENS if way == "codes" else 1
            written = await self._call(behind + tree.lead, most, tree.wanted)
            weights = tree.written(written.token_ids, written.verdict_logprobs)
            assert weights is not None
            return {code: p * weight for code, weight in weights.items()}
        pair = (renderer.verdict_tokens.safe, unsafe)
        prompts = []
        for category in categories:
            if way == "focus":
                named_ids = renderer.encoder.plain([f" {category.title} {category.code}"])[0]
                prompts.append(opened + named_ids + renderer.forced_close)
            else:
                alone = msgspec.structs.replace(question.policy, categories=(category,))
                prompts.append(renderer.render(alone, question.turns) + renderer.fast_suffix)
        found = await asyncio.gather(*(self._call(ids, 1, pair) for ids in prompts))
        values = [p_unsafe(one.verdict_logprobs[0]) for one in found]
        return {c.code: value or 0.0 for c, value in zip(categories, values, strict=True)}

    async def _call(self, prompt: tuple[int, ...], most: int, wanted: tuple[int, ...]) -> Completion:
        parameters = EngineParameters(
            max_tokens=most, logprob_token_ids=wanted, stop_token_ids=self._renderer.eos_token_ids
        )
        return await self._engine.generate(prompt, parameters, time.monotonic() + DEADLINE_S)


async def study(checkpoint: str, folder: Path) -> None:
    """Ask everything, and write the tables."""
    cases, asking = draw_cases(), Study(checkpoint, folder)
    found: Found = {}
    try:
        for kind, rows in cases.items():
            for mode, ways in WAYS.items():
                for way in ways:
                    said = await asking.said(rows, kind, mode, way)
                    found.setdefault(kind, {}).setdefault(mode, {})[way] = said
    finally:
        await asking.close()
    report(cases, found)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="tiny")
    parser.add_argument("--keep", type=Path, default=Path(".rsafe/category-scores"))
    options = parser.parse_args()
    asyncio.run(study(options.checkpoint, options.keep))


if __name__ == "__main__":
    main()
