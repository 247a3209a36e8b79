"""Step 2, choose policy: the event's own → its tenant's → the default; ready for the later steps."""

from __future__ import annotations

from typing import Final

from schemas.decision import PolicyUsed
from schemas.event import Event
from schemas.policy import Policy, canonical_categories, judgement_hash, policy_hash
from workers.moderation.outcome import SEVERITY, ChosenPolicy, Rejection
from workers.policies import NoPolicy, PolicySet

# Tenants times policies; beyond, they are looked up anew in a microsecond.
_MOST_CHOSEN: Final = 10_000


class PolicyBook:
    """A snapshot of policies, made ready; an event is judged by the one in force when it was read."""

    def __init__(self, policies: PolicySet) -> None:
        self._policies = policies
        self._ready = {id(policy): _make_ready(policy) for policy in _all(policies)}
        self._chosen: dict[tuple[str, str | None], ChosenPolicy] = {}

    def choose(self, event: Event) -> ChosenPolicy | Rejection:
        """The policy for an event, or why there is none."""
        place = (event.tenant, event.policy)
        return self._chosen.get(place) or self._choose(place)

    def _choose(self, place: tuple[str, str | None]) -> ChosenPolicy | Rejection:
        chosen = self._policies.choose(*place)
        if isinstance(chosen, NoPolicy):
            return Rejection(chosen.reason, f"$.{chosen.field}", chosen.sentence)
        if len(self._chosen) >= _MOST_CHOSEN:
            self._chosen.clear()
        ready = self._chosen[place] = self._ready[id(chosen)]
        return ready

    @property
    def chosen(self) -> list[ChosenPolicy]:
        """Every policy of the snapshot."""
        return list(self._ready.values())


def _all(policies: PolicySet) -> list[Policy]:
    more = [policies.default] if policies.default is not None else []
    return [*policies.by_id.values(), *policies.by_tenant.values(), *more]


def _make_ready(policy: Policy) -> ChosenPolicy:
    used = PolicyUsed(
        id=policy.id,
        version=policy.version,
        policy_hash=policy_hash(policy),
        judgement_hash=judgement_hash(policy),
    )
    return ChosenPolicy(
        policy=policy,
        used=used,
        surfaces=frozenset(policy.surfaces),
        by_code={category.code.casefold(): category for category in canonical_categories(policy)},
        strictest=max((category.action for category in policy.categories), key=SEVERITY.__getitem__),
    )
