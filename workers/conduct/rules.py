"""Which rules count a decision: those of its policy's version.

A rule is known by the hash of its content, with policy and tenant. A decision carries the hashes of the rules
that count it; a rule adds up the decisions that carry its hash, and no others. So a changed rule applies to
the decisions that were made by it, and what is counted does not depend on when a process heard of the change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from schemas.conduct import ConductRule
from schemas.policy import Policy, policy_hash
from workers.conduct.levels import kept_s, rule_digest


class Rules:
    """Every version of a policy that this process has seen, and which of them are in force."""

    def __init__(self, policies: Iterable[Policy] = ()) -> None:
        self._in_force: dict[tuple[str | None, str], Policy] = {}
        self._versions: dict[str, Policy] = {}
        # By identity: `policy` gives no others than those that are kept here.
        self._of: dict[int, list[tuple[str, ConductRule]]] = {}
        self._rules: dict[str, tuple[Policy, ConductRule]] = {}
        self.longest_s = 0
        """For how long the rules seen so far need a decision, in seconds."""
        self.use(policies)

    def learn(self, policy: Policy) -> None:
        """A version, in force or not. Of two with one hash the first one stays. May be called in a thread."""
        digest = policy_hash(policy)
        if digest in self._versions:
            return
        rules = [] if policy.conduct is None else policy.conduct.rules
        self._of[id(policy)] = [(rule_digest(policy, rule), rule) for rule in rules]
        for name, rule in self._of[id(policy)]:
            self._rules.setdefault(name, (policy, rule))
            self.longest_s = max(self.longest_s, kept_s(rule))
        self._versions[digest] = policy

    def use(self, policies: Iterable[Policy]) -> None:
        """These are in force from now on."""
        found = {}
        for policy in policies:
            self.learn(policy)
            found[policy.tenant, policy.id] = self._versions[policy_hash(policy)]
        self._in_force = found

    def knows(self, digest: str) -> bool:
        """Whether the version with this `policy_hash` was seen."""
        return digest in self._versions

    def policy(self, tenant: str, policy_id: str, digest: str = "") -> Policy | None:
        """The version with this `policy_hash`; where it was never seen, the one in force. Never a policy of
        another tenant."""
        found = self._versions.get(digest)
        if found is not None and found.id == policy_id and found.tenant in (None, tenant):
            return found
        return self._in_force.get((tenant, policy_id)) or self._in_force.get((None, policy_id))

    def rules_of(self, policy: Policy) -> Sequence[tuple[str, ConductRule]]:
        """The rules of a policy that `policy` gave, each with its hash."""
        return self._of[id(policy)]

    def rule(self, digest: str) -> tuple[Policy, ConductRule] | None:
        """A rule by its hash, and the first policy that had it; None: no version of this process has it."""
        return self._rules.get(digest)
