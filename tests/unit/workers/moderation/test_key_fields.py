"""Which field of a policy and of the guard a remembered verdict depends on: all of them, none forgotten.

A new field fails the first test until somebody has said here whether it changes what the model is asked.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.calibration import FalsePositives, Scales, UncertainBand
from guard.scores import RawBand
from schemas.conduct import Conduct, ConductRule, Level
from schemas.decision import GuardUsed
from schemas.event import Event
from schemas.identifiers import Mode, Role
from schemas.policy import (
    Band,
    Category,
    Crosswalk,
    Policy,
    PolicyExample,
    canonical_categories,
    judgement_hash,
)
from tests.unit.workers.moderation.builders import (
    FINGERPRINTS,
    GUARD,
    make_book,
    make_curve,
    make_event,
    make_scales,
    make_verdict,
)
from workers.adapters.local_cache import LocalCache
from workers.moderation.outcome import ChosenPolicy
from workers.moderation.recall_verdict import VerdictKeys
from workers.ports import CachedVerdict

TEXT: Final = st.text(min_size=1, max_size=20)
NAME: Final = st.text("abcXYZ019-", min_size=1, max_size=12)
SHARE: Final = st.floats(0, 1)
RATE: Final = st.floats(1e-300, 1)
BAND: Final = st.tuples(SHARE, SHARE).map(lambda ends: Band(low=min(ends), high=max(ends)))
RATED: Final = "max_false_positive_rate"  # stands in the place of a threshold, never beside one
DIGEST: Final = st.text("0123456789abcdef", min_size=64, max_size=64)
ROLES: Final[tuple[Role, ...]] = get_args(Role)
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
CONDUCT: Final = Conduct(
    rules=(ConductRule(id="often", per="author", window_s=60, levels=(Level(score=3, recommend="warn"),)),)
)

# Field → values that it may have, and whether another value is another question.
CATEGORY: Final[dict[str, tuple[st.SearchStrategy[Any], bool]]] = {
    "code": (st.from_regex(r"[A-Z][A-Z0-9]{0,5}", fullmatch=True), True),
    "title": (TEXT, True),
    "definition": (TEXT, True),
    "exceptions": (st.lists(TEXT, max_size=3).map(tuple), True),
    "action": (st.sampled_from(["block", "flag", "review"]), False),
    "threshold": (st.none() | SHARE, False),
    RATED: (RATE, False),
    "crosswalk": (st.builds(Crosswalk, rsafe=st.lists(NAME, max_size=2).map(tuple)), False),
}
CATEGORIES: Final = st.lists(
    st.builds(Category, **{name: values for name, (values, _) in CATEGORY.items() if name != RATED}),
    min_size=1,
    max_size=3,
    unique_by=lambda category: category.code.casefold(),
).map(tuple)
EXAMPLES: Final = st.builds(PolicyExample, text=TEXT, label=st.just("safe"), codes=st.just(()))
POLICY: Final[dict[str, tuple[st.SearchStrategy[Any], bool]]] = {
    "id": (NAME, False),
    "version": (NAME, False),
    "categories": (CATEGORIES, True),
    "title": (st.text(max_size=20), False),
    "tenant": (st.none() | NAME, False),  # whose policy it is; whose message it is stands in the key
    "threshold": (SHARE, False),
    RATED: (RATE, False),
    "surfaces": (st.sampled_from([ROLES, ROLES[:1], ROLES[1:]]), False),
    "mode": (st.sampled_from(MODES), True),
    "uncertain_band": (st.none() | BAND, True),  # with `adaptive`, else it changes nothing
    "on_unjudged": (st.sampled_from(["review", "allow", "block"]), False),
    "on_unavailable": (st.sampled_from(["hold", "review", "allow", "block"]), False),
    "deadline_ms": (st.none() | st.integers(1, 10_000), False),
    "cache_ttl": (st.none() | st.integers(0, 10_000), False),
    "examples": (
        st.lists(st.builds(PolicyExample, text=TEXT, label=st.just("safe")), max_size=2).map(tuple),
        False,
    ),
    "conduct": (st.none() | st.just(CONDUCT), False),  # counts decisions, and asks nothing
}
GUARD_USED: Final[dict[str, tuple[st.SearchStrategy[Any], bool]]] = {
    "model": (NAME, False),
    "checkpoint_digest": (DIGEST, False),  # other files of the same weights
    "weights_digest": (DIGEST, True),
    "verified": (st.booleans(), False),
    "template_version": (TEXT, True),
    "parser_version": (TEXT, True),
    "engine": (st.sampled_from(["scripted", "vllm", "vllm-remote"]), True),
    "engine_version": (NAME, False),
    "mode": (st.sampled_from(MODES), True),
    "decoding": (TEXT, True),
    "calibration_digest": (st.none() | DIGEST, False),  # applied when a decision is made, on hits too
}
EVENT: Final[dict[str, tuple[st.SearchStrategy[Any], bool]]] = {
    "tenant": (NAME | st.sampled_from(["a:b", "a%3Ab", "*", "{a}"]), True),
    "role": (st.sampled_from(ROLES), True),
    "text": (TEXT, True),
    "id": (NAME, False),
    "author": (NAME, False),
    "event_id": (NAME, False),
    "conversation_id": (NAME, False),
}
SOME: Final = Policy(id="p", version="1", categories=(Category(code="C", title="t", definition="d"),))
# Enough that a field with two or three values changes for certain.
EXAMPLES_OF_EACH: Final = settings(max_examples=25)
# Every rate can be resolved.
SCALES: Final = make_scales(
    make_curve(
        false_positives=FalsePositives(rates=(1e-301, 1.0), scores=(1.0, 0.0)),
        uncertain_band=UncertainBand(
            low=0.2, high=0.6, inside=0.1, fast_right=0.9, think_right=1.0, adaptive_right=1.0
        ),
    )
)
KEPT: Final = CachedVerdict(make_verdict(), "o", 0, "masked", "m", "c", True, "1")


@pytest.mark.parametrize(
    ("struct", "said"), [(Policy, POLICY), (Category, CATEGORY), (GuardUsed, GUARD_USED)]
)
def test_every_field_is_classified(struct: Any, said: dict[str, Any]) -> None:
    assert set(said) == set(struct.__struct_fields__)


POLICIES: Final = st.builds(
    Policy, **{name: values for name, (values, _) in POLICY.items() if name not in ("tenant", RATED)}
)
GUARDS: Final = st.builds(GuardUsed, **{name: values for name, (values, _) in GUARD_USED.items()})


Rated = TypeVar("Rated", Policy, Category)


def with_field(before: Rated, name: str, value: Any) -> Rated:
    """The same with another value of a field; a rate takes the threshold's place."""
    return msgspec.structs.replace(before, **{name: value, **({"threshold": None} if name == RATED else {})})


