"""What the records of the topic of policies come to: the policies in force, key by key.

Pure: the newest good record of a key counts, whatever order keys come in; a record that cannot be used
changes nothing. No sentence of here quotes a record.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import msgspec

from schemas.identifiers import FieldError
from schemas.policy import Policy
from schemas.policy_change import PolicyChange, policy_key
from workers.errors import SettingsError
from workers.policies import PolicySet

_DECODER: Final = msgspec.json.Decoder(PolicyChange)
_PLACE: Final = re.compile(r" - at `(?P<path>\$[^`]*)`\Z")
_MISSING: Final = re.compile(r"Object missing required field `(?P<name>[a-z_]+)`")


class RefusedChange(NamedTuple):
    """Why a record changes nothing."""

    field: str
    """Path of the field at fault; `$` is the whole record."""
    sentence: str


@dataclass(frozen=True, slots=True)
class Standing:
    """A policy in force, and what `ready` made of it."""

    change: PolicyChange
    policy: Policy
    ready: Any


class PolicyState:
    """The policies in force after the records so far.

    `ready` works out of a policy what judging by it needs, and raises `SettingsError` for one that this
    worker cannot judge by; None: nothing is worked out.
    """

    def __init__(self, ready: Callable[[Policy], Any] | None = None) -> None:
        self._ready = ready
        self._standing: dict[bytes, Standing] = {}

    def apply(
        self, key: bytes | None, value: bytes | None
    ) -> Literal["published", "retired"] | RefusedChange:
        """Take the next record of its key. No value is Kafka's tombstone: the policy is retired."""
        if key is None:
            return RefusedChange("$", "expected a record with a key: tenant and policy id")
        if value is None:
            self._standing.pop(key, None)
            return "retired"
        try:
            change = _DECODER.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _explained(error)
        if key != policy_key(change.tenant, change.policy_id):
            return RefusedChange("$.policy_id", "the record's key is of another tenant or policy")
        if change.policy is None:
            self._standing.pop(key, None)
            return "retired"
        try:
            ready = None if self._ready is None else self._ready(change.policy)
        except SettingsError as error:
            return RefusedChange("$.policy", f"this worker cannot judge by it: {error}")
        self._standing[key] = Standing(change, change.policy, ready)
        return "published"

    def standing(self) -> list[Standing]:
        """What is in force, in order of tenants (everybody's first) and ids."""
        return sorted(self._standing.values(), key=lambda one: (one.policy.tenant or "", one.policy.id))

    def get(self, tenant: str | None, policy_id: str) -> Standing | None:
        """What is in force of one tenant's policy id."""
        return self._standing.get(policy_key(tenant, policy_id))

    def snapshot(self, default: str, unknown: Literal["dead_letter", "default"]) -> PolicySet:
        """The policies in force, frozen. `default` and `unknown` as of `load_policies`.

        A tenant has one policy; where two authors published one each at the same time, the later one is for
        events that name none.
        """
        by_tenant: dict[str, PolicyChange] = {}
        shared: dict[str, Policy] = {}
        own: dict[tuple[str, str], Policy] = {}
        for one in self.standing():
            tenant = one.policy.tenant
            if tenant is None:
                shared[one.policy.id] = one.policy
                continue
            own[tenant, one.policy.id] = one.policy
            other = by_tenant.get(tenant)
            if other is None or one.change.changed_at >= other.changed_at:
                by_tenant[tenant] = one.change
        return PolicySet(
            by_id=MappingProxyType(shared),
            by_tenant=MappingProxyType(
                {name: own[name, change.policy_id] for name, change in by_tenant.items()}
            ),
            default=shared.get(default),
            unknown=unknown,
            own=MappingProxyType(own),
        )


def _explained(error: Exception) -> RefusedChange:
    """The place, and what this code says of it; the library's own words may quote the record."""
    if not isinstance(error, msgspec.ValidationError):
        return RefusedChange("$", "expected JSON in UTF-8")
    text = str(error)
    place = _PLACE.search(text)
    path = place["path"] if place else "$"
    if isinstance(error.__cause__, FieldError):
        for step in error.__cause__.path:
            path += f"[{step}]" if isinstance(step, int) else f".{step}"
        # A rule between fields, in words of `schemas`; those of a policy name its codes.
        inner = path.startswith(("$.policy.", "$.policy["))
        return RefusedChange(path, "breaks a rule of policies" if inner else str(error.__cause__))
    if missing := _MISSING.match(text):
        return RefusedChange(f"{path}.{missing['name']}", "missing, and required")
    return RefusedChange(path, "expected what the schema of changes of policies says (policy_change.v1)")
