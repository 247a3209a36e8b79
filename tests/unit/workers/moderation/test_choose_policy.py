from __future__ import annotations

import msgspec
import pytest

from guard.calibration import Curve, Scales, UncertainBand
from guard.profiles.catalogue import PROFILES
from guard.scores import RawBand
from schemas.identifiers import Mode, Role
from schemas.policy import Band, Category, Crosswalk, Policy, judgement_hash, policy_hash
from tests.unit.workers.moderation.builders import (
    make_book,
    make_curve,
    make_event,
    make_policy,
    make_scales,
)
from workers.errors import SettingsError
from workers.moderation.choose_policy import RAW, make_ready
from workers.moderation.outcome import ChosenPolicy, Rejection, Yardstick

DEFAULT, OWN, OPEN = make_policy(), make_policy(id="own", tenant="acme"), make_policy(id="open")


def chosen_id(book_event: ChosenPolicy | Rejection) -> str:
    assert isinstance(book_event, ChosenPolicy)
    return book_event.policy.id


def test_the_events_policy_goes_before_the_tenants_before_the_default() -> None:
    book = make_book(OWN, OPEN, default=DEFAULT)
    assert chosen_id(book.choose(make_event(policy="open"))) == "open"
    assert chosen_id(book.choose(make_event())) == "own"
    assert chosen_id(book.choose(make_event(tenant="other"))) == "p-1"


def test_an_unknown_policy_is_rejected_unless_told_otherwise() -> None:
    rejection = make_book(default=DEFAULT).choose(make_event(policy="nobody's"))
    assert rejection == Rejection("unknown_policy", "$.policy", "expected the id of a policy that is loaded")
    assert (
        chosen_id(make_book(default=DEFAULT, unknown="default").choose(make_event(policy="nobody's")))
        == "p-1"
    )


def test_no_policy_at_all_is_a_rejection() -> None:
    rejection = make_book(OPEN).choose(make_event())
    assert isinstance(rejection, Rejection)
    assert (rejection.reason, rejection.field) == ("no_policy", "$.tenant")


def test_a_chosen_policy_knows_its_hashes_and_its_strictest_action() -> None:
    chosen = make_book(default=DEFAULT).choose(make_event())
    assert isinstance(chosen, ChosenPolicy)
    assert chosen.used.policy_hash == policy_hash(DEFAULT)
    assert chosen.used.judgement_hash == judgement_hash(DEFAULT)
    assert chosen.strictest == "block"
    assert list(chosen.by_code) == ["c1", "c2", "c3"]


RATED = make_policy(threshold=None, max_false_positive_rate=0.01)


def yardstick(policy: Policy, scales: Scales, role: Role = "user") -> Yardstick:
    return make_ready(policy, scales).yardsticks[role]


def test_a_rate_becomes_the_score_that_the_calibration_gives_for_it() -> None:
    found = yardstick(RATED, make_scales())
    assert found.threshold == 0.78
    # A category's own threshold stays what it says; the others have the policy's.
    assert found.by_code == {"c1": 0.78, "c2": 0.8, "c3": 0.78}


def test_a_category_without_a_threshold_has_the_policys() -> None:
    found = yardstick(make_policy(threshold=0.4), RAW)
    assert (found.curve, found.threshold) == (None, 0.4)
    assert found.by_code == {"c1": 0.4, "c2": 0.8, "c3": 0.4}


def test_only_roles_that_are_judged_need_a_calibration() -> None:
    curves: dict[tuple[Mode, Role], Curve] = {("think", "user"): make_curve()}
    scales = Scales(why_raw="no rows of assistants", digest="d" * 64, curves=curves)
    of_users = make_policy(threshold=None, max_false_positive_rate=0.01, surfaces=("user",))
    assert set(make_ready(of_users, scales).yardsticks) == {"user"}
    with pytest.raises(SettingsError, match="policy 'p-1': max_false_positive_rate"):
        make_ready(RATED, scales)


def test_a_rate_without_a_calibration_is_refused_with_what_to_do() -> None:
    with pytest.raises(SettingsError) as error:
        make_book(RATED, scales=make_scales(modes=["fast"]))
    assert str(error.value) == (
        "policy 'p-1': max_false_positive_rate: expected a `threshold` in its place, since nobody fitted it; "
        "`rsafe train evaluate` fits a calibration"
    )


def test_a_rate_that_the_data_cannot_support_is_refused() -> None:
    policy = make_policy(threshold=None, max_false_positive_rate=0.001)
    with pytest.raises(SettingsError, match=r"policy 'p-1': max_false_positive_rate: .* at least 0\.01"):
        make_book(policy, scales=make_scales())


def test_a_categorys_rate_is_refused_with_its_code() -> None:
    category = Category(code="C9", title="t", definition="d", max_false_positive_rate=0.001)
    with pytest.raises(SettingsError, match="policy 'p-1': category C9: max_false_positive_rate"):
        make_book(make_policy(categories=(category,)), scales=make_scales())


ADAPTIVE = make_policy(mode="adaptive")
BANDED = make_curve(
    uncertain_band=UncertainBand(
        low=0.2, high=0.6, inside=0.1, fast_right=0.9, think_right=1.0, adaptive_right=1.0
    )
)