def key_of(policy: Policy, guard: GuardUsed, event: Event, scales: Scales = SCALES) -> str:
    """The key of an event under a policy and the guard in that policy's mode, in the default scope."""
    chosen = make_book(default=policy, scales=scales).choose(event)
    assert isinstance(chosen, ChosenPolicy)
    used = msgspec.structs.replace(guard, mode=policy.mode)
    own = FINGERPRINTS.of(event.tenant)
    keys = VerdictKeys("tenant", FINGERPRINTS, {policy.mode: used})
    return keys.key(event, chosen, own.text(event.message.text), own.context(event.context))


def in_force(policy: Policy, scales: Scales = SCALES) -> RawBand:
    """The band by which an adaptive policy is judged, in raw scores."""
    chosen = make_book(default=policy, scales=scales).choose(make_event())
    assert isinstance(chosen, ChosenPolicy)
    return chosen.uncertain[policy.surfaces[0]]


async def answers(kept_under: str, asked_by: str) -> bool:
    """Whether a cache that has a verdict under one key answers another one with it."""
    cache = LocalCache(10**6, lambda: 0.0)
    await cache.keep(kept_under, KEPT, 60)
    return await cache.recall([asked_by]) == [KEPT]


@pytest.mark.parametrize("name", sorted(POLICY))
@EXAMPLES_OF_EACH
@given(st.data())
async def test_a_changed_field_of_the_policy_is_another_question_or_not_as_classified(
    name: str, data: Any
) -> None:
    policy = data.draw(POLICIES)
    values, another = POLICY[name]
    value = data.draw(values)
    changed = with_field(policy, name, value) if name != "tenant" else policy
    if name == "categories":
        another = judgement_hash(policy) != judgement_hash(changed)
    elif name == "uncertain_band":
        another = policy.mode == "adaptive" and in_force(policy) != in_force(changed)
    else:
        another = another and value != getattr(policy, name)
    judged = [role for role in policy.surfaces if role in changed.surfaces]
    if not judged:  # a role that is not judged is not asked about, so its key does not matter
        return
    event = make_event(role=judged[0])
    old, new = key_of(policy, GUARD, event), key_of(changed, GUARD, event)
    assert await answers(old, new) is not another


