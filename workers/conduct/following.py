"""Where the rules of `rsafe conduct` come from: files, read once, or the topic of policies, followed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

import structlog

from schemas.dead_letter import DeadLetter
from schemas.decision import PolicyUsed
from schemas.policy import Policy, judgement_hash, policy_hash
from workers.adapters.policy_topic import PolicyTopic
from workers.adapters.topics_io import Record
from workers.conduct.rules import Rules
from workers.moderation.choose_policy import PolicyBook
from workers.moderation.outcome import ChosenPolicy
from workers.policies import load_policies
from workers.policy_follower import Letters, PolicyFollower, PolicyRecords
from workers.settings import KafkaSettings, Settings

# How long a decision by an unknown version of a policy waits for it. The version was published before the
# decision was made, so it is a moment behind, or it is gone from the topic.
_ARRIVES_S: Final = 5.0
_ASK_AGAIN_S: Final = 0.05
# So many versions that did not come are remembered, so as not to be waited for again.
_MISSED: Final = 1_000


class _WorkersWrite:
    """No dead letters of records that are no policies: each of them has one of the workers already."""

    def send(self, kafka: KafkaSettings, record: Record, letter: DeadLetter) -> None:
        """Nothing."""


def open_rules(
    settings: Settings, records: Callable[[], PolicyRecords] = PolicyTopic
) -> tuple[Rules, PolicyFollower | None]:
    """The rules as they stand, and with the topic of policies its follower, to be closed.

    Raises as `load_policies` or `PolicyFollower.load`.
    """
    chosen = settings.policies
    if chosen.source == "files":
        return Rules(load_policies(chosen.path, chosen.default, chosen.unknown).all), None
    book = Rules()

    def ready(policy: Policy) -> ChosenPolicy:
        book.learn(policy)  # each version that passes, not only those that a snapshot has
        return _unasked(policy)

    letters: Letters = _WorkersWrite()
    follower = PolicyFollower(settings.kafka, chosen, records=records(), letters=letters, ready=ready)
    try:
        follower.load()
    except BaseException:
        follower.close()
        raise
    follower.attach(lambda found: book.use(found.policies.all))
    return book, follower


def arrival(
    book: Rules, follower: PolicyFollower | None, wait_s: float = _ARRIVES_S
) -> Callable[[str], Awaitable[None]]:
    """Waits until the version of a policy with this `policy_hash` was read: `wait_s` seconds at most, and
    once for each of the last thousand that did not come. Without a follower nothing can come, and nothing is
    waited for; nor for an empty hash."""
    missed: dict[str, None] = {}

    async def wait(digest: str) -> None:
        if follower is None or not digest or book.knows(digest) or digest in missed:
            return
        until = time.monotonic() + wait_s
        while not book.knows(digest):
            if time.monotonic() >= until:
                missed[digest] = None
                if len(missed) > _MISSED:
                    del missed[next(iter(missed))]
                return
            await asyncio.sleep(_ASK_AGAIN_S)

    return wait


class PolicyLog:
    """Implements `workers.policy_follower.PolicyObserver`: what an operator should know, in the log."""

    def __init__(self, log: Any = None) -> None:
        self._log = structlog.get_logger("rsafe.conduct") if log is None else log
        self._told = False

    def policy_record(self, outcome: Literal["published", "retired", "refused"]) -> None:
        """Nothing: the workers count them."""

    def policy_refused(self, letter: DeadLetter) -> None:
        self._log.error(
            "A record of the topic of policies is refused; the version before stays in force.",
            partition=letter.partition,
            offset=letter.offset,
            field=letter.field,
            why=letter.sentence,
        )

    def policies_changed(self, book: PolicyBook) -> None:
        self._told = False
        self._log.info(
            "The policies in force changed.",
            policies=len(book.policies.all),
            fingerprint=book.fingerprint,
        )

    def policies_not_followed(self, why: str) -> None:
        if not self._told:  # it is tried every second
            self._told = True
            self._log.warning("The topic of policies is not followed now; it is tried again.", why=why)


def _unasked(policy: Policy) -> ChosenPolicy:
    """A policy by which nothing is judged: what its judgement needs is not worked out."""
    used = PolicyUsed(
        id=policy.id,
        version=policy.version,
        policy_hash=policy_hash(policy),
        judgement_hash=judgement_hash(policy),
    )
    return ChosenPolicy(
        policy=policy,
        used=used,
        surfaces=frozenset(),
        by_code={},
        strictest="allow",
        yardsticks={},
        uncertain={},
        asking="",
    )
