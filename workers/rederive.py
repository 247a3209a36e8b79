"""From a decision back to the prompts that the guard read, for an auditor. Nothing here asks an engine.

A decision holds no text. It holds hashes of all that a prompt is made of: of the message (`content_mac`), of
the turns before it (`context_digest`), of the policy and of the checkpoint, and, in `guard.decoding`, the
limits and the form of texts. So event, policy and checkpoint are recognised as those of the decision, and
the same code makes the same prompts of them again, mark for mark.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable

import msgspec

from guard.checkpoint import Checkpoint
from guard.profiles.rendering import make_renderer
from guard.serving.fitting import Fitted, Fitting, Prompt
from guard.serving.identity import GuardIdentity, JudgeLimits, read_limits
from guard.serving.question import Question
from schemas.decision import Decision, GuardUsed
from schemas.event import Event
from schemas.policy import Policy, policy_hash
from schemas.verdict import Unjudged
from workers.errors import UsageError
from workers.judging import prompt_secret
from workers.moderation.ask_guard import question_about
from workers.moderation.fingerprint import TenantFingerprints
from workers.moderation.normalise_event import as_read


class NotOfDecision(UsageError):
    """Event, policy, checkpoint or guard are not the decision's; the sentence begins with the field."""


class Rebuilt(msgspec.Struct, frozen=True):
    """What was asked, within which limits, and the prompts of it."""

    question: Question
    limits: JudgeLimits
    fitted: Fitted | Unjudged
    """The prompts; `prompt_too_long` where there was none."""


def prompts_of(
    event: Event, policy: Policy, checkpoint: Checkpoint, *, key: bytes, limits: JudgeLimits
) -> Fitted | Unjudged:
    """The token ids that the guard reads of an event, as the judge makes them; `key` is the content key.

    One prompt, or one for each text window, newest first. Each ends in the template's `<think>`, and every
    call of the engine begins with one of them; `fast` asks with `PromptRenderer.fast_suffix` behind it.
    """
    question = question_about(as_read(event), policy)
    renderer = make_renderer(checkpoint.path, checkpoint.template, prompt_secret(key), checkpoint.profile)
    fitting = Fitting(renderer, limits)
    try:
        return fitting.fit_now(question.policy, question.turns, question.mode)
    finally:
        fitting.close()


def rebuild(
    decision: Decision, event: Event, policies: Iterable[Policy], checkpoint: Checkpoint, *, key: bytes
) -> Rebuilt:
    """The question of a decision and its prompts; the policy is found among `policies` by its hash.

    Raises `NotOfDecision` naming the field by which event, policy, checkpoint or key do not belong to it.
    """
    guard = _guard_of(decision)
    limits = limits_of(guard)
    require_checkpoint(guard, checkpoint)
    require_event(decision, event, key)
    policy = policy_of(decision, policies)
    fitted = prompts_of(event, policy, checkpoint, key=key, limits=limits)
    return Rebuilt(question_about(as_read(event), policy), limits, fitted)


def _guard_of(decision: Decision) -> GuardUsed:
    if decision.guard is None:
        raise NotOfDecision("guard: absent; nothing was asked about this event, so there is no prompt of it")
    return decision.guard


def limits_of(guard: GuardUsed) -> JudgeLimits:
    """The limits that a decision names. Raises `NotOfDecision` where this version would not ask so."""
    try:
        limits = read_limits(guard.decoding)
    except ValueError:
        raise NotOfDecision("guard.decoding: expected the text of a version that names its limits") from None
    again = GuardIdentity(
        model=guard.model,
        checkpoint_digest=guard.checkpoint_digest,
        weights_digest=guard.weights_digest,
        verified=guard.verified,
        template_version=guard.template_version,
        parser_version=guard.parser_version,
        engine=guard.engine,
        engine_version=guard.engine_version,
        limits=limits,
    ).decoding(guard.mode)
    if again != guard.decoding:
        raise NotOfDecision(
            f"guard.decoding: expected {again!r}, which is how this version of the worker would ask; "
            "the version that made the decision rebuilds it"
        )
    return limits


def require_checkpoint(guard: GuardUsed, checkpoint: Checkpoint) -> None:
    """Raises `NotOfDecision` unless its prompts and answers would be those of the decision's checkpoint."""
    if checkpoint.weights_digest != guard.weights_digest:
        raise NotOfDecision(
            f"guard.weights_digest: the checkpoint {checkpoint.path} has {checkpoint.weights_digest}; "
            f"expected {guard.weights_digest} ({guard.model})"
        )
    if checkpoint.template_version != guard.template_version:
        raise NotOfDecision(
            f"guard.template_version: the prompt template is {checkpoint.template_version!r}; "
            f"expected {guard.template_version!r}"
        )


def require_event(decision: Decision, event: Event, key: bytes) -> None:
    """Raises `NotOfDecision` unless the event is the one that was decided, text for text."""
    message = event.message
    for field, here, there in (
        ("event_id", event.event_id, decision.event_id),
        ("tenant", event.tenant, decision.tenant),
        ("conversation_id", event.conversation_id, decision.conversation_id),
        ("message_id", message.id, decision.message_id),
        ("role", message.role, decision.role),
    ):
        if here != there:
            raise NotOfDecision(f"{field}: the event has another one than the decision")
    fingerprints = TenantFingerprints(key).of(event.tenant)
    if not _same(fingerprints.text(message.text), decision.content_mac):
        raise NotOfDecision(
            "content_mac: the event's text is another than was judged, or RSAFE_SECRETS__CONTENT_KEY is "
            "not the key of then"
        )
    if not _same(fingerprints.context(as_read(event).context), decision.coverage.context_digest):
        raise NotOfDecision("coverage.context_digest: the event's context is another than was read")


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def policy_of(decision: Decision, policies: Iterable[Policy]) -> Policy:
    """The policy that was applied, found by its hash. Raises `NotOfDecision` when it is not among them."""
    used = decision.policy
    for policy in policies:
        if policy_hash(policy) == used.policy_hash:
            return policy
    raise NotOfDecision(
        f"policy.policy_hash: no policy given has {used.policy_hash}; expected policy {used.id!r}, version "
        f"{used.version!r}, as it was when the event was judged"
    )


def require_guard(guard: GuardUsed, identity: GuardIdentity) -> None:
    """Raises `NotOfDecision` unless answers of this guard mean what the decision's meant."""
    for field, here, there in (
        ("engine", identity.engine, guard.engine),
        ("parser_version", identity.parser_version, guard.parser_version),
        ("decoding", identity.decoding(guard.mode), guard.decoding),
    ):
        if here != there:
            raise NotOfDecision(f"guard.{field}: this guard has {here!r}; expected {there!r}")


def prompt_digest(prompt: Prompt) -> str:
    """SHA-256 (hex) over the token ids, each as four bytes, the lowest first."""
    return hashlib.sha256(struct.pack(f"<{len(prompt)}I", *prompt)).hexdigest()