@pytest.mark.parametrize("name", sorted(CATEGORY))
@EXAMPLES_OF_EACH
@given(st.data())
async def test_a_changed_field_of_a_category_is_another_question_or_not_as_classified(
    name: str, data: Any
) -> None:
    policy = data.draw(POLICIES)
    number = data.draw(st.integers(0, len(policy.categories) - 1))
    values, another = CATEGORY[name]
    others = {category.code.casefold() for category in policy.categories}
    value = data.draw(values.filter(lambda one: name != "code" or one.casefold() not in others))
    before = policy.categories[number]
    categories = list(policy.categories)
    categories[number] = with_field(before, name, value)
    changed = msgspec.structs.replace(policy, categories=tuple(categories))
    event = make_event()
    same = await answers(key_of(policy, GUARD, event), key_of(changed, GUARD, event))
    assert same is not (another and value != getattr(before, name))


@given(POLICIES)
async def test_the_order_of_categories_is_no_other_question(policy: Policy) -> None:
    turned = msgspec.structs.replace(policy, categories=tuple(reversed(canonical_categories(policy))))
    assert await answers(key_of(policy, GUARD, make_event()), key_of(turned, GUARD, make_event()))


@pytest.mark.parametrize("name", sorted(GUARD_USED))
@EXAMPLES_OF_EACH
@given(st.data())
async def test_a_changed_field_of_the_guard_is_another_question_or_not_as_classified(
    name: str, data: Any
) -> None:
    guard = data.draw(GUARDS)
    values, another = GUARD_USED[name]
    value = data.draw(values)
    changed = msgspec.structs.replace(guard, **{name: value})
    old, new = (
        key_of(msgspec.structs.replace(SOME, mode=one.mode), one, make_event()) for one in (guard, changed)
    )
    same = await answers(old, new)
    assert same is not (another and value != getattr(guard, name))


@pytest.mark.parametrize("name", sorted(EVENT))
@EXAMPLES_OF_EACH
@given(st.data())
async def test_another_tenant_role_or_text_is_never_answered_from_it(name: str, data: Any) -> None:
    values, another = EVENT[name]
    first, second = data.draw(values), data.draw(values)
    old, new = (key_of(SOME, GUARD, make_event(**{name: value})) for value in (first, second))
    same = await answers(old, new)
    assert same is not (another and first != second)


@given(POLICIES, BAND)
async def test_a_calibration_that_moves_the_band_asks_anew_in_adaptive_alone(
    policy: Policy, band: Band
) -> None:
    moved = UncertainBand(
        low=band.low, high=band.high, inside=0, fast_right=1, think_right=1, adaptive_right=1
    )
    changed = make_scales(msgspec.structs.replace(SCALES.curves["fast", "user"], uncertain_band=moved))
    event = make_event(role=policy.surfaces[0])
    same = await answers(key_of(policy, GUARD, event), key_of(policy, GUARD, event, changed))
    if policy.mode == "adaptive":
        assert same is (in_force(policy) == in_force(policy, changed))
    else:
        assert same


async def test_each_role_has_the_band_of_its_own_curve() -> None:
    curve, policy = SCALES.curves["fast", "user"], msgspec.structs.replace(SOME, mode="adaptive")
    steeper = msgspec.structs.replace(curve, calibrated=(0.0, 0.5, 1.0))
    other = make_scales(curve)
    curves = {**other.curves, ("fast", "assistant"): steeper}
    changed = Scales(why_raw="", digest="d" * 64, curves=curves)
    of_user, of_assistant = (make_event(role=role) for role in ROLES)
    assert key_of(policy, GUARD, of_user) == key_of(policy, GUARD, of_user, changed)
    assert key_of(policy, GUARD, of_assistant) != key_of(policy, GUARD, of_assistant, changed)


async def test_a_prefix_that_was_made_for_a_role_that_is_not_judged_is_no_judged_ones() -> None:
    """Both policies have the same wording and band; each judges another role."""
    banded = msgspec.structs.replace(SOME, mode="adaptive", uncertain_band=Band(low=0.2, high=0.6))
    event = make_event(role="assistant")
    of_users, of_assistants = (
        make_book(default=msgspec.structs.replace(banded, surfaces=(role,)), scales=SCALES).choose(event)
        for role in ROLES
    )
    assert isinstance(of_users, ChosenPolicy)
    assert isinstance(of_assistants, ChosenPolicy)
    used = msgspec.structs.replace(GUARD, mode="adaptive")
    keys, fresh = (VerdictKeys("tenant", FINGERPRINTS, {"adaptive": used}) for _ in range(2))
    keys.key(event, of_users, "t", "c")
    assert keys.key(event, of_assistants, "t", "c") == fresh.key(event, of_assistants, "t", "c")
