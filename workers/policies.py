"""The policies that are loaded, as an immutable snapshot, and which of them an event is judged by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as made_field
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from schemas.policy import Policy, policy_hash
from workers.errors import SettingsError
from workers.policy_files import FoundPolicy, PolicyFileError, Problem, read_policy_file

PACKS: Final = Path(__file__).parent / "packs"
_SUFFIXES: Final = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class NoPolicy:
    """No policy for an event: a dead letter with this reason."""

    reason: Literal["unknown_policy", "no_policy"]
    field: str
    """Field of the event that is at fault."""
    sentence: str


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Policies at one moment. Frozen: an event is judged by the set that was in force when it was read."""

    by_id: Mapping[str, Policy]
    by_tenant: Mapping[str, Policy]
    default: Policy | None
    unknown: Literal["dead_letter", "default"] = "dead_letter"
    """What becomes of an id that is not loaded; `default`: as though the event had named none."""
    own: Mapping[tuple[str, str], Policy] = made_field(default_factory=lambda: MappingProxyType({}))
    """Where tenants may give ids that others have, too: their policies by tenant and id, none in `by_id`."""

    @property
    def all(self) -> list[Policy]:
        """Every policy once, in order of ids within `by_id` and `own`."""
        return [
            *(policy for _, policy in sorted(self.by_id.items())),
            *(policy for _, policy in sorted(self.own.items())),
        ]

    def choose(self, tenant: str, policy_id: str | None) -> Policy | NoPolicy:
        """The policy that the event names, the tenant's own before everybody's; else its tenant's; else the
        default."""
        if policy_id is not None:
            if (mine := self.own.get((tenant, policy_id))) is not None:
                return mine
            policy = self.by_id.get(policy_id)
            if policy is None and self.unknown == "dead_letter":
                return NoPolicy("unknown_policy", "policy", "expected the id of a policy that is loaded")
            if policy is not None:
                if policy.tenant in (None, tenant):
                    return policy
                return NoPolicy("unknown_policy", "policy", "expected a policy that is open to this tenant")
        chosen = self.by_tenant.get(tenant, self.default)
        if chosen is None:
            return NoPolicy("no_policy", "tenant", "the tenant has no policy, and there is no default")
        return chosen

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the ids and hashes: equal sets are equal, whatever their files are called."""
        lines = [f"{policy.id} {policy_hash(policy)}" for policy in self.all]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def load_policies(
    path: str, default: str, unknown: Literal["dead_letter", "default"] = "dead_letter"
) -> PolicySet:
    """The policies of a file, or of the YAML files of a folder (not of folders below it); empty: the packs.

    `default` is the id of the policy for tenants without one, empty for none. Raises `SettingsError`
    (`PolicyFileError` with one line per problem) naming file, line and field.
    """
    found = find_policies(path)
    by_id = {entry.policy.id: entry.policy for entry in found}
    by_tenant = {entry.policy.tenant: entry.policy for entry in found if entry.policy.tenant is not None}
    if default and default not in by_id:
        raise SettingsError(
            f"RSAFE_POLICIES__DEFAULT: no policy {default!r} is loaded; loaded are {', '.join(sorted(by_id))}"
        )
    if default and (tenant := by_id[default].tenant) is not None:
        raise SettingsError(
            f"RSAFE_POLICIES__DEFAULT: the policy {default!r} belongs to the tenant {tenant!r}; "
            "expected one without a tenant"
        )
    return PolicySet(
        by_id=MappingProxyType(by_id),
        by_tenant=MappingProxyType(by_tenant),
        default=by_id[default] if default else None,
        unknown=unknown,
    )


def find_policies(path: str, source: str = "RSAFE_POLICIES__PATH") -> list[FoundPolicy]:
    """Every policy with its place, in order of file names. Raises `SettingsError` as `load_policies` does.

    `source` is where the path came from, for the errors.
    """
    found: list[FoundPolicy] = []
    problems: list[Problem] = []
    for file in _files(path, source):
        try:
            found.extend(read_policy_file(file))
        except PolicyFileError as error:
            problems.extend(error.problems)
    problems.extend(_clashes(found))
    if problems:
        raise PolicyFileError(problems)
    return found


def _files(path: str, source: str) -> list[Path]:
    place = Path(path) if path else PACKS
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise SettingsError(f"{source}: there is no file or folder {place}")
    try:
        # Hidden entries are how Kubernetes mounts a ConfigMap (`..data`), and how editors keep copies.
        files = sorted(
            file
            for file in place.iterdir()
            if file.suffix in _SUFFIXES and not file.name.startswith(".") and file.is_file()
        )
    except OSError as error:
        raise SettingsError(f"{source}: cannot read {place}: {error.strerror}") from error
    if not files:
        raise SettingsError(f"{source}: the folder {place} holds no .yaml or .yml file")
    return files


def _clashes(found: list[FoundPolicy]) -> list[Problem]:
    problems: list[Problem] = []
    for field in ("id", "tenant"):
        first: dict[str, FoundPolicy] = {}
        for entry in found:
            value = getattr(entry.policy, field)
            if value is None:
                continue
            other = first.setdefault(value, entry)
            if other is not entry:
                place = f"{other.file}:{other.lines.get(field, other.line)}"
                line = entry.lines.get(field, entry.line)
                sentence = {
                    "id": f"{value!r} stands also in {place}",
                    "tenant": f"{value!r} has a policy already, in {place}",
                }[field]
                problems.append(Problem(entry.file, line, field, sentence))
    return problems
