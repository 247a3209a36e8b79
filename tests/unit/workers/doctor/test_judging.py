from __future__ import annotations

import pytest

from tests.unit.workers.test_policy_state import published
from workers.doctor import judging
from workers.errors import StartError
from workers.policies import PolicySet
from workers.policy_state import PolicyState
from workers.settings import PoliciesSettings, Settings

FROM_TOPIC = Settings(policies=PoliciesSettings(source="topic"))


def test_a_topic_of_policies_that_cannot_be_read_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: Settings) -> object:
        raise StartError("no broker answers")

    monkeypatch.setattr(judging, "loaded_policies", away)
    (finding,), policies = judging.policy_findings(FROM_TOPIC)
    assert (finding.status, policies) == ("not_checked", None)
    assert "moderation.policies cannot be read: no broker answers" in finding.what


def of_topic(default: str, *records: tuple[bytes, bytes]) -> tuple[Settings, PolicySet]:
    state = PolicyState()
    for key, value in records:
        state.apply(key, value)
    chosen = PoliciesSettings(source="topic", default=default)
    return Settings(policies=chosen), state.snapshot(default, chosen.unknown)


def test_a_default_that_the_topic_does_not_have_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, loaded = of_topic("forum", published("forum", "acme", "1"))
    monkeypatch.setattr(judging, "loaded_policies", lambda _: loaded)
    findings, policies = judging.policy_findings(settings)
    wrong = [one for one in findings if one.status != "ok"]
    assert [one.status for one in wrong] == ["problem"]
    assert "holds no policy 'forum' for everybody" in wrong[0].what
    assert policies is None


def test_a_tenants_policy_of_the_topic_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, loaded = of_topic("forum", published("forum", None, "1"), published("own", "acme", "7"))
    monkeypatch.setattr(judging, "loaded_policies", lambda _: loaded)
    findings, policies = judging.policy_findings(settings)
    assert any(one.what.startswith("2 loaded") for one in findings)
    assert any(one.what.startswith("own 7 of tenant acme") for one in findings)
    assert policies is loaded