def test_an_adaptive_policy_has_the_calibrations_band_in_raw_scores() -> None:
    chosen = make_ready(ADAPTIVE, make_scales(BANDED))
    assert set(chosen.uncertain) == {"user", "assistant"}
    assert all(band == pytest.approx((0.25, 0.75)) for band in chosen.uncertain.values())
    assert make_ready(make_policy(mode="fast"), make_scales(BANDED)).uncertain == {}


def test_a_policys_own_band_goes_before_the_calibrations() -> None:
    own = make_policy(mode="adaptive", uncertain_band=Band(low=0.3, high=0.6))
    assert make_ready(own, make_scales(BANDED)).uncertain["user"] == pytest.approx((0.5, 0.75))
    # Without a calibration of fast it is one of raw scores.
    assert make_ready(own, RAW).uncertain["user"] == RawBand(0.3, 0.6)
    assert make_ready(own, make_scales(modes=["think"])).uncertain["user"] == RawBand(0.3, 0.6)


@pytest.mark.parametrize(
    ("scales", "why"),
    [(RAW, "no calibration is in use"), (make_scales(), "the calibration of `fast` has none")],
)
def test_an_adaptive_policy_without_a_band_is_refused_with_what_to_do(scales: Scales, why: str) -> None:
    with pytest.raises(SettingsError) as error:
        make_book(ADAPTIVE, scales=scales)
    assert str(error.value) == (
        "policy 'p-1': mode: `adaptive` needs to know where it thinks: expected an `uncertain_band` in the "
        f"policy, since {why}; `rsafe train evaluate` fits a calibration"
    )


def test_each_way_of_an_adaptive_policy_is_read_by_its_own_curve() -> None:
    fast, think = BANDED, make_curve()
    curves: dict[tuple[Mode, Role], Curve] = {("fast", "user"): fast, ("think", "user"): think}
    scales = Scales(why_raw="", digest="d" * 64, curves=curves)
    found = yardstick(make_policy(mode="adaptive", surfaces=("user",)), scales)
    assert found.of("fast").curve is fast
    assert found.of("think").curve is think


def test_a_rate_is_halved_between_the_two_ways_of_an_adaptive_policy() -> None:
    rated = make_policy(mode="adaptive", threshold=None, max_false_positive_rate=0.2)
    found = yardstick(rated, make_scales(BANDED))
    at_once = yardstick(
        msgspec.structs.replace(rated, mode="fast", max_false_positive_rate=0.1), make_scales()
    )
    assert found.of("fast").threshold == found.of("think").threshold == at_once.threshold
    assert found.of("fast").by_code == found.by_code


def test_a_rate_of_which_no_half_can_be_resolved_is_refused() -> None:
    rated = make_policy(mode="adaptive", threshold=None, max_false_positive_rate=0.015)
    with pytest.raises(SettingsError) as error:
        make_book(rated, scales=make_scales(BANDED))
    assert str(error.value) == (
        "policy 'p-1': max_false_positive_rate: expected at least 0.02 with the mode `adaptive`, twice the "
        "smallest rate that the calibration's 1000 safe rows support (think, role user)"
    )


def test_a_rate_needs_a_calibration_of_both_ways() -> None:
    own = Band(low=0.3, high=0.6)
    rated = make_policy(mode="adaptive", threshold=None, max_false_positive_rate=0.2, uncertain_band=own)
    with pytest.raises(SettingsError, match="max_false_positive_rate: expected a `threshold` in its place"):
        make_book(rated, scales=make_scales(modes=["fast"]))


def test_a_category_that_the_guard_cannot_judge_is_refused_by_policy_and_name() -> None:
    with pytest.raises(SettingsError) as refused:
        make_ready(make_policy(mode="fast"), RAW, PROFILES["llama-guard-3"])
    lines = str(refused.value).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("policy 'p-1': category C1: crosswalk.mlcommons: absent")


def test_a_mode_that_the_guard_lacks_is_refused_by_policy_and_mode() -> None:
    policy = make_policy(mode="adaptive", uncertain_band=Band(low=0.3, high=0.6))
    said = r"policy 'p-1': mode: a guard .* has no `think`, which `adaptive` needs"
    with pytest.raises(SettingsError, match=said):
        make_ready(policy, RAW, PROFILES["shieldgemma"])


def test_what_codes_of_the_guard_mean_is_part_of_what_is_asked_where_it_does_not_read_the_policy() -> None:
    first, second = (
        make_policy(mode="fast", categories=(msgspec.structs.replace(one, crosswalk=crosswalk),))
        for one in [Category(code="C1", title="t", definition="d")]
        for crosswalk in (Crosswalk(mlcommons=("S1",)), Crosswalk(mlcommons=("S2",)))
    )
    profile = PROFILES["llama-guard-3"]
    assert make_ready(first, RAW).asking == make_ready(second, RAW).asking
    assert make_ready(first, RAW, profile).asking != make_ready(second, RAW, profile).asking
    assert make_ready(first, RAW, profile).mapping == "S1=C1"
    assert make_ready(first, RAW).mapping == ""
