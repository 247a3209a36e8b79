from __future__ import annotations

import pytest

from workers.doctor import judging
from workers.errors import SettingsError, StartError
from workers.settings import PoliciesSettings, Settings

FROM_TOPIC = Settings(policies=PoliciesSettings(source="topic"))


def test_a_topic_of_policies_that_cannot_be_read_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: Settings) -> object:
        raise StartError("no broker answers")

    monkeypatch.setattr(judging, "loaded_policies", away)
    (finding,), policies = judging.policy_findings(FROM_TOPIC)
    assert (finding.status, policies) == ("not_checked", None)
    assert "moderation.policies cannot be read: no broker answers" in finding.what


def test_a_default_that_the_topic_does_not_have_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: Settings) -> object:
        raise SettingsError("RSAFE_POLICIES__DEFAULT: there is no policy 'forum'")

    monkeypatch.setattr(judging, "loaded_policies", absent)
    (finding,), _ = judging.policy_findings(FROM_TOPIC)
    assert (finding.status, finding.remedy) == ("problem", "publish the policy")
