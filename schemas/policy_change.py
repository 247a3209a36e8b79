"""A policy change: a policy as it was published, or that it was retired (topic `moderation.policies`).

The newest change of a tenant's policy id counts. Who and why are what the author gave. A change is refused
as a whole when its policy and what it says of it do not agree.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from schemas.identifiers import FieldError, Identifier, Sha256, Timestamp
from schemas.keys import record_key
from schemas.policy import Policy, judgement_hash, policy_hash

Change = Literal["published", "retired"]
Sentence = Annotated[str, Meta(min_length=1, max_length=2000)]
_OF_THE_POLICY: Final = (("policy_id", "id"), ("tenant", "tenant"), ("version", "version"))


class PolicyChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One change of one policy. Unknown fields are refused: they may say more than this version reads."""

    change_id: Sha256
    """Hash of what was changed, by whom and when."""
    change: Change
    """`published`: in force from now on. `retired`: not in force any more."""
    policy_id: Identifier
    """Id of the policy."""
    tenant: Identifier | None = None
    """The tenant whose policy it is; absent: everybody's."""
    version: Identifier
    """Version that was published, or that was in force when it was retired."""
    policy_hash: Sha256
    """Hash of the rules as an auditor reads them, of that version."""
    judgement_hash: Sha256
    """Hash of what the model reads, of that version."""
    changed_by: Identifier
    """Who changed it, as given."""
    why: Sentence
    """Why, as given."""
    changed_at: Timestamp
    """When, by the clock of whoever published it."""
    policy: Policy | None = None
    """The policy; absent where it was retired."""

    def __post_init__(self) -> None:
        policy = self.policy
        if self.change == "retired":
            if policy is not None:
                raise FieldError("expected none where it was retired", "policy")
            return
        if policy is None:
            raise FieldError("missing, and required where it was published", "policy")
        for field, name in _OF_THE_POLICY:
            if getattr(self, field) != getattr(policy, name):
                raise FieldError(f"expected the policy's {name}", field)
        if self.policy_hash != policy_hash(policy):
            raise FieldError("expected the hash of the policy", "policy_hash")
        if self.judgement_hash != judgement_hash(policy):
            raise FieldError("expected the hash of what the model reads of the policy", "judgement_hash")


def policy_key(tenant: str | None, policy_id: str) -> bytes:
    """Tenant and policy id as a record's key, made as every key; of everybody's policy the tenant is empty.

    >>> policy_key(None, "community"), policy_key("acme", "strict/1")
    (b'/community', b'acme/strict%2F1')
    """
    return record_key(tenant or "", policy_id)


def change_id(change: PolicyChange) -> str:
    """SHA-256 (hex) of all but the id and the policy, whose hash is among them, as a JSON array."""
    names = (name for name in change.__struct_fields__ if name not in ("change_id", "policy"))
    return hashlib.sha256(msgspec.json.encode([getattr(change, name) for name in names])).hexdigest()
