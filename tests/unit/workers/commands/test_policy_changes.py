"""`rsafe policy publish`, `retire`, `history`, `diff` and `test`, over a topic in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from schemas.policy_change import PolicyChange, policy_key
from workers import published_policies
from workers.adapters.topics_io import Record
from workers.commands.policy import policy
from workers.errors import UsageError
from workers.published_policies import loaded_policies
from workers.settings import load_settings

POLICY = """
id: {id}
version: "{version}"
{more}
categories:
  - {{code: C1, title: gambling, definition: {definition}}}
"""


class Topic:
    """Records in memory."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def read(self, *_: Any, **__: Any) -> Iterator[list[Record]]:
        yield list(self.records)

    def write(self, changes: Iterable[PolicyChange], _: Any) -> None:
        for change in changes:
            self.add(policy_key(change.tenant, change.policy_id), msgspec.json.encode(change))

    def add(self, key: bytes, value: bytes | None) -> None:
        self.records.append(Record("policies", 0, len(self.records), 1_700_000_000_000, key, value, []))

    def changes(self) -> list[PolicyChange]:
        return [msgspec.json.decode(one.value or b"", type=PolicyChange) for one in self.records]


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    made = Topic()
    monkeypatch.setattr(published_policies, "read_whole", made.read)
    monkeypatch.setattr("workers.commands.policy_changes.write_changes", made.write)
    monkeypatch.setenv("RSAFE_POLICIES__SOURCE", "topic")
    monkeypatch.setenv("RSAFE_POLICIES__DEFAULT", "house")
    return made


def file(folder: Path, version: str, definition: str = "casino", name: str = "house", more: str = "") -> str:
    path = folder / f"{name}-{version}.yaml"
    path.write_text(POLICY.format(id=name, version=version, definition=definition, more=more))
    return str(path)


