"""The story of a raid on real Kafka, Redis and vLLM: rules tightened midway, a decision overturned by review.

What must be seen stands in `workers.demo.story`, which the demo tells as well. Each scene is held to it while
the story is told; what is left on the topics is then read anew.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from schemas.escalation import Escalation
from schemas.review import Review
from tests.acceptance.checker import check
from tests.acceptance.evidence import Json, Run, json_object
from tests.acceptance.test_acceptance import SCHEMA_FILE
from tests.acceptance.topics import read_topics, uncommitted
from workers.adapters.embedded_addresses import Addresses
from workers.demo.story import POLICY, RAID, all_lines, story_policy
from workers.demo.story_run import tell
from workers.demo.story_site import Site
from workers.demo.surroundings import Progress
from workers.published_policies import read_published


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_the_story_of_a_raid_goes_as_it_is_told(local_stack: Addresses, tmp_path: Path) -> None:
    site = Site(local_stack, "vllm", tmp_path)
    console = Console(width=200)
    with Progress(console) as progress:
        assert tell(RAID, site, console, progress) == []

    kafka = site.settings.kafka
    topics = (kafka.events_topic, kafka.decisions_topic, kafka.dead_letters_topic,
              kafka.escalations_topic, kafka.reviews_topic)  # fmt: skip
    found = read_topics(local_stack.bootstrap_servers, *topics)
    run = Run(
        events=found[kafka.events_topic],
        decisions=found[kafka.decisions_topic],
        dead_letters=found[kafka.dead_letters_topic],
        expected={},
        log_lines=[
            line for log in sorted(tmp_path.glob("*.log")) for line in log.read_text("utf-8").splitlines()
        ],
        texts=[],
    )
    assert check(run, json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))) == []
    assert run.dead_letters == []

    decisions: list[Json] = [body for one in run.decisions if (body := json_object(one.value)) is not None]
    assert {one["guard"]["engine"] for one in decisions} == {"vllm"}
    assert Counter(
        (one["event_id"], one["policy"]["version"], one["action"]) for one in decisions
    ) == Counter((line.name, scene.version, line.action) for scene in RAID for line in scene.lines)
    assert len(run.events) == len(list(all_lines(RAID)))

    escalations = [
        msgspec.json.decode(one.value or b"", type=Escalation) for one in found[kafka.escalations_topic]
    ]
    assert len({one.escalation_id for one in escalations}) == len(escalations)
    assert Counter(
        (one.change, one.per, one.subject, one.rule.rule, one.rule.version, one.recommend, one.score)
        for one in escalations
    ) == Counter(
        (told.change, told.per, told.subject, told.rule, told.version, told.recommend, told.score)
        for scene in RAID
        for told in scene.escalations
    )
    withdrawn = next(one for one in escalations if one.change == "withdrawn")
    assert withdrawn.replaces in {one.escalation_id for one in escalations if one.change == "raised"}

    (review,) = [msgspec.json.decode(one.value or b"", type=Review) for one in found[kafka.reviews_topic]]
    (reviewed,) = [one for one in decisions if one["decision_id"] == review.decision_id]
    assert (review.label, reviewed["event_id"], reviewed["policy"]["version"]) == ("safe", "asked", "1")
    published = read_published(site.settings)
    versions = [entry.change.version for entry in published.history(None, POLICY) if entry.change is not None]
    assert versions == ["1", "2"]
    standing = published.state.get(None, POLICY)
    assert standing is not None and standing.policy == story_policy("2")
    for group, topic in (
        (kafka.group_id, kafka.events_topic),
        (site.settings.conduct.group_id, kafka.decisions_topic),
        (site.settings.conduct.group_id, kafka.reviews_topic),
        (site.settings.conduct.group_id, site.settings.conduct.entries_topic),
    ):
        assert uncommitted(local_stack.bootstrap_servers, group, topic) == 0
