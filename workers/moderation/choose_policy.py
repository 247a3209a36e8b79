"""Step 2, choose policy: the event's own → its tenant's → the default; ready for the later steps."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from guard.calibration import Scales, raw_band
from guard.errors import UnsupportedRate
from guard.profiles.catalogue import DEFAULT
from guard.profiles.profile import Profile
from guard.scores import RawBand
from schemas.decision import PolicyUsed
from schemas.event import Event
from schemas.identifiers import Mode, Role
from schemas.policy import DEFAULT_THRESHOLD, Policy, canonical_categories, judgement_hash, policy_hash
from workers.errors import SettingsError
from workers.moderation.outcome import SEVERITY, ChosenPolicy, Rejection, Yardstick
from workers.policies import NoPolicy, PolicySet

# Tenants times policies; beyond, they are looked up anew in a microsecond.
_MOST_CHOSEN: Final = 10_000
# Where nobody says how scores are read.
RAW: Final = Scales(why_raw="no calibration is in use")


class PolicyBook:
    """A snapshot of policies, made ready; an event is judged by the one in force when it was read.

    `scales` say how scores are read, and `profile` how the guard is asked. Raises `SettingsError` naming the
    policy and the field for a false-positive rate that they cannot resolve, an uncertain band that neither of
    them gives, or a mode or category that the guard does not have. `ready`: what `make_ready` gave of
    policies before, by `id`.
    """

    def __init__(
        self,
        policies: PolicySet,
        scales: Scales = RAW,
        profile: Profile = DEFAULT,
        *,
        ready: Mapping[int, ChosenPolicy] = MappingProxyType({}),
    ) -> None:
        self._policies = policies
        self._ready = {
            id(policy): ready.get(id(policy)) or make_ready(policy, scales, profile)
            for policy in _all(policies)
        }
        self._chosen: dict[tuple[str, str | None], ChosenPolicy] = {}

    @property
    def policies(self) -> PolicySet:
        """The snapshot."""
        return self._policies

    def choose(self, event: Event) -> ChosenPolicy | Rejection:
        """The policy for an event, or why there is none."""
        place = (event.tenant, event.policy)
        return self._chosen.get(place) or self._choose(place)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) that equal sets of policies share."""
        return self._policies.fingerprint

    def used(self) -> list[PolicyUsed]:
        """Every policy that may be chosen, by its id; tenants may have some of one id, with other hashes."""
        used = {(ready.used.id, ready.used.policy_hash): ready.used for ready in self._ready.values()}
        return [used[name] for name in sorted(used)]

    def _choose(self, place: tuple[str, str | None]) -> ChosenPolicy | Rejection:
        chosen = self._policies.choose(*place)
        if isinstance(chosen, NoPolicy):
            return Rejection(chosen.reason, f"$.{chosen.field}", chosen.sentence)
        if len(self._chosen) >= _MOST_CHOSEN:
            self._chosen.clear()
        ready = self._chosen[place] = self._ready[id(chosen)]
        return ready


def _all(policies: PolicySet) -> list[Policy]:
    more = [policies.default] if policies.default is not None else []
    return [*policies.all, *policies.by_tenant.values(), *more]


def make_ready(policy: Policy, scales: Scales, profile: Profile = DEFAULT) -> ChosenPolicy:
    """What is worked out of a policy once. Raises `SettingsError` as `PolicyBook` does."""
    if refused := profile.refusals(policy):
        raise SettingsError("\n".join(f"policy {policy.id!r}: {sentence}" for sentence in refused))
    mapping = profile.mapping(policy)
    used = PolicyUsed(
        id=policy.id,
        version=policy.version,
        policy_hash=policy_hash(policy),
        judgement_hash=judgement_hash(policy),
    )
    uncertain: dict[Role, RawBand] = {}
    if policy.mode == "adaptive":
        uncertain = {role: _band(policy, role, scales) for role in sorted(policy.surfaces)}
    return ChosenPolicy(
        policy=policy,
        used=used,
        surfaces=frozenset(policy.surfaces),
        by_code={category.code.casefold(): category for category in canonical_categories(policy)},
        strictest=max((category.action for category in policy.categories), key=SEVERITY.__getitem__),
        yardsticks={role: _yardstick_of(policy, role, scales) for role in policy.surfaces},
        uncertain=uncertain,
        asking=" ".join(
            [
                used.judgement_hash,
                policy.mode,
                *(f"{role}={uncertain[role]}" for role in uncertain),
                *([mapping] if mapping else []),
            ]
        ),
        mapping=mapping,
    )


def _band(policy: Policy, role: Role, scales: Scales) -> RawBand:
    """The fast scores at which the policy thinks: its own band, else that of the calibration."""
    curve = scales.curve("fast", role)
    band = policy.uncertain_band or (None if curve is None else curve.uncertain_band)
    if band is None:
        why = scales.why("fast") or "the calibration of `fast` has none"
        raise SettingsError(
            f"policy {policy.id!r}: mode: `adaptive` needs to know where it thinks: expected an "
            f"`uncertain_band` in the policy, since {why}; `rsafe train evaluate` fits a calibration"
        )
    return raw_band(band, curve)


def _yardstick_of(policy: Policy, role: Role, scales: Scales) -> Yardstick:
    if policy.mode != "adaptive":
        return _yardstick(policy, role, scales, policy.mode)
    think, fast = (_yardstick(policy, role, scales, way) for way in ("think", "fast"))
    return msgspec.structs.replace(think, fast=fast)


def _yardstick(policy: Policy, role: Role, scales: Scales, way: Mode) -> Yardstick:
    threshold = DEFAULT_THRESHOLD if policy.threshold is None else policy.threshold
    if policy.max_false_positive_rate is not None:
        threshold = _resolve(policy, role, scales, way, "", policy.max_false_positive_rate)
    by_code: dict[str, float] = {}
    for category in policy.categories:
        name = category.code.casefold()
        by_code[name] = threshold if category.threshold is None else category.threshold
        if category.max_false_positive_rate is not None:
            place = f"category {category.code}: "
            by_code[name] = _resolve(policy, role, scales, way, place, category.max_false_positive_rate)
    return Yardstick(scales.curve(way, role), threshold, by_code)


def _resolve(policy: Policy, role: Role, scales: Scales, way: Mode, place: str, rate: float) -> float:
    """The score that at most such a share of safe messages reaches.

    With `adaptive` it is half the rate for each way: a message takes one of them, so the share that reaches
    its way's threshold is at most the sum of the shares that would reach either (a union bound).
    """
    field = f"policy {policy.id!r}: {place}max_false_positive_rate"
    curve = scales.curve(way, role)
    if curve is None:
        raise SettingsError(
            f"{field}: expected a `threshold` in its place, since {scales.why(way)}; "
            "`rsafe train evaluate` fits a calibration"
        )
    try:
        return curve.threshold(rate / 2 if policy.mode == "adaptive" else rate)
    except UnsupportedRate as error:
        if policy.mode == "adaptive":
            raise SettingsError(
                f"{field}: expected at least {2 * curve.smallest_rate:g} with the mode `adaptive`, twice the "
                f"smallest rate that the calibration's {curve.safe} safe rows support ({way}, role {role})"
            ) from error
        raise SettingsError(f"{field}: {error} (mode {way}, role {role})") from error
