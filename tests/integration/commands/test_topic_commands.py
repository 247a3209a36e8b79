"""`rsafe topics`, `produce` and `decisions` against a real broker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from schemas.generate import FOLDER
from schemas.keys import record_key
from workers.adapters.admin import WantedTopic, create_topics
from workers.adapters.embedded_addresses import Addresses
from workers.adapters.kafka_options import Option, client_options
from workers.adapters.topics_io import Record, RecordWriter, Start, read_records
from workers.commands.decisions import decisions
from workers.commands.produce import produce
from workers.commands.topics import topics
from workers.errors import StartError, UsageError
from workers.settings import ConductSettings, KafkaSettings

EVENT = json.loads((FOLDER / "examples" / "event" / "v1" / "good.json").read_bytes())
DECISION = (FOLDER / "examples" / "decision" / "v1" / "good_judged.json").read_bytes()
TIMEOUT_S = 30.0


@pytest.fixture
def options(local_stack: Addresses) -> dict[str, Option]:
    return client_options(KafkaSettings(bootstrap_servers=local_stack.bootstrap_servers))


@pytest.fixture
def names(
    local_stack: Addresses, fresh_name: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Fresh names of the topics, in force for the commands."""
    monkeypatch.setenv("RSAFE_KAFKA__BOOTSTRAP_SERVERS", local_stack.bootstrap_servers)
    found = {}
    for group, of in (("KAFKA", KafkaSettings), ("CONDUCT", ConductSettings)):
        for field in (field for field in of.model_fields if field.endswith("_topic")):
            stem = field.removesuffix("_topic")
            found[stem] = fresh_name(stem)
            monkeypatch.setenv(f"RSAFE_{group}__{field.upper()}", found[stem])
    return found


