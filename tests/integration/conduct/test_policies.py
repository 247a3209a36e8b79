"""`rsafe conduct` follows the topic of policies: a decision is counted by the version that made it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.conduct import Level
from schemas.decision import Decision, PolicyUsed
from schemas.policy import Policy, policy_hash
from tests.integration.conduct.harness import Site
from tests.integration.worker.harness import make_topics
from tests.unit.workers.conduct.world import decision, policy, rule
from tests.waiting import wait_for
from workers.published_policies import new_change, write_changes
from workers.settings import KafkaSettings, Settings

pytestmark = pytest.mark.timeout(280)

STRICT = policy(rule(levels=(Level(score=2, recommend="mute"),)), version="2")


def publish(site: Site, made: Policy) -> None:
    kafka = KafkaSettings(bootstrap_servers=site.bootstrap, policies_topic=f"{site.name}.policies")
    change = new_change("published", made, changed_by="t", why="a test", now=datetime.now(UTC))
    write_changes([change], Settings(kafka=kafka))


def by(made: Policy, number: int) -> Decision:
    used = PolicyUsed(
        id=made.id, version=made.version, policy_hash=policy_hash(made), judgement_hash="0" * 64
    )
    return decision(number, number, policy=used)


def test_a_published_rule_counts_what_is_decided_by_it(site: Site) -> None:
    admin = AdminClient({"bootstrap.servers": site.bootstrap})
    topic = NewTopic(f"{site.name}.policies", 1, 1, config={"cleanup.policy": "compact"})
    make_topics(admin, [topic])
    wait_for(lambda: topic.topic in admin.list_topics(timeout=10).topics, "the topic of policies")
    publish(site, site.policy)
    followed = {
        "RSAFE_POLICIES__SOURCE": "topic",
        "RSAFE_KAFKA__POLICIES_TOPIC": f"{site.name}.policies",
        "RSAFE_POLICIES__PATH": "",
    }
    process = site.start("store-1", **followed)
    process.await_ready()
    site.decide([by(site.policy, 1), by(site.policy, 2)])  # two: nothing by the first version
    site.await_end()
    assert site.escalations() == []
    publish(site, STRICT)
    site.decide([by(STRICT, 3)])  # one by the second version, which counts none of the first
    site.await_end()
    assert site.escalations() == []
    site.decide([by(STRICT, 4)])
    wait_for(site.escalations, "the second version's level")
    site.decide([by(site.policy, 5)])  # late, by the first version: its third
    site.await_end()
    told = [(one.recommend, one.rule.version, one.score) for one in site.escalations()]
    assert sorted(told) == [("mute", "2", 2.0), ("warn", "1", 3.0)]
    assert process.stop() == 0
