"""A message → its result: the policy that applies, the guard's verdict, and what the policy makes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

from guard.calibration import Scales
from guard.profiles.catalogue import DEFAULT
from guard.profiles.profile import Profile
from guard.prompt import Turn, as_read
from guard.rationale import mask
from guard.serving.question import Question
from schemas.decision import CategoryDecision, GuardUsed, ScoreKind
from schemas.identifiers import Action, Label, Mode, Way
from schemas.policy import Policy
from schemas.verdict import Step, Unjudged, Verdict
from workers.lines.read import Line, Message
from workers.moderation.ask_guard import ask_guard
from workers.moderation.choose_policy import make_ready
from workers.moderation.make_decision import weigh
from workers.moderation.outcome import ChosenPolicy, Judged, NotApplicable, NotJudged, Rejection, Weighed
from workers.policies import NoPolicy, PolicySet
from workers.ports import Guard, RationaleForm
from workers.stream.budget import Claim, GuardBudget

Status = Literal["judged", "unjudged", "not_applicable", "error"]


class LineCoverage(msgspec.Struct, frozen=True, kw_only=True):
    """How the conversation was cut for the guard."""

    windows: int
    windows_unjudged: int
    turns_left_out: int


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is written of a line; fields that it has no value for are left out. Never the text."""

    line: int
    """The line, from 1; empty lines count."""
    status: Status
    id: str | None = None
    """The event's id, or the line's own."""
    action: Action | None = None
    """What the policy says shall be done."""
    label: Label | None = None
    answered_in: Way | None = None
    """With `adaptive`, which way it went."""
    score: float | None = None
    score_kind: ScoreKind | None = None
    raw_score: float | None = None
    threshold: float | None = None
    categories: tuple[CategoryDecision, ...] = ()
    rationale: str | None = None
    reason: str | None = None
    """Why there is no verdict, or why the line was not read."""
    detail: str | None = None
    field: str | None = None
    """Of a line that was not read: the field at fault, `$` for the line."""
    expected: str | None = None
    """Of a line that was not read: what the field should have been."""
    policy: str | None = None
    policy_version: str | None = None
    mode: Mode | None = None
    coverage: LineCoverage | None = None
    steps: tuple[Step, ...] = ()
    ms: float | None = None
    """How long the guard took."""
    model: str | None = None
    engine: str | None = None
    input: str
    """A keyed digest of the line."""
    run: str
    """A keyed digest of all that decides what comes of a line: guard, policies, options."""


class LinePolicies:
    """Which policy a message is judged by.

    `only`: that one, whatever a line names. Else an event's as the worker chooses it, and that which any
    other line names, whosever it is, else the default. `mode` replaces theirs. Raises `SettingsError` for a
    false-positive rate that `scales` cannot resolve, or what a guard of the profile cannot do.
    """

    def __init__(
        self,
        loaded: PolicySet,
        scales: Scales,
        *,
        only: Policy | None,
        mode: Mode | None,
        profile: Profile = DEFAULT,
    ) -> None:
        self._loaded, self._only = loaded, only
        policies = self._policies = [only] if only is not None else loaded.all
        self._ready = MappingProxyType(
            {
                id(policy): make_ready(
                    msgspec.structs.replace(policy, mode=mode or policy.mode), scales, profile
                )
                for policy in policies
            }
        )

    def choose(self, message: Message) -> ChosenPolicy | Rejection:
        """The policy, or why there is none."""
        if self._only is not None:
            return self._ready[id(self._only)]
        named = None
        if message.tenant is None and message.policy is not None:
            named = self._loaded.by_id.get(message.policy)
        chosen = named or self._loaded.choose(message.tenant or "", message.policy)
        if isinstance(chosen, NoPolicy):
            return Rejection(chosen.reason, f"$.{chosen.field}", chosen.sentence)
        return self._ready[id(chosen)]

    @property
    def hashes(self) -> dict[str, str]:
        """By id, the hash of each policy as it is used, its mode included."""
        return {self._name(one): self._ready[id(one)].used.policy_hash for one in self._policies}

    def _name(self, policy: Policy) -> str:
        """The id; behind its tenant where others may have it, too. No id has a line break."""
        owned = policy.tenant is not None and (policy.tenant, policy.id) in self._loaded.own
        return f"{policy.tenant}\n{policy.id}" if owned else policy.id


