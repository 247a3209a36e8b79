"""Topic contracts and the AsyncAPI document made from them."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.asyncapi import asyncapi_document
from schemas.dead_letter import DeadLetter, dead_letter_headers
from schemas.generate import FOLDER
from schemas.json_schema import NOUNS
from schemas.topics import Topic, load_topics

TOPICS = load_topics()
topics = pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)


def test_the_topics_of_the_design_are_there() -> None:
    names = [topic.name for topic in TOPICS]
    assert names[:3] == ["chat.events", "moderation.decisions", "moderation.dead-letters"]
    assert len(set(names)) == len(names) == 9


@topics
def test_a_contract_says_who_what_and_how_long(topic: Topic) -> None:
    assert topic.purpose.endswith(".")
    assert topic.writers
    assert topic.readers
    assert topic.key
    assert topic.config["cleanup.policy"] in ("delete", "compact")
    assert ("retention.ms" in topic.config) == (topic.config["cleanup.policy"] == "delete")


@topics
def test_a_contract_names_schemas_that_exist(topic: Topic) -> None:
    nouns = {noun.name for noun in NOUNS}
    assert topic.value in {*nouns, "bytes", "internal", None}
    assert topic.headers in {*nouns, None}
    assert topic.planned or topic.value is not None


def test_every_reference_of_the_document_leads_somewhere() -> None:
    document = asyncapi_document(TOPICS)
    references = list(_references(document))
    assert len(references) > len(TOPICS)
    for reference in references:
        if reference.startswith("#/"):
            at: Any = document
            for step in reference.removeprefix("#/").split("/"):
                at = at[step]
        else:
            assert (FOLDER / reference).is_file()


def _references(value: Any) -> Any:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            else:
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def test_the_document_lists_the_headers_that_a_dead_letter_has() -> None:
    letter = DeadLetter(topic="t", partition=0, offset=0, reason="empty", sentence="s", timestamp_ms=1)
    headers = asyncapi_document(TOPICS)["components"]["messages"]["moderationDeadLetters"]["headers"]
    assert set(headers["properties"]) == {name for name, _ in dead_letter_headers(letter)}
    assert "rsafe-reason" in headers["required"]
    assert "over_limit" in headers["properties"]["rsafe-reason"]["enum"]


def test_the_product_receives_events_and_reviews_and_sends_the_rest() -> None:
    operations = asyncapi_document(TOPICS)["operations"]
    assert {name: operation["action"] for name, operation in operations.items()} == {
        "receiveChatEvents": "receive",
        "sendModerationDecisions": "send",
        "sendModerationDeadLetters": "send",
        "receiveModerationReviews": "receive",
        "sendModerationCheckpoints": "send",
        "receiveModerationPolicies": "receive",
        "sendModerationEscalations": "send",
        "sendModerationConduct": "send",
        "sendModerationConductState": "send",
    }


def test_the_document_lists_the_headers_that_a_decision_has() -> None:
    headers = asyncapi_document(TOPICS)["components"]["messages"]["moderationDecisions"]["headers"]
    assert set(headers["properties"]) - set(headers["required"]) == {"traceparent"}
    assert {"ce_id", "ce_type", "ce_causationid"} < set(headers["required"])


def test_a_release_has_no_cause() -> None:
    headers = asyncapi_document(TOPICS)["components"]["messages"]["moderationCheckpoints"]["headers"]
    assert set(headers["properties"]) == set(headers["required"])
    assert "ce_id" in headers["required"]
    assert "ce_causationid" not in headers["properties"]
