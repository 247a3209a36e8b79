"""Judges the examples of policies with the guard of the settings. Texts are never shown."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click
import msgspec

from guard.prompt import Turn, as_read
from guard.serving.judge import Judge
from guard.serving.question import Question
from schemas.decision import GuardUsed
from schemas.identifiers import Mode
from schemas.policy import Policy, PolicyExample
from schemas.verdict import Unjudged, Verdict
from workers.commands.judge_start import results_alone_on_stdout, started
from workers.errors import UsageError
from workers.judging import content_key, guards_used, make_judge, stored_checkpoint, stored_scales
from workers.moderation.choose_policy import make_ready
from workers.moderation.make_decision import weigh
from workers.moderation.outcome import ChosenPolicy, Judged
from workers.settings import Settings
from workers.terminal import harmless


class ExampleResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one example."""

    policy: str
    tenant: str | None
    example: int
    """Counted from 1, in the order of the policy."""
    expected: str
    got: str
    """`safe`, `unsafe`, `unjudged` or `not_applicable`: outside the policy's surfaces."""
    codes: tuple[str, ...] = ()
    missing_codes: tuple[str, ...] = ()
    score: float | None = None
    threshold: float | None = None

    @property
    def passed(self) -> bool:
        got = "safe" if self.got == "not_applicable" else self.got
        return got == self.expected and not self.missing_codes


def run_examples(settings: Settings, policies: Sequence[Policy], *, as_json: bool = False) -> bool:
    """Print what became of every example; whether all passed.

    Raises `UsageError` for a policy without examples, and what the guard's start raises.
    """
    for policy in policies:
        if not policy.examples:
            raise UsageError(f"policy {policy.id!r} has no examples; expected at least one")
    checkpoint = stored_checkpoint(settings.guard)
    scales = stored_scales(settings.guard, checkpoint)
    ready = [make_ready(policy, scales, checkpoint.profile) for policy in policies]
    guard = make_judge(settings.guard, checkpoint, scales, content_key(settings.secrets))
    used = guards_used(guard, scales)

    async def judge_all() -> list[ExampleResult]:
        async with started(guard):
            return [
                result_of(chosen, number, example, await _ask(guard, chosen, example), used=used)
                for chosen in ready
                for number, example in enumerate(chosen.policy.examples, start=1)
            ]

    with results_alone_on_stdout():
        results = asyncio.run(judge_all())
    if as_json:
        rows = [{**msgspec.to_builtins(one), "passed": one.passed} for one in results]
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
    else:
        for one in results:
            click.echo(harmless(_line(one)))
        click.echo(f"{sum(one.passed for one in results)} of {len(results)} examples passed")
    return all(one.passed for one in results)


async def _ask(guard: Judge, chosen: ChosenPolicy, example: PolicyExample) -> Verdict | Unjudged | None:
    """None: the policy does not judge this role."""
    if example.role not in chosen.surfaces:
        return None
    turns = as_read((Turn(role=example.role, text=example.text),))
    question = Question(policy=chosen.policy, turns=turns, mode=chosen.policy.mode)
    band = chosen.uncertain.get(example.role)
    return await guard.judge(msgspec.structs.replace(question, uncertain=band))


def result_of(
    chosen: ChosenPolicy,
    number: int,
    example: PolicyExample,
    outcome: Verdict | Unjudged | None,
    *,
    used: dict[Mode, GuardUsed],
) -> ExampleResult:
    """The policy's word on a verdict beside what was expected."""
    told = ExampleResult(
        policy=chosen.policy.id,
        tenant=chosen.policy.tenant,
        example=number,
        expected=example.label,
        got="not_applicable" if outcome is None else "unjudged",
    )
    if not isinstance(outcome, Verdict):
        return told
    weighed = weigh(Judged(outcome, used[chosen.policy.mode], outcome.rationale), chosen, example.role)
    codes = tuple(one.code for one in weighed.categories if one.violated)
    violated = {code.casefold() for code in codes}
    return msgspec.structs.replace(
        told,
        got="safe" if weighed.action == "allow" else "unsafe",
        codes=codes,
        missing_codes=tuple(code for code in example.codes if code.casefold() not in violated),
        score=weighed.score,
        threshold=weighed.threshold,
    )


def _line(one: ExampleResult) -> str:
    score = "-" if one.score is None else f"{one.score:.4f}"
    threshold = "-" if one.threshold is None else f"{one.threshold:g}"
    owner = one.policy if one.tenant is None else f"{one.policy} of tenant {one.tenant}"
    line = f"{'pass' if one.passed else 'FAIL'}  {owner} example {one.example}: expected {one.expected}, "
    line += f"got {one.got}, score {score}, threshold {threshold}, categories {', '.join(one.codes) or '-'}"
    return f"{line}; missing {', '.join(one.missing_codes)}" if one.missing_codes else line
