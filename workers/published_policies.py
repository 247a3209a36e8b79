"""The topic of policies as commands see it: what it holds, what is in force, and how a change is written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec

from schemas.policy import Policy, judgement_hash, policy_hash
from schemas.policy_change import Change, PolicyChange, change_id, policy_key
from workers.adapters.kafka_options import client_options
from workers.adapters.topics_io import Record, RecordWriter, read_whole
from workers.errors import UsageError
from workers.policies import PolicySet, load_policies
from workers.policy_state import PolicyState, RefusedChange, Standing
from workers.settings import Settings

CHANGE_TYPE: Final = "rsafe.policy.change.v1"
_SOURCE: Final = "/rsafe-stream/policies"


@dataclass(frozen=True, slots=True)
class Entry:
    """A record of the topic: a change, a tombstone (neither), or one that is refused."""

    record: Record
    change: PolicyChange | None
    refused: RefusedChange | None


@dataclass(frozen=True, slots=True)
class Published:
    """What the topic holds."""

    state: PolicyState = field(default_factory=PolicyState)
    entries: list[Entry] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Take the next record."""
        result = self.state.apply(record.key, record.value)
        refused = result if isinstance(result, RefusedChange) else None
        change = None
        if refused is None and record.value is not None:
            change = msgspec.json.decode(record.value, type=PolicyChange)
        self.entries.append(Entry(record, change, refused))

    def history(self, tenant: str | None, policy_id: str) -> list[Entry]:
        """Every record of a tenant's policy id that the topic still has, oldest first."""
        key = policy_key(tenant, policy_id)
        return [entry for entry in self.entries if entry.record.key == key]

    def refuse(self, policy: Policy) -> str | None:
        """Why the policy must not be published; None: it may, also where it is in force as it is."""
        for entry in self.history(policy.tenant, policy.id):
            before = entry.change.policy if entry.change is not None else None
            if before is not None and before.version == policy.version and not same(before, policy):
                return (
                    f"version {policy.version!r} was published with other content (offset "
                    f"{entry.record.offset}, policy hash {policy_hash(before)}); expected a new version"
                )
        if policy.tenant is not None:
            for one in self.state.standing():
                if one.policy.tenant == policy.tenant and one.policy.id != policy.id:
                    return (
                        f"the tenant {policy.tenant!r} has the policy {one.policy.id!r}; "
                        "expected one policy a tenant: retire that one first"
                    )
        return None


def same(one: Policy, other: Policy) -> bool:
    """Whether two policies agree in all that counts, examples included."""
    return policy_hash(one) == policy_hash(other) and one.examples == other.examples


def read_published(settings: Settings) -> Published:
    """What the topic holds now. Raises `StartError` and `StreamStopped`."""
    kafka, found = settings.kafka, Published()
    for batch in read_whole(kafka, kafka.policies_topic):
        for record in batch:
            found.add(record)
    return found


def loaded_policies(settings: Settings, default: str | None = None) -> PolicySet:
    """The policies of the settings' source, files or topic, as a worker has them. Raises as both do.

    `default` as of `load_policies`, in the place of the setting.
    """
    chosen = settings.policies
    name = chosen.default if default is None else default
    if chosen.source == "files":
        return load_policies(chosen.path, name, chosen.unknown)
    return read_published(settings).state.snapshot(name, chosen.unknown)


def new_change(kind: Change, policy: Policy, *, changed_by: str, why: str, now: datetime) -> PolicyChange:
    """A change of the policy; `now` has an offset. Raises `UsageError` for words that do not fit the wire."""
    content = {
        "change_id": "0" * 64,
        "change": kind,
        "policy_id": policy.id,
        "tenant": policy.tenant,
        "version": policy.version,
        "policy_hash": policy_hash(policy),
        "judgement_hash": judgement_hash(policy),
        "changed_by": changed_by,
        "why": why,
        "changed_at": now,
        "policy": policy if kind == "published" else None,
    }
    try:
        change = msgspec.convert(content, PolicyChange)
    except msgspec.ValidationError as error:
        raise UsageError(f"the change cannot be published: {error}") from error
    return msgspec.structs.replace(change, change_id=change_id(change))


def write_changes(changes: Iterable[PolicyChange], settings: Settings) -> None:
    """Publish in order; returns when all are acknowledged. Raises `StartError` and `StreamStopped`."""
    kafka = settings.kafka
    writer = RecordWriter(
        client_options(kafka),
        kafka.policies_topic,
        timeout_s=kafka.start_timeout_s,
        delivery_timeout_ms=kafka.delivery_timeout_ms,
    )
    for change in changes:
        key = policy_key(change.tenant, change.policy_id)
        writer.send(key, msgspec.json.encode(change), _headers(change))
    writer.finish()


def _headers(change: PolicyChange) -> list[tuple[str, bytes | None]]:
    """CloudEvents 1.0 in binary mode; a change has no cause."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_type", CHANGE_TYPE.encode()),
        ("content-type", b"application/json"),
        ("ce_source", _SOURCE.encode()),
        ("ce_id", change.change_id.encode()),
    ]


def effect_on_cache(before: Standing | None, policy: Policy) -> str:
    """What becomes of remembered verdicts, a sentence."""
    if before is None:
        return "nothing is in force under this id, so nothing of it is remembered"
    old = before.policy
    if judgement_hash(old) != judgement_hash(policy):
        return "other judgement hash: remembered verdicts never answer again, messages are judged anew"
    if old.mode != policy.mode or old.uncertain_band != policy.uncertain_band:
        return "same judgement hash, asked in another mode: messages are judged anew"
    return "same judgement hash: remembered verdicts are kept"