def run(*arguments: str, code: int = 0) -> Result:
    done = CliRunner().invoke(policy, [*arguments], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


def publish(path: str, *more: str) -> str:
    return run("publish", path, "--by", "ana", "--why", "a reason", *more).output


def test_a_published_policy_is_in_force_with_who_and_why(topic: Topic, tmp_path: Path) -> None:
    shown = publish(file(tmp_path, "1"))
    (change,) = topic.changes()
    assert (change.changed_by, change.why, change.change) == ("ana", "a reason", "published")
    assert change.policy_hash in shown
    assert change.judgement_hash in shown
    assert loaded_policies(load_settings()).default == change.policy
    assert "house 1, " in run("list").output
    assert "id: house" in run("show", "house").output


@pytest.mark.parametrize(
    ("definition", "more", "sentence"),
    [
        ("casino", "threshold: 0.9", "same judgement hash: remembered verdicts are kept"),
        ("betting", "", "other judgement hash: remembered verdicts never answer again"),
        ("casino", "mode: fast", "asked in another mode"),
    ],
)
def test_publishing_says_what_becomes_of_the_cache(
    topic: Topic, tmp_path: Path, definition: str, more: str, sentence: str
) -> None:
    publish(file(tmp_path, "1"))
    assert sentence in publish(file(tmp_path, "2", definition, more=more))


def test_a_version_with_other_content_is_refused_even_when_it_is_not_in_force(
    topic: Topic, tmp_path: Path
) -> None:
    first = Path(file(tmp_path, "1")).read_text()
    publish(file(tmp_path, "1"))
    publish(file(tmp_path, "2", "betting"))
    with pytest.raises(UsageError, match="version '1' was published with other content"):
        publish(file(tmp_path, "1", "chess"))
    assert len(topic.records) == 2
    (tmp_path / "again.yaml").write_text(first)
    publish(str(tmp_path / "again.yaml"))  # back to the older version, as it was
    assert [one.version for one in topic.changes()] == ["1", "2", "1"]


def test_what_is_in_force_is_not_published_again_and_a_dry_run_writes_nothing(
    topic: Topic, tmp_path: Path
) -> None:
    assert "would be published" in publish(file(tmp_path, "1"), "--dry-run")
    assert topic.records == []
    publish(file(tmp_path, "1"))
    assert "in force already" in publish(file(tmp_path, "1"))
    assert len(topic.records) == 1


def test_a_tenant_has_one_policy(topic: Topic, tmp_path: Path) -> None:
    publish(file(tmp_path, "1", name="a", more="tenant: acme"))
    with pytest.raises(UsageError, match="the tenant 'acme' has the policy 'a'"):
        publish(file(tmp_path, "1", name="b", more="tenant: acme"))
    publish(file(tmp_path, "1", name="a", more="tenant: globex"))
    run("retire", "a", "--tenant", "acme", "--by", "ana", "--why", "over")
    publish(file(tmp_path, "1", name="b", more="tenant: acme"))
    assert len(topic.records) == 4


def test_what_is_retired_stays_in_the_history(topic: Topic, tmp_path: Path) -> None:
    publish(file(tmp_path, "1", name="trial"))
    run("retire", "trial", "--by", "ben", "--why", "over")
    topic.add(b"/trial", b"no change")
    topic.add(b"/trial", None)
    rows = json.loads(run("history", "trial", "--json").output)
    assert [row["change"] for row in rows] == ["published", "retired", "refused", "tombstone"]
    assert [row.get("changed_by") for row in rows] == ["ana", "ben", None, None]
    assert len(run("history", "trial").output.splitlines()) == 4
    with pytest.raises(UsageError, match="trial: not in force"):
        run("retire", "trial", "--by", "ben", "--why", "over")


def test_the_default_policy_is_not_retired(topic: Topic, tmp_path: Path) -> None:
    publish(file(tmp_path, "1"))
    with pytest.raises(UsageError, match="RSAFE_POLICIES__DEFAULT names it"):
        run("retire", "house", "--by", "ana", "--why", "over")


def test_a_difference_is_shown_and_told_by_the_exit_code(topic: Topic, tmp_path: Path) -> None:
    publish(file(tmp_path, "1"))
    assert "the same" in run("diff", file(tmp_path, "1")).output
    shown = run("diff", file(tmp_path, "2", "betting"), code=1).output
    assert "-  definition: casino" in shown
    assert "+  definition: betting" in shown


@pytest.mark.usefixtures("bare_guard")
def test_examples_pass_or_fail_by_what_the_policy_makes_of_them(topic: Topic, tmp_path: Path) -> None:
    # The scripted engine gives 0.44 and 0.12, whatever the texts mean.
    def examples(first: str) -> str:
        other = '{text: "good day", label: safe}'
        return f'threshold: 0.3\nexamples: [{{text: "come to the casino", label: {first}}}, {other}]'

    good = file(tmp_path, "1", more=examples("unsafe"))
    shown = run("test", good).output
    assert "2 of 2 examples passed" in shown
    assert "come to" not in shown
    rows = json.loads(run("test", good, "--json").stdout)
    assert [row["got"] for row in rows] == ["unsafe", "safe"]
    assert rows[0]["score"] > rows[0]["threshold"] > rows[1]["score"]
    unnamed = file(tmp_path, "3", more=examples("unsafe, codes: [C1]"))
    assert "missing C1" in run("test", unnamed, code=1).output
    bad = file(tmp_path, "2", more=examples("safe"))
    assert "FAIL" in run("test", bad, code=1).output
    with pytest.raises(UsageError, match="an example failed; nothing is published"):
        publish(bad, "--test")
    assert topic.records == []
    publish(good, "--test")
    assert len(topic.records) == 1


def test_a_policy_without_examples_is_not_tested(topic: Topic, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no examples"):
        publish(file(tmp_path, "1"), "--test")


def test_what_was_published_while_examples_were_judged_is_looked_at(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    other = file(tmp_path / "other", "1", "betting")

    def judge(*_: Any) -> bool:
        publish(other)
        return True

    monkeypatch.setattr("workers.commands.policy_changes.run_examples", judge)
    with pytest.raises(UsageError, match="version '1' was published with other content"):
        publish(file(tmp_path, "1"), "--test")
    (change,) = topic.changes()
    assert change.policy is not None
    assert change.policy.categories[0].definition == "betting"
