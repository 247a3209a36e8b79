"""The state of the topic of policies against a plain model, whatever comes in whatever order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.policy import Policy, judgement_hash, policy_hash
from schemas.policy_change import PolicyChange, change_id, policy_key
from workers.errors import SettingsError
from workers.policies import NoPolicy
from workers.policy_state import PolicyState, RefusedChange

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "what somebody wrote"


def policy(policy_id: str, tenant: str | None, version: str, definition: str = "casino") -> Policy:
    content = {
        "id": policy_id,
        "version": version,
        "tenant": tenant,
        "categories": [{"code": "C1", "title": "gambling", "definition": definition}],
    }
    return msgspec.convert(content, Policy)


def change(of: Policy, kind: str = "published", minute: int = 0) -> PolicyChange:
    content = {
        "change_id": "0" * 64,
        "change": kind,
        "policy_id": of.id,
        "tenant": of.tenant,
        "version": of.version,
        "policy_hash": policy_hash(of),
        "judgement_hash": judgement_hash(of),
        "changed_by": "lead",
        "why": "a test",
        "changed_at": NOON + timedelta(minutes=minute),
        "policy": of if kind == "published" else None,
    }
    made = msgspec.convert(content, PolicyChange)
    return msgspec.structs.replace(made, change_id=change_id(made))


def published(policy_id: str, tenant: str | None, version: str, minute: int = 0) -> tuple[bytes, bytes]:
    one = change(policy(policy_id, tenant, version), minute=minute)
    return policy_key(tenant, policy_id), msgspec.json.encode(one)


tenants = st.sampled_from([None, "acme", "globex"])
ids = st.sampled_from(["community", "strict"])
steps = st.lists(
    st.tuples(st.sampled_from(["published", "retired", "tombstone", "bad", "unusable"]), tenants, ids),
    max_size=25,
)


def usable(one: Policy) -> None:
    if one.version == "unusable":
        raise SettingsError("no calibration")


@settings(max_examples=60, deadline=None)
@given(steps)
def test_any_records_come_to_what_a_plain_model_says(
    steps: list[tuple[str, str | None, str]],
) -> None:
    state, model = PolicyState(usable), dict[tuple[str | None, str], str]()
    for number, (kind, tenant, name) in enumerate(steps):
        key, version = policy_key(tenant, name), str(number)
        if kind == "published":
            assert state.apply(*published(name, tenant, version, number)) == "published"
            model[tenant, name] = version
        elif kind in ("retired", "tombstone"):
            value = msgspec.json.encode(change(policy(name, tenant, version), "retired", number))
            assert state.apply(key, None if kind == "tombstone" else value) == "retired"
            model.pop((tenant, name), None)
        elif kind == "unusable":
            assert isinstance(state.apply(*published(name, tenant, "unusable")), RefusedChange)
        else:
            assert isinstance(state.apply(key, b'{"change": "published"}'), RefusedChange)
        assert {(one.policy.tenant, one.policy.id): one.policy.version for one in state.standing()} == model
    chosen = state.snapshot("community", "dead_letter")
    for tenant in ("acme", "globex", "other"):
        for name in ("community", "strict"):
            found = chosen.choose(tenant, name)
            expected = model.get((tenant, name), model.get((None, name)))
            assert (None if isinstance(found, NoPolicy) else found.version) == expected


@pytest.mark.parametrize("unknown", ["dead_letter", "default"])
def test_no_tenant_sees_a_policy_of_another(unknown: str) -> None:
    state = PolicyState()
    for record in (published("community", None, "1"), published("secret", "acme", "7")):
        state.apply(*record)
    chosen = state.snapshot("community", "default" if unknown == "default" else "dead_letter")
    mine = chosen.choose("acme", None)
    assert isinstance(mine, Policy)
    assert mine.version == "7"
    named, absent = chosen.choose("globex", "secret"), chosen.choose("globex", "nothing of this name")
    assert named == absent  # not even that it exists
    assert isinstance(named, Policy if unknown == "default" else NoPolicy)


def test_a_tenants_own_policy_stands_before_everybodys_of_the_same_id() -> None:
    state = PolicyState()
    for record in (published("community", None, "1"), published("community", "acme", "2")):
        state.apply(*record)
    chosen = state.snapshot("community", "dead_letter")
    versions = [chosen.choose(tenant, "community") for tenant in ("acme", "globex")]
    assert [one.version for one in versions if isinstance(one, Policy)] == ["2", "1"]
    assert len(chosen.all) == 2


def test_of_two_policies_of_a_tenant_the_later_is_for_events_that_name_none() -> None:
    for order in (0, 1):
        records = [published("a", "acme", "later", 2), published("b", "acme", "earlier", 1)]
        state = PolicyState()
        for record in (records[order], records[1 - order]):
            state.apply(*record)
        chosen = state.snapshot("", "dead_letter").choose("acme", None)
        assert isinstance(chosen, Policy)
        assert chosen.version == "later"


BAD = {
    "no key": (None, b"{}", "$"),
    "no JSON": (b"/a", SECRET.encode(), "$"),
    "no UTF-8": (b"/a", b'{"why": "\xff"}', "$"),
    "an event": (b"/a", msgspec.json.encode({"event_id": "e", "message": {"text": SECRET}}), "$"),
    "another word": (b"/a", msgspec.json.encode({"change": SECRET}), "$.change"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_refused_without_a_word_of_it(name: str) -> None:
    key, value, field = BAD[name]
    refused = PolicyState().apply(key, value)
    assert isinstance(refused, RefusedChange)
    assert refused.field.startswith(field)
    assert SECRET not in refused.sentence


def test_a_record_under_the_key_of_another_tenant_is_refused() -> None:
    _, value = published("community", "acme", "1")
    state = PolicyState()
    refused = state.apply(policy_key("globex", "community"), value)
    assert isinstance(refused, RefusedChange)
    assert refused.field == "$.policy_id"
    assert state.standing() == []
