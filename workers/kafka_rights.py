"""What each command must be allowed to do in Kafka: the one list, for operators and for the tests."""

from __future__ import annotations

import shlex
from typing import Literal, NamedTuple, get_args

from workers.settings import ConductSettings, KafkaSettings

Task = Literal[
    "worker",
    "conduct",
    "conduct-show",
    "conduct-forget",
    "redrive",
    "produce",
    "decisions",
    "load",
    "topics",
    "review",
    "export",
    "announce",
    "policy",
]
TASKS: tuple[Task, ...] = get_args(Task)
Operation = Literal["Read", "Write", "Create", "DescribeConfigs"]
"""As `kafka-acls` spells them. `Read` and `Write` allow `Describe` as well."""


class Right(NamedTuple):
    """One resource, and what may be done with it. `prefixed`: with all whose names begin so."""

    kind: Literal["topic", "group", "transactional-id"]
    name: str
    operations: tuple[Operation, ...]
    prefixed: bool = False


def redrive_id(kafka: KafkaSettings) -> str:
    """The transactional id of `rsafe redrive`: one for every run over one topic of dead letters."""
    return f"rsafe-redrive-{kafka.dead_letters_topic}"


def rights(
    kafka: KafkaSettings,
    task: Task = "worker",
    policies: Literal["files", "topic"] = "files",
    conduct: ConductSettings = ConductSettings(),  # noqa: B008 (frozen)
) -> list[Right]:
    """The least that `task` needs with these settings; `policies` is where they come from for whoever judges
    or counts by them.

    Of these only `DescribeConfigs` may be missing: then the limits and the timestamps of the topics are taken
    on trust.
    """
    events, decisions, letters = kafka.events_topic, kafka.decisions_topic, kafka.dead_letters_topic
    match task:
        case "worker":
            found = [
                Right("topic", events, ("Read", "DescribeConfigs")),
                Right("topic", decisions, ("Write", "DescribeConfigs")),
                Right("topic", letters, ("Write", "DescribeConfigs")),
                Right("group", kafka.group_id, ("Read",)),
            ]
            if policies == "topic":
                found.append(Right("topic", kafka.policies_topic, ("Read",)))
            if kafka.delivery == "exactly-once":
                found.append(Right("transactional-id", f"{kafka.group_id}-", ("Write",), prefixed=True))
            return found
        case "redrive":
            return [
                Right("topic", letters, ("Read", "Write")),
                Right("topic", events, ("Write",)),
                Right("transactional-id", redrive_id(kafka), ("Write",)),
            ]
        case "produce":
            return [Right("topic", events, ("Write",))]
        case "decisions":
            return [Right("topic", decisions, ("Read",)), Right("topic", letters, ("Read",))]
        case "load":
            return [*rights(kafka, "produce"), *rights(kafka, "decisions")]
        case "conduct" | "conduct-show" | "conduct-forget":
            return _conduct(kafka, task, policies, conduct)
        case "review":
            return [Right("topic", decisions, ("Read",)), Right("topic", kafka.reviews_topic, ("Write",))]
        case "topics":
            every = [events, decisions, letters, kafka.reviews_topic, kafka.checkpoints_topic]
            every += [kafka.policies_topic, kafka.escalations_topic]
            every += [conduct.entries_topic, conduct.state_topic]
            return [Right("topic", name, ("Create", "DescribeConfigs")) for name in every]
        case "export":
            return [Right("topic", kafka.reviews_topic, ("Read",)), Right("topic", events, ("Read",))]
        case "policy":
            return [Right("topic", kafka.policies_topic, ("Read", "Write"))]
        case "announce":
            return [Right("topic", kafka.checkpoints_topic, ("Write",))]


def _conduct(
    kafka: KafkaSettings, task: Task, policies: Literal["files", "topic"], conduct: ConductSettings
) -> list[Right]:
    """The app makes no topic, also no changelog: Faust is told not to, and the state topic is its changelog.

    Hence nothing of `Create` here; `topics` has it.
    """
    by_rules = [Right("topic", kafka.policies_topic, ("Read",))] if policies == "topic" else []
    match task:
        case "conduct-show":
            return [Right("topic", conduct.state_topic, ("Read",)), *by_rules]
        case "conduct-forget":
            return [Right("topic", conduct.entries_topic, ("Write",))]
        case _:
            return [
                Right("topic", kafka.decisions_topic, ("Read",)),
                Right("topic", kafka.reviews_topic, ("Read",)),
                Right("topic", conduct.entries_topic, ("Read", "Write")),
                Right("topic", conduct.state_topic, ("Read", "Write")),
                Right("topic", kafka.escalations_topic, ("Write",)),
                Right("topic", kafka.dead_letters_topic, ("Write",)),
                Right("group", conduct.group_id, ("Read",)),
                *by_rules,
            ]


def acl_command(right: Right, principal: str, bootstrap_servers: str) -> str:
    """The command of Kafka's own tools that grants it to a principal such as `User:rsafe`."""
    words = ["kafka-acls.sh", "--bootstrap-server", bootstrap_servers, "--add"]
    words += ["--allow-principal", principal]
    for operation in right.operations:
        words += ["--operation", operation]
    words += [f"--{right.kind}", right.name]
    if right.prefixed:
        words += ["--resource-pattern-type", "prefixed"]
    return shlex.join(words)
