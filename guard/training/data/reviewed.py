"""The policies under which reviews were made: which policy a review's row is labelled by."""

from __future__ import annotations

from pathlib import Path

import msgspec

from guard.training.data.errors import TrainingDataError
from guard.training.data.mapping import Placed, Ruling
from guard.training.data.sources import RawRow, RowMeta
from guard.training.data.yaml_file import read_yaml_documents
from schemas.policy import Policy, judgement_hash


class ReviewedPolicies:
    """Policies from the files that the worker reads, one or several documents a file.

    Raises `TrainingDataError` where there is none, and `RowError` for a file that holds something else.
    """

    def __init__(self, path: Path) -> None:
        files = sorted((*path.glob("*.yaml"), *path.glob("*.yml"))) if path.is_dir() else [path]
        self._by_hash: dict[str, Policy] = {}
        # By id and hash: policies of other ids may have the same words.
        self._by_id: dict[str, dict[str, Policy]] = {}
        for file in files:
            for document in read_yaml_documents(file, Policy):
                policy = msgspec.structs.replace(document, examples=())
                digest = judgement_hash(policy)
                self._by_hash.setdefault(digest, policy)
                self._by_id.setdefault(policy.id, {}).setdefault(digest, policy)
        if not self._by_hash:
            raise TrainingDataError(f"{path}: expected at least one policy")

    def place(self, row: RawRow) -> list[Placed] | str:
        """The row under the policy that its review names, or why it cannot be used."""
        policy = self._named(row.meta)
        if isinstance(policy, str):
            return policy
        if row.label == "safe":
            return [Placed("review", policy, Ruling("safe"))]
        if not row.categories:
            return [Placed("review", policy, Ruling("unsafe", touched=None))]
        if not {category.code for category in policy.categories}.issuperset(row.categories):
            return "code_not_in_policy"
        codes = tuple(dict.fromkeys(row.categories))
        return [Placed("review", policy, Ruling("unsafe", codes, frozenset(codes)))]

    def _named(self, meta: RowMeta) -> Policy | str:
        """The policy by the hash of its words, or by its id where that is all that is known."""
        if meta.judgement_hash:
            # A policy of the same id with other words is not what the reviewer judged by.
            return self._by_hash.get(meta.judgement_hash, "policy_not_given")
        if not meta.policy:
            return "policy_not_told"
        candidates = list(self._by_id.get(meta.policy, {}).values())
        if not candidates:
            return "policy_not_given"
        return candidates[0] if len(candidates) == 1 else "policy_of_several_versions"
