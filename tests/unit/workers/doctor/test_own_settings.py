"""Settings that ask for trouble."""

from __future__ import annotations

from typing import Any

import pytest

from workers.doctor.findings import Finding
from workers.doctor.own_settings import settings_findings
from workers.settings import Settings

GOOD = {
    "kafka": {"bootstrap_servers": "broker:9093", "security_protocol": "SSL"},
    "secrets": {"content_key": "0123456789abcdef0123456789abcdef"},
    "guard": {"checkpoint": "/models/guard", "checkpoint_keys": "/keys/a.pub"},
}


def found(environment: dict[str, str] | None = None, *, faults: bool = False, **groups: Any) -> list[Finding]:
    tree = {name: {**GOOD.get(name, {}), **groups.get(name, {})} for name in {*GOOD, *groups}}
    return list(settings_findings(Settings.model_validate(tree), environment or {}, faults=faults))


def test_good_settings_are_one_line() -> None:
    assert [one.status for one in found()] == ["ok"]


@pytest.mark.parametrize(
    ("groups", "word"),
    [
        ({"secrets": {"content_key": ""}}, "development key"),
        ({"secrets": {"content_key": "short"}}, "fewer than 16"),
        ({"kafka": {"security_protocol": "PLAINTEXT"}}, "messages can be read"),
        (
            {"kafka": {"security_protocol": "SASL_PLAINTEXT", "bootstrap_servers": "localhost:1,b:2"}},
            "messages and the password",
        ),
        ({"redis": {"url": "redis://me:secret@cache:6379/0"}}, "redis://"),
        ({"guard": {"engine": "remote", "endpoints": "https://a,http://gpu:8000"}}, "http://"),
        ({"guard": {"engine": "scripted"}}, "no model judges"),
        ({"guard": {"load_format": "dummy"}}, "weights are random"),
        ({"guard": {"checkpoint": "tiny"}}, "for trials"),
        ({"redis": {"url": "rediss://cache"}, "cache": {"ttl_s": 0}}, "TTL_S is 0"),
        ({"decisions": {"rationale": "full"}}, "may repeat messages"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_trouble_is_a_warning_with_a_remedy(groups: dict[str, Any], word: str) -> None:
    (warning,) = [one for one in found(**groups) if one.status == "warning"]
    assert word in warning.what
    assert warning.remedy


def test_links_within_this_machine_may_be_plain() -> None:
    groups: dict[str, Any] = {
        "kafka": {"bootstrap_servers": "127.0.0.1:9092,[::1]:9092", "security_protocol": "PLAINTEXT"},
        "redis": {"url": "redis://localhost:6379/0"},
        "guard": {"engine": "remote", "endpoints": "http://127.0.0.1:8000"},
    }
    assert [one.status for one in found(**groups)] == ["ok"]


def test_leases_without_redis_are_a_problem() -> None:
    assert [one.status for one in found(cache={"lease_ms": 100})] == ["ok", "problem"]


def test_a_health_page_that_no_probe_reaches_is_told_in_kubernetes_only() -> None:
    assert "RSAFE_HEALTH__HOST" in found({"KUBERNETES_SERVICE_HOST": "10.0.0.1"})[1].what
    assert len(found({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, health={"host": "0.0.0.0"})) == 1


def test_test_hooks_and_unsigned_checkpoints_are_told() -> None:
    assert "RSAFE_TEST_HOOKS" in found(faults=True)[1].what
    assert found(guard={"checkpoint_keys": ""})[1].status == "not_checked"


def test_no_secret_is_repeated() -> None:
    told = found(redis={"url": "redis://me:hunter2@cache:6379/0"}, secrets={"content_key": "hunter3"})
    assert not any("hunter" in one.line() for one in told)
