"""What a change of a policy says of it has to be so."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.generate import FOLDER
from schemas.policy_change import PolicyChange, change_id, policy_key

GOOD = (FOLDER / "examples" / "policy_change" / "v1" / "good.json").read_bytes()
names = st.text(min_size=1, max_size=8)


@given(st.none() | names, names, st.none() | names, names)
def test_different_owners_and_ids_never_share_a_key(
    tenant: str | None, name: str, other: str | None, another: str
) -> None:
    same = (tenant, name) == (other, another)
    assert (policy_key(tenant, name) == policy_key(other, another)) == same


def test_the_id_never_changes() -> None:
    change = msgspec.json.decode(GOOD, type=PolicyChange)
    assert change_id(change) == change.change_id


@pytest.mark.parametrize("field", ["changed_by", "why"])
def test_the_id_covers_who_and_why(field: str) -> None:
    change = msgspec.json.decode(GOOD, type=PolicyChange)
    assert change_id(msgspec.structs.replace(change, **{field: "other"})) != change.change_id


def test_an_example_that_changes_keeps_the_hashes() -> None:
    content = msgspec.json.decode(GOOD)
    content["policy"]["examples"] = [{"text": "casino", "label": "unsafe"}]
    changed = msgspec.convert(content, PolicyChange, strict=False)
    assert changed.policy is not None
    assert len(changed.policy.examples) == 1
