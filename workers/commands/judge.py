"""`rsafe judge`: one message, or a file of them (`judge_file`), without Kafka."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from guard.prompt import Turn, as_read
from guard.serving.explanation import explain
from guard.serving.judge import Judge, Seen
from guard.serving.question import Question
from schemas.decision import GuardUsed
from schemas.identifiers import Mode, Role
from schemas.policy import canonical_categories
from schemas.verdict import Unjudged, Verdict
from workers.commands.judge_explain import explain_verdict, explanation_lines
from workers.commands.judge_file import FileOptions, judge_file
from workers.commands.judge_start import EXIT_UNJUDGED, named_policy, results_alone_on_stdout, started
from workers.errors import UsageError
from workers.judging import content_key, guards_used, make_judge, stored_checkpoint, stored_scales
from workers.moderation.choose_policy import make_ready
from workers.moderation.make_decision import weigh, worst_reading
from workers.moderation.outcome import ChosenPolicy, Judged
from workers.settings import load_settings
from workers.terminal import harmless

# What a line of `--context` must be, by the field at fault. msgspec's own message may quote the line.
_TURN: Final = "expected a JSON object with `role` and `text`"
_EXPECTED: Final[dict[str, str]] = {
    "role": "role: expected `user` or `assistant`",
    "text": "text: expected a string",
}
_PLACE: Final = re.compile(r" - at `\$\.(role|text)`\Z")


@click.command()
@click.argument("text", required=False)
@click.option(
    "--policy", "policy_name", help="Id of a loaded policy, or a policy file; else the default one."
)
@click.option("--mode", type=click.Choice(["think", "fast", "adaptive"]), help="Instead of the policy's.")
@click.option("--role", type=click.Choice(["user", "assistant"]), default="user", show_default=True)
@click.option(
    "--context",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='Earlier turns, oldest first: a JSON object {"role", "text"} a line.',
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object; with --file, one a line, always.")
@click.option(
    "--explain", "explained", is_flag=True, help="Show what was in the prompt, and what was made of it."
)
@click.option(
    "--file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help='Instead of TEXT: a JSON object a line, an event or one with "text"; `-` is standard input.',
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --file: write results there, and go on behind those that an earlier run left.",
)
@click.option("--stop-on-error", is_flag=True, help="With --file: end at the first line that is not read.")
def judge(
    text: str | None,
    policy_name: str | None,
    mode: Mode | None,
    role: Role,
    context: Path | None,
    as_json: bool,
    explained: bool,
    file: Path | None,
    output: Path | None,
    stop_on_error: bool,
) -> None:
    """Judge TEXT (`-` reads it from standard input) and show verdict, score, categories and rationale.

    The guard is the one of the settings (RSAFE_GUARD__…). The rationale is shown in full, and it may repeat
    the message. Exits with 0 when there is a verdict, and with 5 when there is none.

    With --file every line of a file is judged, and a JSON object is written for each, in their order. Exits
    with 1 when a line was not read, else with 5 when one got no verdict, else with 0.
    """
    _check_options(text, context, explained, file, output, stop_on_error)
    settings = load_settings()
    if file is not None:
        options = FileOptions(
            file=file, output=output, policy=policy_name, mode=mode, role=role, stop_on_error=stop_on_error
        )
        raise click.exceptions.Exit(judge_file(settings, options))
    assert text is not None
    policy = named_policy(settings, policy_name or settings.policies.default)
    if text == "-":
        text = _read_stdin()
    came = (*_read_context(context), Turn(role=role, text=text))
    question = Question(policy=policy, turns=as_read(came), mode=mode or policy.mode)
    checkpoint = stored_checkpoint(settings.guard)
    scales = stored_scales(settings.guard, checkpoint)
    asked = msgspec.structs.replace(policy, mode=question.mode, surfaces=(role,))
    chosen = make_ready(asked, scales, checkpoint.profile)
    question = msgspec.structs.replace(question, uncertain=chosen.uncertain.get(role))
    guard = make_judge(settings.guard, checkpoint, scales, content_key(settings.secrets))
    with results_alone_on_stdout():
        outcome, seconds, seen = asyncio.run(_ask(guard, question))
    used = guards_used(guard, scales)[question.mode]
    report = _report(used, question, outcome, seconds, chosen)
    explanation = None
    if explained:
        in_prompts = explain(guard.renderer, question, came, seen)
        explanation = explain_verdict(in_prompts, question, outcome, seen, chosen, scales, used)
        report["explanation"] = explanation
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        for line in (*_lines(report), *(explanation_lines(explanation) if explanation is not None else ())):
            click.echo(line)
    if isinstance(outcome, Unjudged):
        raise click.exceptions.Exit(EXIT_UNJUDGED)


def _check_options(
    text: str | None,
    context: Path | None,
    explained: bool,
    file: Path | None,
    output: Path | None,
    stop_on_error: bool,
) -> None:
    """Raises `click.UsageError` for options that do not go together."""
    if (text is None) == (file is None):
        raise click.UsageError("expected either TEXT or --file")
    if file is None and (output is not None or stop_on_error):
        raise click.UsageError("--output and --stop-on-error: expected --file with them")
    if file is not None and context is not None:
        raise click.UsageError("--context: expected TEXT, since each line of a file has its own context")
    if file is not None and explained:
        raise click.UsageError("--explain: expected TEXT, since it explains one message")


async def _ask(guard: Judge, question: Question) -> tuple[Verdict | Unjudged, float, Seen | None]:
    seen: list[Seen] = []
    async with started(guard):
        begun = time.perf_counter()
        outcome = await guard.judge(question, seen=seen.append)
        return outcome, time.perf_counter() - begun, seen[0] if seen else None


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is not UTF-8 at byte {error.start}") from None


def _read_context(path: Path | None) -> list[Turn]:
    if path is None:
        return []
    turns = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            turns.append(msgspec.json.decode(line, type=Turn))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            place = _PLACE.search(str(error))
            raise UsageError(f"{path}:{number}: {_EXPECTED[place[1]] if place else _TURN}") from None
    return turns


def _report(
    guard: GuardUsed,
    question: Question,
    outcome: Verdict | Unjudged,
    seconds: float,
    chosen: ChosenPolicy,
) -> dict[str, Any]:
    titles = {c.code: c.title for c in canonical_categories(question.policy)}
    report: dict[str, Any] = {
        "policy": question.policy.id,
        "policy_version": question.policy.version,
        "mode": question.mode,
        "status": "unjudged" if isinstance(outcome, Unjudged) else "judged",
    }
    match outcome:
        case Verdict():
            role = question.turns[-1].role
            weighed = weigh(Judged(outcome, guard, outcome.rationale), chosen, role)
            report |= {
                "label": outcome.label,
                "answered_in": weighed.answered_in,
                "score": weighed.score,
                "score_kind": weighed.score_kind,
                "raw_score": worst_reading(outcome, chosen.yardsticks[role])[0],
                "threshold": weighed.threshold,
                "action": weighed.action,
                "categories": [
                    {
                        "code": one.code,
                        "title": titles[one.code],
                        "score": one.score,
                        "violated": one.violated,
                    }
                    for one in weighed.categories
                ],
                "rationale": outcome.rationale,
            }
        case Unjudged():
            report |= {"reason": outcome.reason, "detail": outcome.detail}
    return report | {
        "coverage": {
            "windows": outcome.windows,
            "windows_unjudged": outcome.windows_unjudged if isinstance(outcome, Verdict) else 0,
            "turns_left_out": outcome.turns_left_out,
        },
        "steps": msgspec.to_builtins(outcome.steps),
        "ms": round(seconds * 1000, 1),
        "guard": msgspec.to_builtins(guard),
    }


def _lines(report: dict[str, Any]) -> Iterator[str]:
    guard = report["guard"]
    if report["status"] == "unjudged":
        yield f"verdict     unjudged: {report['reason']}" + (
            f" ({report['detail']})" if report["detail"] else ""
        )
    else:
        score = "unknown" if report["score"] is None else f"{report['score']:.4f} {report['score_kind']}"
        yield f"verdict     {report['label']}"
        yield f"p(unsafe)   {score}, threshold {report['threshold']}"
        named = ", ".join(map(_named, report["categories"]))
        yield harmless(f"categories  {named or '-'}")
        yield harmless(f"rationale   {report['rationale'] or '-'}")
    if covered := _covered(report["coverage"]):
        yield f"coverage    {covered}"
    mode = report["mode"]
    if mode == "adaptive" and "answered_in" in report:
        mode += f" (answered in {report['answered_in']})"
    yield harmless(f"policy      {report['policy']} {report['policy_version']}, mode {mode}")
    checked = "verified" if guard["verified"] else "without manifest"
    yield harmless(f"guard       {guard['model']} ({checked}) on {guard['engine']} {guard['engine_version']}")
    yield f"took        {report['ms']} ms"


def _named(category: dict[str, Any]) -> str:
    score = "" if category["score"] is None else f" {category['score']:.4f}"
    return f"{category['code']} {category['title']}{score}"


def _covered(coverage: dict[str, int]) -> str:
    """How the conversation was cut for the guard; empty when it was not."""
    told = []
    if coverage["windows"] > 1:
        told.append(f"{coverage['windows']} text windows")
    if coverage["windows_unjudged"]:
        told.append(f"{coverage['windows_unjudged']} of them without a verdict")
    if coverage["turns_left_out"]:
        told.append(f"earlier turns left out: {coverage['turns_left_out']}")
    return ", ".join(told)
