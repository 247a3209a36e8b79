"""`rsafe conduct`, `conduct show` and `conduct forget`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.unit.workers.conduct.world import World, decision, policy, rule
from workers.commands import conduct as module
from workers.commands.conduct import conduct
from workers.conduct.entries import Forget, Subject, decode
from workers.conduct.state import State
from workers.policies import PolicySet
from workers.settings import Settings

HOUSE = policy(rule())


def run(*arguments: str, code: int = 0) -> Result:
    done = CliRunner().invoke(conduct, [*arguments], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Subject]:
    """Subjects whose state was read; a blocked author `a` in conversation `c` is known."""
    world, subjects = World([HOUSE]), []
    world.decide(decision(1, 1), decision(2, 2, codes=("C1",)))

    def stored(_: Settings, subject: Subject) -> State | None:
        subjects.append(subject)
        return world.state(subject.kind, subject.id, subject.tenant)

    monkeypatch.setattr(module, "stored_state", stored)
    monkeypatch.setattr(module, "loaded_policies", lambda _: PolicySet({"house": HOUSE}, {}, HOUSE))
    return subjects


def test_show_gives_one_json_object(asked: list[Subject]) -> None:
    shown = json.loads(run("show", "--tenant", "acme", "--author", "a", "--json").stdout)
    assert [one["decision_id"][-1] for one in shown["decisions"]] == ["1", "2"]
    assert asked == [Subject("author", "acme", "a")]


def test_show_tells_people_in_lines(asked: list[Subject]) -> None:
    text = run("show", "--tenant", "acme", "--author", "a").stdout
    assert text.startswith("author a of acme\n") and "block C1" in text
    assert run("show", "--tenant", "acme", "--conversation", "c").stdout.endswith("nothing counts\n")
    assert asked[-1] == Subject("conversation", "acme", "c")


def test_show_prints_no_control_characters_of_an_id(asked: list[Subject]) -> None:
    assert "\x1b" not in run("show", "--tenant", "acme", "--author", "\x1b[31m").stdout


@pytest.mark.parametrize("which", [[], ["--author", "a", "--conversation", "c"]], ids=["neither", "both"])
def test_show_wants_one_subject(asked: list[Subject], which: list[str]) -> None:
    assert (
        "expected either --author or --conversation" in run("show", "--tenant", "acme", *which, code=2).output
    )
    assert asked == []


def test_forget_publishes_until_when_and_waits_for_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[bytes, bytes]] = []
    finished: list[str] = []

    class Writer:
        def __init__(self, _: Any, topic: str, **__: Any) -> None:
            self.topic = topic

        def send(self, key: bytes, value: bytes) -> None:
            sent.append((key, value))

        def finish(self) -> None:
            finished.append(self.topic)

    monkeypatch.setattr(module, "RecordWriter", Writer)
    before = time.time_ns() // 1_000_000
    run("forget", "--tenant", "acme", "--author", "a")
    ((key, value),) = sent
    entry = decode(value)
    assert isinstance(entry, Forget)
    assert entry.subject == Subject("author", "acme", "a") and key == entry.subject.key
    assert before <= entry.until_ms <= time.time_ns() // 1_000_000
    assert finished == ["moderation.conduct"]


def test_without_a_subcommand_it_runs_until_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[bool] = []

    async def runs(settings: Settings, stopping: asyncio.Event) -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
        await stopping.wait()
        stopped.append(True)

    monkeypatch.setattr("workers.conduct.run.run_conduct", runs)
    run()
    assert stopped == [True]
