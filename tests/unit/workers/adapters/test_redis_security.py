"""How the link to Redis is secured, and what is made of refusals."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import SecretStr
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.exceptions import ConnectionError as NotConnected

from tests.certificates import Authority
from workers.adapters import redis_security as module
from workers.adapters.redis_security import (
    RefusedBySentinel,
    ask_for_refusal,
    refusal,
    security_options,
)
from workers.adapters.tls import TlsFiles
from workers.errors import SettingsError
from workers.redis_rights import TASKS, Topology, commands
from workers.settings import RedisSettings

SENTINEL = {"topology": "sentinel", "sentinel_service": "verdicts"}
TOPOLOGIES: tuple[Topology, ...] = get_args(Topology)
EVERY = sorted({name for task in TASKS for one in TOPOLOGIES for name in commands(one, task, leases=True)})


def settings(url: str = "redis://host", **more: Any) -> RedisSettings:
    return RedisSettings.model_validate({"url": SecretStr(url)} | more)


def said(error: BaseException, given: RedisSettings | None = None) -> str:
    found = refusal(error, given or settings(password=SecretStr("hunter2"), username="me"))
    assert found is not None
    assert "hunter2" not in str(found)
    return str(found)


def test_without_security_the_server_is_told_nothing() -> None:
    assert security_options(settings()) == {}
    assert security_options(settings("redis://u:p@host")) == {}
    assert security_options(settings("rediss://host")) == {}


def test_user_and_password_stand_beside_the_url() -> None:
    options = security_options(settings(username="me", password=SecretStr("p")))
    assert (options["username"], options["password"]) == ("me", "p")
    assert security_options(settings(password=SecretStr("p")))["username"] is None


def test_certificates_are_passed_on(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "a")
    mine = authority.issue("me")
    options = security_options(
        settings(
            "rediss://host",
            ssl_ca_location=str(authority.file),
            ssl_certificate_location=str(mine.certificate),
            ssl_key_location=str(mine.key),
        )
    )
    assert options == {
        "ssl_ca_certs": str(authority.file),
        "ssl_certfile": str(mine.certificate),
        "ssl_keyfile": str(mine.key),
        "ssl_password": "",
    }
    folder = security_options(settings("rediss://host", ssl_ca_location=str(tmp_path)))
    assert folder["ssl_ca_path"] == str(tmp_path)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (settings("redis://u:hunter2@host", password=SecretStr("p")), "RSAFE_REDIS__URL: expected no user"),
        (settings(username="me"), "RSAFE_REDIS__PASSWORD: expected one"),
        (settings(ssl_ca_location="/ca"), "RSAFE_REDIS__URL: expected rediss://"),
        (settings("rediss://host", ssl_ca_location="/absent"), "RSAFE_REDIS__SSL_CA_LOCATION: cannot read"),
        (
            settings("rediss://host?ssl_ca_certs=/b", ssl_ca_location="/ca"),
            "RSAFE_REDIS__URL: expected no files of certificates in it",
        ),
        (
            settings("redis://u:hunter2@a,b", topology="cluster", password=SecretStr("p")),
            "RSAFE_REDIS__URL: expected no user",
        ),
        (settings("redis://host:port"), "RSAFE_REDIS__URL: expected redis://"),
    ],
)
def test_what_does_not_fit_together_is_named(given: RedisSettings, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        security_options(given)
    assert str(caught.value).startswith(words)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("command", EVERY)
@pytest.mark.parametrize(
    "text",
    [
        "this user has no permissions to run the '{}' command or its subcommand",
        "this user has no permissions to run the '{}' command",
        "User me has no permissions to run the '{}' command",
    ],
    ids=["6", "7.0", "7.2"],
)
def test_a_command_that_lacks_is_named(command: str, text: str) -> None:
    who, variable = ("user of Redis", "RSAFE_REDIS__USERNAME")
    if command.startswith("sentinel"):
        who, variable = ("user of the sentinels", "RSAFE_REDIS__SENTINEL_PASSWORD")
    assert said(NoPermissionError(text.format(command))) == (
        f"{variable}: this {who} may not run {command.upper().replace('|', ' ')}; it needs the ACL +{command}"
    )


@pytest.mark.parametrize("command", [name for name in EVERY if "|" in name])
def test_redis_6_names_no_subcommand_and_the_sentence_does(command: str) -> None:
    base = command.partition("|")[0]
    text = f"this user has no permissions to run the '{base}' command or its subcommand"
    assert said(NoPermissionError(text)).endswith(f"it needs the ACL +{command}")


@pytest.mark.parametrize(
    "text",
    [
        "this user has no permissions to access one of the keys used as arguments",
        "No permissions to access a key",
        "it says 'something else than a command; -_'",
    ],
)
def test_keys_that_may_not_be_used_are_named(text: str) -> None:
    assert said(NoPermissionError(text)).endswith("it needs the ACL ~rsafe:*")


@pytest.mark.parametrize(
    ("given", "variable"),
    [
        (settings("redis://u:p@host"), "RSAFE_REDIS__URL"),
        (settings(password=SecretStr("p")), "RSAFE_REDIS__PASSWORD"),
        (settings(password=SecretStr("p"), username="me"), "RSAFE_REDIS__USERNAME"),
    ],
)
def test_refused_credentials_name_the_setting_that_holds_them(given: RedisSettings, variable: str) -> None:
    assert said(AuthenticationError("WRONGPASS"), given) == (
        f"{variable}: Redis refuses the credentials; check the user and its password"
    )


def test_a_certificate_of_redis_is_named_and_absence_is_no_refusal() -> None:
    distrust = ssl.SSLCertVerificationError()
    distrust.verify_code = 62
    error = NotConnected("away")
    error.__cause__ = distrust
    found = refusal(error, settings("rediss://u:hunter2@host"), "Redis at host:6379")
    assert str(found).startswith("the certificate of Redis at host:6379 is for another host name")
    assert refusal(NotConnected("away"), settings()) is None


@pytest.mark.parametrize(
    ("given", "variable"), [({}, "PASSWORD"), ({"sentinel_username": "watcher"}, "USERNAME")]
)
def test_a_sentinel_that_refuses_is_told_apart_from_the_server(given: dict[str, Any], variable: str) -> None:
    several = settings("redis://a,b", password=SecretStr("hunter2"), **SENTINEL, **given)
    assert said(RefusedBySentinel("WRONGPASS"), several) == (
        f"RSAFE_REDIS__SENTINEL_{variable}: a sentinel refuses the credentials; "
        "check the user and its password"
    )


def test_a_server_that_closes_without_a_word_is_asked_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ask_why", lambda host, port, files, timeout_s, server: f"{server} says why")
    assert str(ask_for_refusal(settings("rediss://host"), 1.0)) == "Redis at host:6379 says why"
    assert ask_for_refusal(settings("redis://host"), 1.0) is None
    assert ask_for_refusal(settings("unix:///socket"), 1.0) is None


def test_of_several_hosts_the_first_that_says_why_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(host: str, port: int, files: TlsFiles, timeout_s: float, server: str) -> str | None:
        return f"{server} says why" if host == "b" else None

    monkeypatch.setattr(module, "ask_why", ask)
    cluster = settings("rediss://a:1,b:2,c:3", topology="cluster")
    assert str(ask_for_refusal(cluster, 1.0)) == "Redis at b:2 says why"
    assert str(ask_for_refusal(settings("rediss://a,b", **SENTINEL), 1.0)) == (
        "the sentinel at b:26379 says why"
    )


def test_options_of_tls_in_the_url_are_not_second_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ask_why", lambda *_: "a wrong reason")
    assert ask_for_refusal(settings("rediss://host?ssl_ca_certs=/ca.pem"), 1.0) is None
    unknown = ssl.SSLCertVerificationError()
    unknown.verify_code = 20
    assert "is not in /ca.pem" in said(unknown, settings("rediss://host?ssl_ca_certs=/ca.pem"))