class Answering:
    """Answers lines, at most `budget` of them at the guard at a time."""

    def __init__(
        self,
        guard: Guard,
        policies: LinePolicies,
        budget: GuardBudget,
        *,
        read: Callable[[Line], Message | Rejection],
        rationale: RationaleForm,
        guards: Mapping[Mode, GuardUsed],
        run: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._guard, self._policies, self._budget, self._read = guard, policies, budget, read
        self._rationale, self._guards, self._run, self._clock = rationale, guards, run, clock

    async def result(self, line: Line) -> Result:
        """The line's result, whatever it holds. Raises `EngineDead` when the guard is down."""
        message = self._read(line)
        if isinstance(message, Rejection):
            return self._refused(line, message)
        chosen = self._policies.choose(message)
        if isinstance(chosen, Rejection):
            return self._refused(line, chosen, message.id)
        if message.turns[-1].role not in chosen.surfaces:
            return self._weighed(line, message, chosen, weigh(NotApplicable(), chosen, "user"))
        question = Question(
            policy=chosen.policy,
            turns=as_read(message.turns),
            mode=chosen.policy.mode,
            uncertain=chosen.uncertain.get(message.turns[-1].role),
        )
        async with self._budget.hold(Claim(self._guard.estimate_tokens(question))):
            asked_s = self._clock()
            answer = await ask_guard(question, self._guard)
            ms = round((self._clock() - asked_s) * 1000, 1)
        used = self._guards[question.mode]
        known = NotJudged(answer, used) if isinstance(answer, Unjudged) else Judged(answer, used, "")
        weighed = weigh(known, chosen, message.turns[-1].role)
        rationale = None
        if isinstance(answer, Verdict):
            rationale = self._told(answer.rationale, (*message.turns, *question.turns))
        return self._weighed(
            line, message, chosen, weighed, steps=answer.steps, rationale=rationale or None, ms=ms
        )

    def _told(self, rationale: str, turns: tuple[Turn, ...]) -> str:
        if self._rationale == "off" or not rationale:
            return ""
        if self._rationale == "full":
            return rationale
        return mask(rationale, dict.fromkeys(turn.text for turn in turns))

    def _weighed(
        self,
        line: Line,
        message: Message,
        chosen: ChosenPolicy,
        weighed: Weighed,
        *,
        steps: tuple[Step, ...] = (),
        rationale: str | None = None,
        ms: float | None = None,
    ) -> Result:
        asked = weighed.status != "not_applicable"
        return Result(
            line=line.number,
            status=weighed.status,
            id=message.id,
            action=weighed.action,
            label=weighed.label,
            answered_in=weighed.answered_in,
            score=weighed.score,
            score_kind=weighed.score_kind,
            raw_score=weighed.score if weighed.score_kind == "raw" else weighed.raw_score,
            threshold=weighed.threshold,
            categories=weighed.categories,
            rationale=rationale,
            reason=weighed.reason,
            detail=weighed.detail,
            policy=chosen.used.id,
            policy_version=chosen.used.version,
            mode=chosen.policy.mode if asked else None,
            coverage=LineCoverage(
                windows=weighed.windows,
                windows_unjudged=weighed.windows_unjudged,
                turns_left_out=weighed.turns_left_out,
            )
            if asked
            else None,
            steps=steps,
            ms=ms,
            model=weighed.guard.model if weighed.guard is not None else None,
            engine=weighed.guard.engine if weighed.guard is not None else None,
            input=line.mac,
            run=self._run,
        )

    def _refused(self, line: Line, rejection: Rejection, id_: str | None = None) -> Result:
        return Result(
            line=line.number,
            status="error",
            id=id_,
            reason=rejection.reason,
            field=rejection.field,
            expected=rejection.sentence,
            input=line.mac,
            run=self._run,
        )