def _topics(*arguments: str) -> list[str]:
    result = CliRunner().invoke(topics, ["create", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return [line.partition(": ")[2] for line in result.output.splitlines()]


def _decisions(*arguments: str) -> Result:
    return CliRunner().invoke(decisions, [*arguments], catch_exceptions=False)


def _all(options: dict[str, Option], topic: str, start: Start = "beginning") -> list[Record]:
    batches = read_records(options, topic, start=start, follow=False, timeout_s=TIMEOUT_S)
    return [record for batch in batches for record in batch]


def _write(options: dict[str, Option], topic: str, values: list[bytes]) -> None:
    writer = RecordWriter(options, topic, timeout_s=TIMEOUT_S, delivery_timeout_ms=30_000)
    for value in values:
        writer.send(b"key", value)
    writer.finish()
    assert writer.delivered == len(values)


def test_topics_are_created_once_and_never_changed(names: dict[str, str]) -> None:
    assert _topics("--dry-run") == ["would be created"] * len(names)
    assert _topics("--partitions", "2") == ["created"] * len(names)
    assert _topics("--partitions", "2") == ["exists as wanted"] * len(names)
    different = "exists and was not changed, though partitions is 2, wanted 3"
    assert _topics("--partitions", "3") == [different] * len(names)
    assert _topics("--partitions", "2") == ["exists as wanted"] * len(names)


def test_a_topic_with_another_configuration_is_told(
    options: dict[str, Option], fresh_name: Callable[[str], str]
) -> None:
    name = fresh_name("topic")
    kept = WantedTopic(name, 1, 1, {"retention.ms": "1000", "cleanup.policy": "delete"})
    wanted = WantedTopic(name, 1, 1, {"retention.ms": "2000", "cleanup.policy": "delete"})
    assert create_topics(options, [kept], timeout_s=TIMEOUT_S)[0].outcome == "created"
    (report,) = create_topics(options, [wanted], timeout_s=TIMEOUT_S)
    assert (report.outcome, report.differences) == ("differs", ("retention.ms is 1000, wanted 2000",))


def test_a_topic_that_the_broker_refuses_is_named(
    options: dict[str, Option], fresh_name: Callable[[str], str]
) -> None:
    name = fresh_name("topic")
    with pytest.raises(StartError, match=f"topic {name} was not created: .*replicat"):
        create_topics(options, [WantedTopic(name, 1, 99, {})], timeout_s=TIMEOUT_S)


def test_produced_events_keep_conversations_together_and_in_order(
    names: dict[str, str], options: dict[str, Option], tmp_path: Path
) -> None:
    _topics()
    events = [{**EVENT, "event_id": f"e{n}", "conversation_id": f"room/{n % 7}"} for n in range(300)]
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(map(json.dumps, events)))
    result = CliRunner().invoke(produce, [str(file)], catch_exceptions=False)
    assert result.output.startswith(f"{names['events']}: 300 records, all acknowledged")
    records = _all(options, names["events"])
    assert len(records) == 300
    for room in range(7):
        key = record_key("acme", f"room/{room}")
        found = [record for record in records if record.key == key]
        assert len({record.partition for record in found}) == 1
        wanted = [event["event_id"] for event in events if event["conversation_id"] == f"room/{room}"]
        assert [json.loads(record.value or b"")["event_id"] for record in found] == wanted


def test_events_are_stamped_by_the_brokers_clock(
    names: dict[str, str], options: dict[str, Option], tmp_path: Path
) -> None:
    _topics()
    (tmp_path / "e.jsonl").write_text(json.dumps(EVENT))
    before = time.time()
    CliRunner().invoke(produce, [str(tmp_path / "e.jsonl")], catch_exceptions=False)
    (record,) = _all(options, names["events"])
    assert before - 1 <= record.timestamp_ms / 1000 <= time.time() + 1


def test_decisions_ends_at_the_end_of_the_topic(names: dict[str, str], options: dict[str, Option]) -> None:
    _topics()
    assert _decisions("--json").output == ""
    _write(options, names["decisions"], [DECISION] * 5)
    lines = _decisions("--json").output.splitlines()
    assert [json.loads(line) for line in lines] == [json.loads(DECISION)] * 5
    assert len(_decisions("--limit", "2").output.splitlines()) == 2


def test_a_reader_starts_where_it_is_told(
    options: dict[str, Option], fresh_name: Callable[[str], str]
) -> None:
    name = fresh_name("topic")
    create_topics(options, [WantedTopic(name, 1, 1, {})], timeout_s=TIMEOUT_S)
    _write(options, name, [b"%d" % number for number in range(10)])
    assert [record.value for record in _all(options, name, 3)] == [b"7", b"8", b"9"]
    assert len(_all(options, name, 100)) == 10
    assert _all(options, name, "end") == []


def test_following_gives_what_comes_later(
    options: dict[str, Option], fresh_name: Callable[[str], str]
) -> None:
    name = fresh_name("topic")
    create_topics(options, [WantedTopic(name, 1, 1, {})], timeout_s=TIMEOUT_S)
    _write(options, name, [b"earlier"])
    batches = read_records(options, name, start="end", follow=True, timeout_s=TIMEOUT_S)
    deadline = time.monotonic() + TIMEOUT_S
    found: list[Record] = []
    while not found and time.monotonic() < deadline:
        found.extend(next(batches))
        # The end is looked up at the first poll, so what is written after one poll comes.
        _write(options, name, [b"later"])
    batches.close()  # type: ignore[attr-defined]
    assert found[0].value == b"later"


def test_a_record_over_the_limit_is_an_error(
    options: dict[str, Option], fresh_name: Callable[[str], str]
) -> None:
    name = fresh_name("topic")
    create_topics(options, [WantedTopic(name, 1, 1, {})], timeout_s=TIMEOUT_S)
    with pytest.raises(UsageError, match=f"{name}: .*too large"):
        _write(options, name, [b"x" * 3_000_000])


def test_an_absent_topic_is_named_with_what_makes_it(names: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_text(json.dumps(EVENT))
    for command, arguments in ((produce, [str(tmp_path / "e.jsonl")]), (decisions, [])):
        with pytest.raises(StartError, match=r"there is no topic .*; `rsafe topics create` makes it"):
            CliRunner().invoke(command, arguments, catch_exceptions=False)


@pytest.mark.parametrize("command", [topics, decisions, produce], ids=lambda command: command.name)
def test_an_unreachable_broker_is_told_soon(
    command: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "e.jsonl").write_text(json.dumps(EVENT))
    arguments = {"topics": ["create"], "produce": [str(tmp_path / "e.jsonl")], "decisions": []}
    monkeypatch.setenv("RSAFE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("RSAFE_KAFKA__START_TIMEOUT_S", "0.5")
    name = command.name  # type: ignore[attr-defined]
    with pytest.raises(StartError, match=r"no broker at 127\.0\.0\.1:1 answered within 0\.5 s") as caught:
        CliRunner().invoke(command, arguments[name], catch_exceptions=False)  # type: ignore[arg-type]
    assert "RSAFE_KAFKA__BOOTSTRAP_SERVERS" in str(caught.value)
    assert caught.value.exit_code == 3
