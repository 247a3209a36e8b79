"""What the URL of Redis says."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from workers.adapters.redis_address import Host, read_address
from workers.errors import SettingsError
from workers.settings import RedisSettings

SENTINEL = {"topology": "sentinel", "sentinel_service": "verdicts"}


def settings_of(url: str, **changes: Any) -> RedisSettings:
    return RedisSettings(url=SecretStr(url), **changes)


@pytest.mark.parametrize(
    ("url", "changes", "hosts"),
    [
        ("redis://cache", {}, [Host("cache", 6379)]),
        ("redis://u:p,w@cache:7000/2", {}, [Host("cache", 7000)]),
        ("redis://a:7000,b,[::1]:7002", {"topology": "cluster"}, [("a", 7000), ("b", 6379), ("::1", 7002)]),
        ("rediss://a,b:1/3", SENTINEL, [("a", 26379), ("b", 1)]),
    ],
)
def test_hosts_stand_with_commas_between(
    url: str, changes: dict[str, Any], hosts: list[tuple[str, int]]
) -> None:
    assert list(read_address(settings_of(url, **changes)).hosts) == hosts


def test_credentials_database_and_options_are_those_of_every_connection() -> None:
    url = "rediss://user:p%40ss@a,b/3?ssl_ca_certs=/ca.pem&client_name=x"
    assert read_address(settings_of(url, **SENTINEL)).options == {
        "username": "user",
        "password": "p@ss",
        "db": 3,
        "ssl_ca_certs": "/ca.pem",
        "client_name": "x",
    }


@pytest.mark.parametrize(
    ("url", "changes", "sentence"),
    [
        ("redis://a,b", {}, "expected one host"),
        ("redis://a,,b", {"topology": "cluster"}, "expected redis://"),
        ("redis://a,b:x", {"topology": "cluster"}, "expected redis://"),
        ("redis://a/1", {"topology": "cluster"}, "expected database 0"),
        ("unix:///run/secret", {"topology": "cluster"}, "expected redis:// or rediss://"),
        ("unix:///run/secret", SENTINEL, "expected redis:// or rediss://"),
        ("http://a,secret", SENTINEL, "expected redis://"),
    ],
)
def test_what_does_not_fit_is_one_sentence(url: str, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=f"^RSAFE_REDIS__URL: {sentence}") as refused:
        read_address(settings_of(url, **changes))
    assert "secret" not in str(refused.value)
