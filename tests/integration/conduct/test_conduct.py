"""`rsafe conduct` on a real broker: the same escalations whatever happens to its processes."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer

from schemas.conduct import MOST_STRIKES
from schemas.decision import Decision
from schemas.escalation import Escalation
from schemas.review import Review
from tests.integration.conduct.conftest import POLICY
from tests.integration.conduct.harness import Site
from tests.integration.worker.harness import SOON_MISSED
from tests.unit.workers.conduct.world import START_S, World, decision
from tests.waiting import wait_for
from workers.conduct.entries import Subject, author_digest
from workers.conduct.state import Kept, State, encode_state

pytestmark = pytest.mark.timeout(280)
_SCHEMA: dict[str, Any] = msgspec.json.schema(Escalation)["$defs"]


def traffic(count: int) -> list[Decision]:
    """Decisions of 40 authors in 12 conversations; the same every time. One in ten comes twice."""
    seeded = random.Random(7)
    made = [
        decision(
            number,
            number * 0.5,
            author=f"author-{seeded.randrange(40)}",
            conversation_id=f"room-{seeded.randrange(12)}",
            action=seeded.choice(["block", "flag", "allow"]),
        )
        for number in range(1, count + 1)
    ]
    return [one for single in made for one in [single] * (2 if seeded.random() < 0.1 else 1)]


def expected(decisions: list[Decision]) -> dict[str, Any]:
    """What one undisturbed run tells, without Kafka: each id once, and what its records agree in."""
    world = World([POLICY], allowed_lateness_s=3600)
    world.decide(*decisions)
    found = {one.escalation_id: steady(one) for one in world.escalations}
    assert len(found) == len(world.escalations)
    return found


def steady(one: Escalation) -> dict[str, Any]:
    """All but what may differ between two records of one id, by their schema."""
    return _without_volatile(msgspec.to_builtins(one), "Escalation")


def _without_volatile(content: dict[str, Any], struct: str) -> dict[str, Any]:
    kept = {}
    for name, field in _SCHEMA[struct]["properties"].items():
        if not field.get("x-volatile"):
            part = field.get("$ref", "").rpartition("/")[2]
            kept[name] = _without_volatile(content[name], part) if part else content[name]
    return kept


def test_what_is_compared_is_all_that_the_schema_promises() -> None:
    (name,) = list(expected(traffic(60)))[:1]
    compared = expected(traffic(60))[name]
    assert {"escalation_id", "turn", "replaces", "subject", "window_start"} <= set(compared)
    assert "score" not in compared and set(compared["rule"]) == {"policy", "rule"}


def test_kills_and_joins_change_no_escalation(site: Site) -> None:
    decisions = traffic(600)
    undisturbed = expected(decisions)
    first = site.start("store-1", **SOON_MISSED)
    first.await_ready()
    site.decide(decisions[:300])
    wait_for(lambda: len(site.records("state")) > 100, "state to be written")
    first.kill()
    second = site.start("store-1", **SOON_MISSED)
    third = site.start("store-3", **SOON_MISSED)
    second.await_ready()
    third.await_ready()
    site.decide(decisions[300:450])
    wait_for(lambda: len(site.records("state")) > 400, "more state")
    assert third.stop() == 0
    site.decide(decisions[450:])
    wait_for(lambda: len(site.records("state")) > 600, "more state")
    second.kill()
    site.start("store-of-its-own", **SOON_MISSED).await_ready()  # all it knows is the changelog
    site.await_end()
    told = site.escalations()
    assert {one.escalation_id for one in told} == set(undisturbed)
    # An id may come again after each of the two kills, and only word for word.
    assert max(Counter(one.escalation_id for one in told).values()) <= 3
    for one in told:
        assert steady(one) == undisturbed[one.escalation_id]


def test_a_process_that_joins_and_leaves_repeats_nothing(site: Site) -> None:
    decisions = traffic(300)
    first = site.start("store-1")
    first.await_ready()
    site.decide(decisions[:100])
    second = site.start("store-2")
    second.await_ready()
    site.decide(decisions[100:200])
    wait_for(lambda: len(site.records("state")) > 200, "state to be written")
    assert second.stop() == 0
    site.decide(decisions[200:])
    site.await_end()
    assert first.stop() == 0
    undisturbed = expected(decisions)
    told = site.escalations()
    assert Counter(one.escalation_id for one in told) == Counter(list(undisturbed))
    for one in told:
        assert steady(one) == undisturbed[one.escalation_id]


def test_a_replay_of_changelog_and_decisions_tells_nothing_new(site: Site) -> None:
    decisions = traffic(120)
    process = site.start("store-1")
    site.decide(decisions)
    process.await_ready()
    site.await_end()
    before = sorted(one.escalation_id for one in site.escalations())  # partitions are read in any order
    assert before == sorted(expected(decisions))  # undisturbed: none twice
    assert process.stop() == 0
    site.decide(decisions)
    site.start("store-2").await_ready()
    site.await_end()
    assert sorted(one.escalation_id for one in site.escalations()) == before


def test_a_review_takes_back_and_people_see_it(site: Site) -> None:
    site.decide(decision(number, number) for number in (1, 2, 3))
    site.produce("decisions", [(b"k", b"no json"), (b"k", b'{"a": 1}')])
    process = site.start("store-1")
    process.await_ready()
    wait_for(lambda: len(site.escalations()) == 1, "the warning")
    reply = site.command("review", f"{2:064x}", "--label", "safe", "--reviewer", "r", "--note", "a quotation")
    assert reply.endswith("safe\n")
    wait_for(lambda: len(site.escalations()) == 2, "its withdrawal")
    assert [one.change for one in site.escalations()] == ["raised", "withdrawn"]
    site.await_end()
    shown = json.loads(site.command("conduct", "show", "--tenant", "acme", "--author", "a", "--json"))
    assert [(one["taken_back"]) for one in shown["decisions"]] == [False, True, False]
    assert [one["in_force"] for one in shown["recommendations"]] == [False]
    status, text = process.get("/conduct/author?tenant=acme&id=a")
    assert status == 200
    assert json.loads(text)["decisions"] == shown["decisions"]
    assert process.get("/conduct/author?tenant=acme")[0] == 400
    letters = site.records("dead")
    assert sorted(dict(one.headers)["rsafe-reason"] for one in letters) == [b"invalid", b"undecodable"]
    assert {one.value for one in letters} == {b"no json", b'{"a": 1}'}
    assert "rsafe_conduct_escalations_total" in process.get("/metrics")[1]


def test_a_forgotten_author_does_not_come_back(site: Site) -> None:
    old = [decision(number, number) for number in (1, 2, 3)]
    site.decide(old)
    process = site.start("store-1")
    process.await_ready()
    wait_for(lambda: len(site.escalations()) == 1, "the warning")
    site.command("conduct", "forget", "--tenant", "acme", "--author", "a")
    site.await_end()
    site.decide(old)
    site.await_end()
    assert process.stop() == 0
    site.start("store-2").await_ready()  # from the changelog
    site.decide(old)
    site.await_end()
    assert len(site.escalations()) == 1
    shown = json.loads(site.command("conduct", "show", "--tenant", "acme", "--author", "a", "--json"))
    assert shown["decisions"] == []
    assert "forgotten_until" in shown
    key = Subject("author", "acme", "a").key
    (last,) = [one for one in site.records("state") if one.key == key][-1:]
    assert b'"a"' not in last.value and f"{1:064x}".encode() not in last.value
    newest = {one.key: one.value or b"" for one in site.records("state")}
    assert not any(author_digest("acme", "a").encode() in value for value in newest.values())


def test_what_has_expired_is_deleted_and_what_is_new_stays(site: Site) -> None:
    site.decide([decision(1, 1, author="old", conversation_id="x"), decision(2, 2, conversation_id="y")])
    site.decide([decision(3, 9 * 86_400, author="new", conversation_id="z")])
    process = site.start("store-1", RSAFE_CONDUCT__SWEEP_S="1")
    process.await_ready()
    gone = {Subject("author", "acme", "old").key, Subject("author", "acme", "a").key}

    def newest() -> dict[bytes, bytes | None]:
        return {one.key: one.value for one in site.records("state")}

    wait_for(lambda: {key for key, value in newest().items() if value is None} >= gone, "the deletions")
    assert newest()[Subject("author", "acme", "new").key]
    assert process.stop() == 0


def test_a_state_of_more_than_a_megabyte_is_written_and_read_back(site: Site) -> None:
    author = Subject("author", "acme", "a")
    full = State(
        subject=author,
        newest_ms=START_S * 1000,
        strikes={
            f"{number:064x}": Kept(
                START_S * 1000 - number, "p" * 256, "block", "user", "0" * 24, ("C" * 16,) * 64
            )
            for number in range(MOST_STRIKES)
        },
    )
    site.produce("state", [(author.key, encode_state(full))])

    def newest() -> bytes:
        return b"".join([one.value for one in site.records("state") if one.key == author.key][-1:])

    assert len(newest()) > 1_048_588
    for number in (5_001, 5_002):  # the second process has what the first one wrote
        process = site.start(f"store-{number}")
        process.await_ready()
        site.decide([decision(number, number / 1000)])
        wait_for(lambda: f"{number:064x}".encode() in newest(), "the new state")  # noqa: B023
        assert process.stop() == 0
    assert len(newest()) > 1_048_588 and f"{5_001:064x}".encode() in newest()


def test_a_review_before_its_decision_counts(site: Site) -> None:
    made = Review(
        review_id="r1",
        decision_id=f"{2:064x}",
        origin=decision(2, 2).origin,
        reviewer="r",
        label="safe",
        reviewed_at=datetime.fromtimestamp(START_S + 50, UTC),
    )
    site.review(made)
    process = site.start("store-1")
    process.await_ready()
    site.await_end()
    site.decide(decision(number, number) for number in (1, 2))
    site.await_end()
    site.decide([decision(3, 3)])
    site.await_end()
    assert site.escalations() == []


def test_what_a_worker_aborted_is_no_decision(site: Site) -> None:
    producer = Producer({"bootstrap.servers": site.bootstrap, "transactional.id": site.name})
    producer.init_transactions(30)
    for number, ends in ((1, True), (2, False), (3, True), (4, False), (5, False)):
        producer.begin_transaction()
        one = decision(number, number)
        producer.produce(f"{site.name}.decisions", msgspec.json.encode(one), b"k")
        producer.flush(30)
        if ends:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    process = site.start("store-1")
    process.await_ready()
    site.decide([decision(8, 8)])
    wait_for(site.escalations, "the third")
    assert site.escalations()[0].decisions == tuple(f"{number:064x}" for number in (1, 3, 8))
