"""Which policy's rules count a decision. The seam to where policies come from."""

from __future__ import annotations

from schemas.policy import Policy
from workers.conduct.levels import PolicyOf
from workers.policies import PolicySet


def policy_of(policies: PolicySet) -> PolicyOf:
    """The rules in force by a decision's tenant and policy id; never a policy of another tenant."""

    def find(tenant: str, policy_id: str) -> Policy | None:
        policy = policies.own.get((tenant, policy_id)) or policies.by_id.get(policy_id)
        return policy if policy is not None and policy.tenant in (None, tenant) else None

    return find
