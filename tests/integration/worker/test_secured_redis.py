"""Redis with certificates, passwords and an ACL, on a real server with certificates of the test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tests.certificates import Authority, Pair
from tests.contract.cache.caches import VERDICT, Observer
from tests.integration.worker.secured import SecuredRedis, own, put, put_pair, secured_redis
from workers.adapters.redis import RedisCache
from workers.errors import StartError
from workers.redis_rights import KEY_PATTERN, commands
from workers.rotation import Rotation
from workers.settings import RedisSettings, Settings

PASSWORD = "redis-s3cret-of-the-test"
WORKER_COMMANDS = commands("standalone")


@pytest.fixture(scope="module")
def redis_authority(folder: Path) -> Authority:
    return Authority(folder, "redis")


@pytest.fixture(scope="module")
def redis_clients(folder: Path) -> Authority:
    return Authority(folder, "redis-clients")


@pytest.fixture(scope="module")
def secured(folder: Path, redis_authority: Authority, redis_clients: Authority) -> Iterator[SecuredRedis]:
    with secured_redis(folder / "redis-files", redis_authority, redis_clients) as server:
        yield server


def redis_settings(server: SecuredRedis, authority: Authority, **changes: Any) -> RedisSettings:
    fields = {
        "url": SecretStr(server.url),
        "username": "worker",
        "password": SecretStr(PASSWORD),
        "ssl_ca_location": str(authority.file),
        "timeout_ms": 5000,
    }
    return RedisSettings.model_validate(fields | changes)


def cache_of(settings: RedisSettings, observer: Observer) -> RedisCache:
    return RedisCache(settings, observer=observer, clock=time.monotonic, random=lambda: 0.5)


async def redis_refused(settings: RedisSettings) -> str:
    cache = cache_of(settings, Observer())
    try:
        with pytest.raises(StartError) as caught:
            await cache.check()
    finally:
        await cache.close()
    text = str(caught.value)
    assert "\n" not in text
    assert PASSWORD not in text
    return text


async def test_redis_with_the_least_rights_serves_a_worker(
    secured: SecuredRedis, redis_authority: Authority, redis_clients: Authority
) -> None:
    secured.set_user("worker", f">{PASSWORD}", f"~{KEY_PATTERN}", *(f"+{name}" for name in WORKER_COMMANDS))
    observer = Observer()
    mine = own(redis_clients.issue("worker"))
    cache = cache_of(redis_settings(secured, redis_authority, **mine), observer)
    assert await cache.check()
    await cache.keep("rsafe:1:verdict:a", VERDICT, 60)
    assert await cache.recall(["rsafe:1:verdict:a", "rsafe:1:verdict:b"]) == [VERDICT, None]
    assert await cache.recall(["of-others"]) == [None]
    assert observer.failures == ["recall"]
    await cache.close()
    with secured.admin() as admin:
        refusals = admin.acl_log()
    assert [line["object"] for line in refusals] == ["of-others"]  # and nothing that it does by the way


async def test_what_redis_refuses_is_named(
    secured: SecuredRedis, redis_authority: Authority, redis_clients: Authority, tmp_path: Path
) -> None:
    rules = [f">{PASSWORD}", f"~{KEY_PATTERN}", *(f"+{name}" for name in WORKER_COMMANDS)]
    secured.set_user("worker", *rules)
    mine = own(redis_clients.issue("worker"))

    async def said(**changes: Any) -> str:
        return await redis_refused(redis_settings(secured, redis_authority, **(mine | changes)))

    wrong = "RSAFE_REDIS__USERNAME: Redis refuses the credentials; check the user and its password"
    assert await said(password=SecretStr("no-such-password")) == wrong
    assert await said(username="nobody") == wrong
    stranger = Authority(tmp_path, "stranger")
    place = f"localhost:{secured.port}"
    assert await said(ssl_ca_location=str(stranger.file)) == (
        f"RSAFE_REDIS__SSL_CA_LOCATION: the certificate of Redis at {place} is from an authority that is not "
        f"in {stranger.file}; expected the file of its authority"
    )
    by_number = SecretStr(secured.url.replace("localhost", "127.0.0.1"))
    assert "is for another host name" in await said(url=by_number)
    assert await said(ssl_certificate_location="", ssl_key_location="") == (
        f"RSAFE_REDIS__SSL_CERTIFICATE_LOCATION: Redis at {place} asks for a client certificate; expected a "
        "file, and its key"
    )
    assert "refuses the client certificate" in await said(**own(stranger.issue("worker")))
    for command in WORKER_COMMANDS:
        secured.set_user("worker", *(rule for rule in rules if rule != f"+{command}"))
        assert (
            f"this user of Redis may not run {command.upper()}; it needs the ACL +{command}" in await said()
        )
    secured.set_user("worker", *(rule for rule in rules if rule != f"~{KEY_PATTERN}"), "~other:*")
    assert "may not use keys that begin with rsafe:; it needs the ACL ~rsafe:*" in await said()


async def test_a_changed_password_and_certificate_of_redis_are_used_without_a_failure(
    secured: SecuredRedis, redis_authority: Authority, redis_clients: Authority, tmp_path: Path
) -> None:
    rules = [f"~{KEY_PATTERN}", *(f"+{name}" for name in WORKER_COMMANDS)]
    secured.set_user("turning", ">former-s3cret", *rules)
    put_pair(tmp_path, redis_clients.issue("turning"))
    put(tmp_path / "password", b"former-s3cret")
    pair = Pair(tmp_path / "tls.crt", tmp_path / "tls.key")
    changes = {"username": "turning", "password": SecretStr("former-s3cret"), **own(pair)}
    kept = redis_settings(secured, redis_authority, **changes)
    observer, told = Observer(), Told()
    cache = cache_of(kept, observer)
    assert await cache.check()
    rotation = Rotation(
        Settings(redis=kept),
        {("redis", "password"): ("RSAFE_REDIS__PASSWORD_FILE", str(tmp_path / "password"))},
        try_kafka=lambda _: None,
        renew_redis=cache.renew,
        observer=told,
    )
    ended = False

    async def use() -> int:
        count = 0
        while not ended:
            await cache.keep("rsafe:1:verdict:t", VERDICT, 60)
            assert await cache.recall(["rsafe:1:verdict:t"]) == [VERDICT]
            count += 1
        return count

    using = asyncio.create_task(use())
    put(tmp_path / "password", b"later-s3cret")
    await rotation.look()
    assert told.refused == [
        "RSAFE_REDIS__USERNAME: Redis refuses the credentials; check the user and its password"
    ]
    secured.set_user("turning", ">later-s3cret", *rules)
    await rotation.look()
    put_pair(tmp_path, redis_clients.issue("turning-next"))
    await rotation.look()
    assert told.renewed == ["redis", "redis"]
    ended = True
    assert await using > 0
    assert observer.failures == []
    await cache.close()


class Told:
    def __init__(self) -> None:
        self.renewed: list[str] = []
        self.refused: list[str] = []

    def link_renewed(self, link: str) -> None:
        self.renewed.append(link)

    def link_not_renewed(self, link: str, why: str) -> None:
        self.refused.append(why)
