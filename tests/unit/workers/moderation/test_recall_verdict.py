from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from guard.serving.question import MODES
from schemas.decision import GuardUsed
from schemas.event import Event
from schemas.policy import Band
from tests.unit.workers.moderation.builders import (
    FINGERPRINTS,
    GUARD,
    make_asked,
    make_chosen,
    make_event,
    make_turn,
    make_verdict,
)
from workers.moderation.outcome import ChosenPolicy
from workers.moderation.recall_verdict import VerdictKeys, guard_of, judged_before, recall_verdicts, use_of
from workers.ports import CachedVerdict


def key_of(
    event: Event | None = None,
    chosen: ChosenPolicy | None = None,
    guard: GuardUsed = GUARD,
    scope: Any = "tenant",
) -> str:
    event, chosen = event or make_event(), chosen or make_chosen()
    own = FINGERPRINTS.of(event.tenant)
    guards = {mode: msgspec.structs.replace(guard, mode=mode) for mode in MODES}
    keys = VerdictKeys(scope, FINGERPRINTS, guards)
    return keys.key(event, chosen, own.text(event.message.text), own.context(event.context))


def test_policy_and_weights_are_plain_segments() -> None:
    chosen = make_chosen()
    segments = key_of(chosen=chosen).split(":")
    assert segments[:4] == ["rsafe", "1", "verdict", "acme"]
    assert segments[4] == chosen.used.judgement_hash
    assert segments[5] == GUARD.weights_digest
    assert segments[6] == "t-1"
    assert segments[7].startswith("think-")
    assert segments[8] == "user"
    assert len(segments) == 10


@pytest.mark.parametrize(
    "other",
    [
        key_of(make_event(text="hello there ")),
        key_of(make_event(role="assistant")),
        key_of(make_event(context=(make_turn("before"),))),
        key_of(make_event(tenant="acme:other")),
        key_of(chosen=make_chosen(mode="fast")),
        key_of(chosen=make_chosen(mode="adaptive", uncertain_band=Band(low=0.2, high=0.8))),
        key_of(guard=msgspec.structs.replace(GUARD, weights_digest="v" * 64)),
        key_of(guard=msgspec.structs.replace(GUARD, template_version="t-2")),
        key_of(guard=msgspec.structs.replace(GUARD, decoding="sampled")),
        key_of(guard=msgspec.structs.replace(GUARD, parser_version="p-2")),
        key_of(guard=msgspec.structs.replace(GUARD, engine="vllm")),
        key_of(chosen=msgspec.structs.replace(make_chosen(), asking="mapped", mapping="S1=C1")),
        key_of(scope="shared"),
    ],
)
def test_whatever_changes_an_answer_changes_the_key(other: str) -> None:
    assert key_of() != other


@pytest.mark.parametrize(
    "same",
    [
        key_of(make_event(event_id="e-2", conversation_id="c-2", id="m-2", author="b")),
        key_of(chosen=make_chosen(threshold=0.9, version="2", id="p-2")),
        key_of(
            guard=msgspec.structs.replace(GUARD, checkpoint_digest="d" * 64, engine_version="2", model="n")
        ),
    ],
)
def test_what_does_not_change_an_answer_does_not_change_the_key(same: str) -> None:
    assert key_of() == same


def test_a_band_is_part_of_the_key_where_it_is_in_force_alone() -> None:
    bands = [Band(low=0.2, high=0.8), Band(low=0.2, high=0.9)]
    of_adaptive = {key_of(chosen=make_chosen(mode="adaptive", uncertain_band=band)) for band in bands}
    assert len(of_adaptive) == 2
    assert all(":adaptive-" in key for key in of_adaptive)
    assert {key_of(chosen=make_chosen(uncertain_band=band)) for band in bands} == {key_of()}


def test_tenants_share_verdicts_only_when_told() -> None:
    assert key_of(make_event(tenant="b")) != key_of()
    assert key_of(make_event(tenant="b"), scope="shared") == key_of(scope="shared")


class Cache:
    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []

    async def recall(self, keys: Sequence[str]) -> list[CachedVerdict | None]:
        self.asked.append(keys)
        return [make_cached() if key == "known" else None for key in keys]

    async def keep(self, key: str, verdict: CachedVerdict, ttl_s: float) -> None:
        raise NotImplementedError


def make_cached(**changes: Any) -> CachedVerdict:
    base: dict[str, Any] = {
        "verdict": make_verdict(rationale="you said hello there, which is fine"),
        "origin_decision": "o",
        "kept_at_ms": 1000,
        "rationale_form": "full",
        "model": "m",
        "checkpoint_digest": "c" * 64,
        "verified": True,
        "engine_version": "1",
    }
    return CachedVerdict(**(base | changes))


async def test_a_batch_is_one_round_trip_and_a_key_is_asked_for_once() -> None:
    cache = Cache()
    found = await recall_verdicts(
        [make_asked(cache_key=key) for key in ("new", "known", "new", "known")], cache
    )
    assert [verdict is not None for verdict in found] == [False, True, False, True]
    assert cache.asked == [["new", "known"]]
    assert await recall_verdicts([], cache) == []
    assert len(cache.asked) == 1


def test_a_rationale_that_was_kept_whole_is_masked_when_the_setting_says_so_now() -> None:
    asked, cached = make_asked(), make_cached()
    assert "hello" in judged_before(asked, cached, GUARD, "full").rationale
    assert "hello" not in judged_before(asked, cached, GUARD, "masked").rationale
    assert judged_before(asked, cached, GUARD, "off").rationale == ""


def test_a_remembered_verdict_says_whence_and_how_old() -> None:
    cache = use_of(make_cached(), 1500)
    assert (cache.hit, cache.origin_decision, cache.age_ms) == (True, "o", 500)
    assert use_of(make_cached(), 900).age_ms == 0


def test_the_guard_of_a_remembered_verdict_is_the_one_that_gave_it() -> None:
    assert guard_of(make_cached(), GUARD) is GUARD
    old = guard_of(make_cached(engine_version="0", model="older"), GUARD)
    assert (old.engine_version, old.model, old.weights_digest) == ("0", "older", GUARD.weights_digest)
