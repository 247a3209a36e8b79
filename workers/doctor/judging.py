"""Policies and checkpoint: each alone, and whether they fit each other and the engine. Loads no model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from guard.calibration import Scales
from guard.checkpoint import Checkpoint
from guard.errors import GuardError
from guard.serving.judge import Judge
from guard.serving.question import MODES
from schemas.policy import Policy, judgement_hash, policy_hash
from workers.doctor.findings import Finding, not_checked, ok, problem, warning
from workers.errors import StartError, StreamStopped, WorkerError
from workers.judging import content_key, make_judge, stored_checkpoint, stored_scales, trusted_key_ids
from workers.moderation.choose_policy import PolicyBook
from workers.policies import PolicySet
from workers.published_policies import loaded_policies
from workers.settings import Settings

# The share of the guard's length that a policy may take before messages of usual length need text windows.
_LONG_POLICY: Final = 0.5


def policy_findings(settings: Settings) -> tuple[list[Finding], PolicySet | None]:
    """What is wrong with the policies of the settings' source, a line each; and they where nothing is."""
    files = settings.policies.source == "files"
    try:
        loaded = loaded_policies(settings)
    except (StartError, StreamStopped) as error:  # of the topic alone: its broker is checked for itself
        why = f"the topic {settings.kafka.policies_topic} cannot be read: {error}"
        return [not_checked("policies", why, "look again when the broker answers")], None
    except WorkerError as error:
        mend = "mend the file and look with `rsafe policy check`" if files else "publish the policy"
        return [problem("policies", line, mend) for line in str(error).splitlines()], None
    found = list(_of_policies(loaded, settings))
    default = settings.policies.default
    if default and loaded.default is None:  # only of the topic: files without it are refused above
        mend = "publish it with `rsafe policy publish`, or name another one"
        topic = settings.kafka.policies_topic
        what = f"RSAFE_POLICIES__DEFAULT: topic {topic} holds no policy {default!r} for everybody"
        return [*found, problem("policies", f"{what}: no worker starts", mend)], None
    return found, loaded


def _of_policies(loaded: PolicySet, settings: Settings) -> Iterator[Finding]:
    source = settings.policies.path or "the packs of this package"
    if settings.policies.source == "topic":
        source = f"the topic {settings.kafka.policies_topic}"
    yield ok("policies", f"{len(loaded.all)} loaded from {source}, fingerprint {loaded.fingerprint[:12]}")
    for policy in loaded.all:
        tenant = f" of tenant {policy.tenant}" if policy.tenant is not None else ""
        yield ok(
            "policies",
            f"{policy.id} {policy.version}{tenant}: {len(policy.categories)} categories, {policy.mode}, "
            f"policy hash {policy_hash(policy)[:12]}, judgement hash {judgement_hash(policy)[:12]}",
        )
        yield from _of_policy(policy)
    if not settings.policies.default:
        yield warning(
            "policies",
            "there is no default: events of tenants without a policy become dead letters",
            "name one in RSAFE_POLICIES__DEFAULT, unless that is meant",
        )


def _of_policy(policy: Policy) -> Iterator[Finding]:
    for field, what in (
        ("on_unjudged", "could not be judged"),
        ("on_unavailable", "came while the guard was down"),
    ):
        if getattr(policy, field) == "allow":
            yield warning(
                "policies",
                f"{policy.id}: {field} is `allow`: a message that {what} is let through",
                f"set {field} to `review`, unless that is meant",
            )


def checkpoint_findings(settings: Settings, policies: PolicySet | None) -> tuple[list[Finding], Judge | None]:
    """What is wrong with the checkpoint, alone and with policies and engine; and the judge, not started."""
    try:
        checkpoint = stored_checkpoint(settings.guard)
    except (GuardError, WorkerError) as error:
        mend = "look with `rsafe checkpoint verify`, and put the files back as they were released"
        return [problem("checkpoint", str(error), mend)], None
    found = list(_of_checkpoint(checkpoint, settings))
    try:
        scales = stored_scales(settings.guard, checkpoint)
    except GuardError as error:
        mend = "use the calibration that was fitted for these weights, or RSAFE_GUARD__CALIBRATION=off"
        return [*found, problem("checkpoint", str(error), mend)], None
    found += _of_scales(scales)
    try:
        judge = make_judge(settings.guard, checkpoint, scales, content_key(settings.secrets))
    except (GuardError, WorkerError) as error:
        mend = "change the checkpoint, or the setting that the sentence names"
        return [*found, problem("checkpoint", str(error), mend)], None
    if policies is not None:
        found += _fit(policies, scales, checkpoint, judge, settings)
    return found, judge


def _of_checkpoint(checkpoint: Checkpoint, settings: Settings) -> Iterator[Finding]:
    digests = f"digest {checkpoint.checkpoint_digest[:12]}, weights {checkpoint.weights_digest[:12]}"
    name = f"{checkpoint.name}, {digests}"
    if checkpoint.verified:
        yield ok("checkpoint", f"{name}: every file is what its manifest says")
    else:
        yield warning(
            "checkpoint",
            f"{name}: it has no manifest, so that nobody can say whether its files are whole",
            "take one that `rsafe train` has packaged, which writes a manifest",
        )
    if keys := trusted_key_ids(settings.guard):
        yield ok("checkpoint", f"signed by one of {len(keys)} trusted keys")


def _of_scales(scales: Scales) -> Iterator[Finding]:
    raw = {mode: why for mode in MODES if (why := scales.why(mode))}
    if not raw:
        yield ok("checkpoint", "scores are calibrated in every mode")
    for why in dict.fromkeys(raw.values()):
        modes = ", ".join(mode for mode, other in raw.items() if other == why)
        yield not_checked("checkpoint", f"scores of {modes} are raw: {why}")


def _fit(
    policies: PolicySet, scales: Scales, checkpoint: Checkpoint, judge: Judge, settings: Settings
) -> Iterator[Finding]:
    try:
        PolicyBook(policies, scales, checkpoint.profile)
    except WorkerError as error:
        for line in str(error).splitlines():
            yield problem("policies", line, "change the policy, or use a checkpoint that can do it")
        return
    length = settings.guard.max_model_len or checkpoint.max_model_len
    longest = max(_lengths(policies.by_id.values(), judge), default=(0, ""))
    tokens, name = longest
    if tokens >= length:
        yield problem(
            "policies",
            f"{name}: task and policy are {tokens} tokens, and the guard reads {length}: no message fits",
            "shorten its definitions, or use a checkpoint that reads more",
        )
    elif tokens > _LONG_POLICY * length:
        yield warning(
            "policies",
            f"{name}: task and policy are {tokens} of the {length} tokens that the guard reads",
            "shorten its definitions, or long messages are judged in many text windows",
        )
    else:
        yield ok("policies", f"all fit the guard: the longest, {name}, takes {tokens} of {length} tokens")


def _lengths(policies: Iterable[Policy], judge: Judge) -> Iterator[tuple[int, str]]:
    for policy in policies:
        for question in judge.renderer.questions(policy):
            yield len(judge.renderer.system_of(question)), policy.id
