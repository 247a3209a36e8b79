"""`rsafe rederive`: from a decision and its event back to what the guard read, and to its verdict."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from guard.serving.fitting import Fitted
from guard.serving.judge import Judge
from guard.serving.question import Question
from schemas.decision import Decision, GuardUsed
from schemas.policy import Policy
from schemas.verdict import Unjudged, Verdict
from workers.commands.event_file import read_event_file
from workers.commands.judge_start import results_alone_on_stdout, started
from workers.errors import UsageError
from workers.judging import content_key, guards_used, make_judge, stored_checkpoint, stored_scales
from workers.moderation.choose_policy import make_ready
from workers.moderation.make_decision import weigh
from workers.moderation.outcome import ChosenPolicy, Judged, NotJudged, Weighed
from workers.policy_files import read_policy_file
from workers.published_policies import loaded_policies
from workers.rederive import Rebuilt, prompt_digest, rebuild, require_guard
from workers.settings import Settings, load_settings
from workers.terminal import harmless

# Beside the codes of `workers.errors`: it was judged again, and something is otherwise.
EXIT_DIFFERS: Final = 1
# Scores this far apart are one score: the engine's sums hang on what else is in its batch. The page on
# re-derivation has what was measured.
TOLERANCE: Final = 0.01
_PLACE: Final = re.compile(r" - at `(\$[a-z_.]*)`\Z")


@click.command()
@click.argument("decision", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("event", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--policy",
    "policy_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the policy as it was then; else the loaded ones.",
)
@click.option("--prompt-only", is_flag=True, help="Rebuild the prompts and judge nothing.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1),
    default=TOLERANCE,
    show_default=True,
    help="How far apart two scores may lie and agree.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def rederive(
    decision: Path,
    event: Path,
    policy_file: Path | None,
    prompt_only: bool,
    tolerance: float,
    as_json: bool,
) -> None:
    """Rebuild the prompts of DECISION from EVENT, judge again, and say whether the verdict agrees.

    Both are files with one JSON object, as they stood on their topics. Checkpoint and content key are those
    of the settings, the limits are the decision's. Something that does not belong to the decision is refused
    by the name of the field. No text is shown. Exits with 0 when all agrees, and with 1 when it does not.
    """
    settings = load_settings()
    decided, asked = _read_decision(decision), read_event_file(event, settings)
    checkpoint = stored_checkpoint(settings.guard)
    key = content_key(settings.secrets)
    rebuilt = rebuild(decided, asked, _policies(settings, policy_file), checkpoint, key=key)
    report: dict[str, Any] = {"decision_id": decided.decision_id, "prompts": _prompts(rebuilt)}
    if not prompt_only:
        scales = stored_scales(settings.guard, checkpoint)
        judge = make_judge(settings.guard, checkpoint, scales, key, limits=rebuilt.limits)
        assert decided.guard is not None
        require_guard(decided.guard, judge.identity)
        used = guards_used(judge, scales)[decided.guard.mode]
        chosen = make_ready(rebuilt.question.policy, scales, checkpoint.profile)
        # With `adaptive` it thinks where the policy or this calibration says so; for another one the way may
        # differ, and then that is said.
        question = msgspec.structs.replace(rebuilt.question, uncertain=chosen.uncertain.get(decided.role))
        with results_alone_on_stdout():
            outcome = asyncio.run(_ask(judge, question))
        again = judged_again(outcome, used, chosen, decided)
        same_calibration = used.calibration_digest == decided.guard.calibration_digest
        report["compared"] = compare(decided, again, tolerance, action=same_calibration)
        report["engine_version"] = {"then": decided.guard.engine_version, "now": used.engine_version}
        report["agrees"] = all(one["agrees"] for one in report["compared"].values())
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        for line in _lines(report):
            click.echo(harmless(line))
    if not report.get("agrees", True):
        raise click.exceptions.Exit(EXIT_DIFFERS)


async def _ask(judge: Judge, question: Question) -> Verdict | Unjudged:
    async with started(judge):
        return await judge.judge(question)


def judged_again(
    outcome: Verdict | Unjudged, used: GuardUsed, chosen: ChosenPolicy, decided: Decision
) -> Weighed:
    """The outcome under the policy, as a decision would have it."""
    answer = NotJudged(outcome, used) if isinstance(outcome, Unjudged) else Judged(outcome, used, "")
    return weigh(answer, chosen, decided.role)


def compare(then: Decision, now: Weighed, tolerance: float, *, action: bool) -> dict[str, dict[str, Any]]:
    """Field → what the decision says, what was found now, and whether they agree.

    Scores are compared raw. `action`: whether it is compared, too; only where scores are read alike.
    """
    pairs: dict[str, tuple[Any, Any]] = {
        "status": (then.status, now.status),
        "label": (then.label, now.label),
        "answered_in": (then.answered_in, now.answered_in),
        "raw_score": (_raw(then), _raw(now)),
        "codes": ([one.code for one in then.categories], [one.code for one in now.categories]),
        "windows": (then.coverage.windows, now.windows),
        "turns_left_out": (then.coverage.turns_left_out, now.turns_left_out),
    }
    if then.status == "unjudged":
        pairs["reason"] = (then.reason, now.reason)
    if action:
        pairs["action"] = (then.action, now.action)
    return {
        field: {"then": one, "now": other, "agrees": _agree(field, one, other, tolerance)}
        for field, (one, other) in pairs.items()
    }


def _agree(field: str, one: Any, other: Any, tolerance: float) -> bool:
    if field == "raw_score" and one is not None and other is not None:
        return abs(float(one) - float(other)) <= tolerance
    return bool(one == other)


def _raw(decided: Decision | Weighed) -> float | None:
    return decided.score if decided.raw_score is None else decided.raw_score


def _prompts(rebuilt: Rebuilt) -> list[dict[str, Any]]:
    prompts = rebuilt.fitted.prompts if isinstance(rebuilt.fitted, Fitted) else ()
    return [{"tokens": len(prompt), "sha256": prompt_digest(prompt)} for prompt in prompts]


def _lines(report: dict[str, Any]) -> Iterator[str]:
    for prompt in report["prompts"]:
        yield f"prompt      {prompt['tokens']} tokens, SHA-256 {prompt['sha256']}"
    if not report["prompts"]:
        yield "prompt      none: the question fits no prompt"
    if "compared" not in report:
        return
    for field, one in report["compared"].items():
        both = f"{_shown(one['then'])} then, {_shown(one['now'])} now"
        yield f"{field:<15} {'agrees ' if one['agrees'] else 'DIFFERS'} {both}"
    version = report["engine_version"]
    if version["then"] != version["now"]:
        yield f"the engine was {version['then']} then and is {version['now']} now"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "-"
    return "-" if value is None else str(value)


def _read_decision(path: Path) -> Decision:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Decision)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # msgspec's own message may quote the file.
        place = _PLACE.search(str(error))
        where = f" at {place[1]}" if place else ""
        raise UsageError(f"{path}: expected a decision as on its topic{where}") from None


def _policies(settings: Settings, path: Path | None) -> list[Policy]:
    if path is not None:
        return [found.policy for found in read_policy_file(path)]
    return loaded_policies(settings, default="").all
