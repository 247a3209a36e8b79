"""`rsafe cache` over a real Redis, one server and a cluster: seen, found, and removed."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr

from guard.checkpoint import open_checkpoint
from schemas.policy import judgement_hash
from schemas.verdict import Verdict
from tests.model_folders import write_bare_folder
from tests.redis_sites import ClusterSite, Node
from workers.adapters import redis_entries
from workers.adapters.redis import RedisCache
from workers.commands import cache as command
from workers.errors import SettingsError, StartError, UsageError
from workers.moderation.recall_verdict import KEY_PREFIX
from workers.policies import load_policies
from workers.ports import CachedVerdict
from workers.settings import RedisSettings

WEIGHTS = "ab" * 32
OTHER_WEIGHTS = "cd" * 32
TEXT = "strawberry fields forever"
EVENT: dict[str, Any] = {
    "event_id": "e-1",
    "tenant": "acme",
    "conversation_id": "c-1",
    "message": {
        "id": "m-1",
        "role": "user",
        "author": "a-1",
        "text": TEXT,
        "sent_at": "2026-01-01T00:00:00Z",
    },
}
VERDICT = CachedVerdict(
    Verdict(label="unsafe", score=0.9, codes=("S1",), rationale=f"it says {TEXT}, which is listed"),
    "d" * 64,
    1_700_000_000_000,
    "full",
    "m",
    "c" * 64,
    True,
    "1",
)


class Silent:
    def cache_failed(self, operation: str, kind: str) -> None:
        raise AssertionError(f"{operation}: {kind}")


class Site:
    """The servers of a test, emptied, and what is kept there."""

    def __init__(self, nodes: list[Node], url: str, topology: Any) -> None:
        self.nodes, self.url, self.topology = nodes, url, topology
        for node in nodes:
            node.command("FLUSHALL")

    def keep(self, keys: list[str], verdict: CachedVerdict = VERDICT) -> None:
        asyncio.run(self._keep(keys, verdict))

    async def _keep(self, keys: list[str], verdict: CachedVerdict) -> None:
        settings = RedisSettings(url=SecretStr(self.url), topology=self.topology, timeout_ms=10_000)
        cache = RedisCache(settings, observer=Silent(), clock=time.monotonic, random=lambda: 0.5)
        await asyncio.gather(*(cache.keep(key, verdict, 600) for key in keys))
        await cache.close()

    def count(self) -> int:
        return sum(int(node.command("DBSIZE")) for node in self.nodes)


@pytest.fixture(params=["standalone", "cluster"])
def site(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Site:
    if request.param == "cluster":
        cluster: ClusterSite = request.getfixturevalue("redis_cluster")
        made = Site(cluster.nodes, cluster.url, "cluster")
    else:
        node: Node = request.getfixturevalue("redis_server")
        made = Site([node], node.address, "standalone")
    monkeypatch.setenv("RSAFE_REDIS__URL", made.url)
    monkeypatch.setenv("RSAFE_REDIS__TOPOLOGY", made.topology)
    return made


@pytest.fixture(autouse=True)
def weights(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = write_bare_folder(tmp_path_factory.mktemp("checkpoint") / "bare")
    monkeypatch.setenv("RSAFE_GUARD__ENGINE", "scripted")
    monkeypatch.setenv("RSAFE_GUARD__CHECKPOINT", str(folder))
    monkeypatch.setenv("RSAFE_GUARD__TEMPLATE", "rsafe-compact-1")
    monkeypatch.setenv("RSAFE_GUARD__LOAD_FORMAT", "dummy")
    return open_checkpoint(str(folder), template="rsafe-compact-1", weights=False).weights_digest


@pytest.fixture
def event_file(tmp_path: Path) -> Path:
    path = tmp_path / "event.json"
    path.write_text(json.dumps(EVENT))
    return path


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(command.cache, list(arguments), input=stdin)


def done(*arguments: str, stdin: str | None = None) -> Result:
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result


def keys_of(judgement: str, weights: str, count: int, start: int = 0) -> list[str]:
    return [
        f"{KEY_PREFIX}:acme:{judgement}:{weights}:t-1:think-0123456789abcdef:user:{number:064x}.{0:064x}"
        for number in range(start, start + count)
    ]


def community() -> str:
    return judgement_hash(load_policies("", "community").by_id["community"])


def test_entries_and_bytes_are_counted_by_policy_and_checkpoint(site: Site) -> None:
    site.keep(keys_of(community(), WEIGHTS, 1500))
    site.keep(keys_of("e" * 64, OTHER_WEIGHTS, 7))
    site.keep([f"{KEY_PREFIX}:of another form", "something else"])
    lines = done("stats").stdout.splitlines()
    assert lines[0].startswith("verdicts: 1508 entries, ")
    assert lines[1].startswith("community: 1500 entries, ")
    assert lines[2:4] == [f"  judgement hash {community()}", f"  weights digest {WEIGHTS}"]
    assert lines[4].startswith("no loaded policy: 7 entries, ")
    assert lines[5:7] == [f"  judgement hash {'e' * 64}", f"  weights digest {OTHER_WEIGHTS}"]
    assert lines[7].startswith("keys of another form: 1 entries, ")
    servers = lines[8:]
    assert len(servers) == len(site.nodes)
    assert all(" used of 256.0 MiB, allkeys-lru when full; " in line for line in servers)


def test_the_steps_are_bounded_and_the_progress_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_entries, "STEP_KEYS", 10)
    monkeypatch.setattr(command, "PROGRESS_S", -1.0)
    site.keep(keys_of(community(), WEIGHTS, 100))
    for node in site.nodes:
        node.command("CONFIG", "RESETSTAT")
    result = done("flush", "--policy", "community", "--yes")
    assert len([line for line in result.stderr.splitlines() if line.endswith(" removed …")]) >= 5
    used = [set(node.command("INFO", "commandstats")) for node in site.nodes]
    assert all("cmdstat_keys" not in one and "cmdstat_scan" in one for one in used)


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (("--policy", "community"), 60),
        (("--policy", "e" * 64), 80),
        (("--checkpoint", WEIGHTS), 40),
        (("--policy", "community", "--checkpoint", OTHER_WEIGHTS), 80),
    ],
)
def test_what_is_asked_for_is_removed_and_nothing_else(
    site: Site, options: tuple[str, ...], left: int
) -> None:
    numbers = itertools.count(0, 1000)
    site.keep(keys_of(community(), WEIGHTS, 20, next(numbers)))
    site.keep(keys_of(community(), OTHER_WEIGHTS, 20, next(numbers)))
    for _ in range(2):
        site.keep(keys_of("f" * 64, WEIGHTS, 10, next(numbers)))
    site.keep(keys_of("e" * 64, WEIGHTS, 20, next(numbers)))
    site.keep([f"other:{number}" for number in range(20)])
    result = done("flush", *options, "--yes")
    assert site.count() == left
    assert result.stdout == f"{100 - left} entries removed\n"
    assert "for up to 60 s" in result.stderr


def test_nothing_is_removed_without_a_yes(site: Site) -> None:
    site.keep(keys_of(community(), WEIGHTS, 3))
    result = done("flush", "--policy", "community", stdin="n\n")
    assert "nothing was removed" in result.stdout
    assert site.count() == 3
    done("flush", "--policy", "community", stdin="y\n")
    assert site.count() == 0


def test_the_entry_of_an_event_is_shown_without_its_words(site: Site, event_file: Path, weights: str) -> None:
    row = json.loads(done("get", str(event_file), "--json").stdout)
    assert (row["remembered"], row["policy"], row["role"]) == (False, "community", "user")
    assert row["key"].startswith(f"{KEY_PREFIX}:acme:{community()}:{weights}:rsafe-compact-1:")
    began = time.monotonic()
    site.keep([row["key"]])
    result = done("get", str(event_file), "--json")
    passed_s = time.monotonic() - began
    row = json.loads(result.stdout)
    assert row["remembered"]
    assert (row["verdict"]["label"], row["origin_decision"]) == ("unsafe", "d" * 64)
    assert 599 - passed_s <= row["expires_in_s"] <= 600
    assert "listed" in row["verdict"]["rationale"]
    people = done("get", str(event_file)).stdout
    assert "label: unsafe" in people
    assert "kept at: 2023-11-14T22:13:20+00:00" in people
    for shown in (result.stdout, people):
        assert not any(word in shown for word in TEXT.split())


def test_another_text_is_another_key_in_its_last_segment_alone(site: Site, event_file: Path) -> None:
    first = json.loads(done("get", str(event_file), "--json").stdout)["key"]
    changed = EVENT | {"message": EVENT["message"] | {"text": "another"}}
    event_file.write_text(json.dumps(changed))
    second = json.loads(done("get", str(event_file), "--json").stdout)["key"]
    assert first.rpartition(":")[0] == second.rpartition(":")[0]
    assert first != second


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "expected JSON"),
        (json.dumps(EVENT | {"tenant": ""}), "tenant"),
        (json.dumps(EVENT | {"policy": "absent"}), "$.policy"),
    ],
)
def test_a_file_that_is_no_event_is_refused_without_its_words(
    event_file: Path, content: str, sentence: str
) -> None:
    event_file.write_text(content)
    failure = run("get", str(event_file)).exception
    assert isinstance(failure, UsageError)
    assert sentence in str(failure)
    assert "strawberry" not in str(failure)


def test_options_that_say_nothing_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RSAFE_REDIS__URL", raising=False)
    assert run("flush").exit_code == 2
    assert run("flush", "--checkpoint", "short").exit_code == 2
    assert isinstance(run("flush", "--policy", "absent").exception, UsageError)
    assert isinstance(run("stats").exception, SettingsError)


def test_a_redis_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSAFE_REDIS__URL", "redis://127.0.0.1:1")
    failure = run("stats").exception
    assert isinstance(failure, StartError)
    assert "RSAFE_REDIS__URL" in str(failure)


def test_what_a_server_refuses_to_remove_is_counted(
    redis_server: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site([redis_server], redis_server.address, "standalone")
    monkeypatch.setenv("RSAFE_REDIS__URL", site.url)
    site.keep(keys_of(community(), WEIGHTS, 3))
    redis_server.command("ACL", "SETUSER", "default", "-unlink")
    try:
        result = run("flush", "--policy", "community", "--yes")
    finally:
        redis_server.command("ACL", "SETUSER", "default", "+unlink")
    assert isinstance(result.exception, command.EntriesLeft)
    assert result.exception.exit_code == 1
    assert "3 entries could not be removed" in str(result.exception)
    assert site.count() == 3
