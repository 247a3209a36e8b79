import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.prompt import Turn
from guard.training.data.drafts import Draft, unmatched_twins
from guard.training.data.mapping import read_mapping
from guard.training.data.perturbation import words_of
from guard.training.data.policies import SHIPPED_POLICIES, overlaps, policy_of
from guard.training.data.settings import PerturbationSettings
from guard.training.data.vary import Variation
from schemas.policy import Policy
from tests.unit.guard.training.data.samples import draft, policy, row

RSAFE = policy_of(SHIPPED_POLICIES / "rsafe-18.yaml", ())
NOTHING = PerturbationSettings(
    drop=0,
    reorder=0,
    rename=0,
    reword=0,
    add=0,
    except_other=0,
    other_views=0,
    switch_off=0,
    invert=0,
    switch_on=0,
)
EVERYTHING = PerturbationSettings(
    drop=1,
    reorder=1,
    rename=1,
    reword=1,
    add=1,
    except_other=1,
    other_views=1,
    switch_off=1,
    invert=0.5,
    switch_on=1,
)
shares = st.sampled_from([0.0, 0.5, 1.0])
settings_drawn = st.builds(
    PerturbationSettings,
    **dict.fromkeys(
        (
            "drop",
            "reorder",
            "rename",
            "reword",
            "add",
            "except_other",
            "other_views",
            "switch_off",
            "invert",
            "switch_on",
        ),
        shares,
    ),
    variants=st.sampled_from([1, 3]),
)


def many(count: int, policy: Policy = RSAFE, codes: tuple[str, ...] = ("U7",)) -> list[Draft]:
    """Unsafe and safe rows in turn, in many words."""
    drafts = []
    for number in range(count):
        turns = (Turn(role="user", text=f"somebody carried umbrellas towards station {number}"),)
        safe = number % 2 == 1
        made = draft(number, safe=safe, policy=policy, turns=turns, **({} if safe else {"codes": codes}))
        drafts.append(made)
    return drafts


def placed_by(name: str, label: str, codes: list[str]) -> Draft:
    """A row as `collect` makes it of a shipped mapping."""
    places = read_mapping(name).place(label, codes)  # type: ignore[arg-type]
    assert not isinstance(places, str)
    first, *others = places
    made = row(1, policy=first.policy, label=first.ruling.label, codes=first.ruling.codes)
    return Draft(made, first.ruling.touched, tuple(others))


@given(settings=settings_drawn, seed=st.integers(0, 50))
def test_twins_are_whole_and_balanced_whatever_is_asked(settings: PerturbationSettings, seed: int) -> None:
    drafts = Variation(settings, seed).apply(many(12))
    rows = [each.row for each in drafts]
    assert unmatched_twins(rows) == []
    twins = [each for each in rows if each.twin]
    assert sum(each.label == "safe" for each in twins) * 2 == len(twins)
    assert len({each.id for each in rows}) == len(rows)
    assert {each.id.partition("~")[0] for each in rows} == {f"s-{number}" for number in range(12)}


@given(seed=st.integers(0, 30))
def test_labels_follow_the_policy(seed: int) -> None:
    """Every unsafe row's codes are in its policy; safe twins of hate have neither hate nor what overlaps."""
    words = {c.code: {c.title} for c in RSAFE.categories}
    settings = msgspec.structs.replace(EVERYTHING, rename=0, reorder=0, reword=0, invert=0)
    beside = {"U7", *overlaps()["rsafe-18"]["U7"]}
    for each in Variation(settings, seed).apply(many(8)):
        codes = {category.code for category in each.row.policy.categories}
        titles = {category.title for category in each.row.policy.categories}
        if each.row.label == "unsafe":
            assert codes.issuperset(each.row.codes)
            assert each.touched == frozenset(each.row.codes)
        elif each.row.id.endswith("~off"):
            assert not titles & set().union(*(words[code] for code in beside))


def test_the_twin_of_a_safe_row_lists_a_word_of_its_text() -> None:
    drafts = [d for d in many(40) if d.row.label == "safe"]
    for each in Variation(EVERYTHING, 0).apply(drafts):
        if each.row.label == "unsafe":
            (code,) = each.row.codes
            (category,) = (c for c in each.row.policy.categories if c.code == code)
            assert any(word in category.definition for word in words_of(each.row.turns[-1].text))


def test_of_a_policy_that_nobody_knows_all_categories_are_switched_off() -> None:
    settings = msgspec.structs.replace(NOTHING, switch_off=1)
    for name in ("ours", "rsafe-18"):
        own = policy("U7", "U11", "U12", name=name)
        _, off = Variation(settings, 0).apply(many(1, own))
        assert not {c.title for c in off.row.policy.categories} & {c.title for c in own.categories}


def test_of_a_row_whose_category_nobody_knows_the_whole_policy_is_switched_off() -> None:
    unknown = [Draft(msgspec.structs.replace(d.row, codes=()), None) for d in many(20)[::2]]
    settings = msgspec.structs.replace(EVERYTHING, rename=0, reorder=0, reword=0)
    known = {category.title for category in RSAFE.categories}
    for each in Variation(settings, 3).apply(unknown):
        titles = {category.title for category in each.row.policy.categories}
        assert known <= titles if each.row.label == "unsafe" else not known & titles


def test_nothing_asked_changes_nothing() -> None:
    drafts = many(10)
    variation = Variation(NOTHING, 0)
    assert variation.apply(drafts) == drafts
    assert not variation.counts


def test_dev_and_sources_that_shall_not_be_perturbed_stay() -> None:
    drafts = [Draft(d.row, d.touched, perturb=False) for d in many(4)]
    drafts += [
        Draft(msgspec.structs.replace(d.row, id=f"dev-{d.row.id}", split="dev"), d.touched) for d in many(4)
    ]
    assert Variation(EVERYTHING, 0).apply(drafts) == drafts


def test_one_row_more_changes_no_other() -> None:
    alone = Variation(EVERYTHING, 5).apply(many(10)[4:])
    among = Variation(EVERYTHING, 5).apply(many(10))
    assert [d.row for d in among if d.row.id.partition("~")[0] not in {f"s-{n}" for n in range(4)}] == [
        d.row for d in alone
    ]


def test_no_policy_tells_the_label() -> None:
    """A model could learn which policies stand above unsafe rows, and read no text."""
    settings = msgspec.structs.replace(NOTHING, drop=0.8, rename=0.5, variants=4)
    drafts = [one for code in ("U1", "U7", "U12") for one in many(400, codes=(code,))]
    drafts = [
        Draft(msgspec.structs.replace(one.row, id=f"r{n}"), one.touched) for n, one in enumerate(drafts)
    ]
    seen: dict[int, list[str]] = {}
    for varied in Variation(settings, 0).apply(drafts):
        seen.setdefault(id(varied.row.policy), []).append(varied.row.label)
    shares = [labels.count("unsafe") / len(labels) for labels in seen.values() if len(labels) > 40]
    assert len(shares) > 8
    assert min(shares) > 0.3
    assert max(shares) < 0.7


def test_rows_share_policies() -> None:
    settings = msgspec.structs.replace(EVERYTHING, switch_on=0, variants=2)
    varied = Variation(settings, 0).apply(many(200))
    assert len({id(each.row.policy) for each in varied}) < 20


def test_another_view_with_the_other_label_is_a_twin() -> None:
    tweet = placed_by("offensive_tweets", "unsafe", ["offensive_language"])
    settings = msgspec.structs.replace(NOTHING, other_views=1)
    on, off = Variation(settings, 0).apply([tweet])
    assert (on.row.label, on.row.codes, on.row.id) == ("unsafe", ("F2",), "s-1")
    assert (off.row.label, off.row.id, off.row.twin) == ("safe", "s-1~hate", "s-1")
    assert [c.code for c in off.row.policy.categories] == ["F1"]


def test_another_view_with_the_same_label_takes_the_rows_place() -> None:
    hateful = placed_by("hatecheck", "unsafe", ["slur_h"])
    (after,) = Variation(msgspec.structs.replace(NOTHING, other_views=1), 0).apply([hateful])
    assert (after.row.policy.id, after.row.codes, after.row.id) == ("rsafe-18", ("U7",), "s-1")


@pytest.mark.parametrize(
    ("mapping", "codes"), [("offensive_tweets", ["offensive_language"]), ("hatecheck", ["slur_h"])]
)
def test_reasoning_does_not_go_to_another_view(mapping: str, codes: list[str]) -> None:
    placed = placed_by(mapping, "unsafe", codes)
    reasoned = Draft(
        msgspec.structs.replace(placed.row, rationale="crude words."), placed.touched, placed.others
    )
    after = Variation(msgspec.structs.replace(NOTHING, other_views=1), 0).apply([reasoned])
    assert {each.row.rationale for each in after if each.row.policy is not placed.row.policy} == {""}
    assert {each.row.rationale for each in after if each.row.policy is placed.row.policy} <= {"crude words."}


def test_beside_a_list_reasoning_names_only_what_is_left() -> None:
    seen = set()
    for number in range(40):
        reasoned = draft(number, safe=True, policy=RSAFE, rationale="nothing of U9.")
        off, on = Variation(msgspec.structs.replace(NOTHING, switch_on=1), 0).apply([reasoned])
        left = "U9" in {category.code for category in off.row.policy.categories}
        assert off.row.rationale == ("nothing of U9." if left else "")
        assert on.row.rationale == ""
        seen.add(left)
    assert seen == {True, False}


@pytest.mark.parametrize("invert", [0.0, 1.0])
def test_an_inverted_twin_names_what_it_allows(invert: float) -> None:
    settings = msgspec.structs.replace(NOTHING, switch_off=1, invert=invert)
    _, off = Variation(settings, 0).apply(many(1))
    exceptions = [e for category in off.row.policy.categories for e in category.exceptions]
    assert ("hate speech and discrimination" in exceptions) == bool(invert)


def test_an_exception_names_nothing_that_stands_in_the_text() -> None:
    settings = msgspec.structs.replace(NOTHING, except_other=1)
    turns = (Turn(role="user", text="Bad weather spoils my gardening, and knitting bores me"),)
    own = {e for c in RSAFE.categories for e in c.exceptions}
    for number in range(40):
        (after,) = Variation(settings, 0).apply([draft(number, policy=RSAFE, codes=("U7",), turns=turns)])
        added = {e for c in after.row.policy.categories for e in c.exceptions} - own
        assert not added & {"the weather", "gardening", "knitting"}


def test_reasoning_names_the_codes_as_they_are_now() -> None:
    reasoned = draft(1, rationale="casino A1 listed.")
    settings = msgspec.structs.replace(NOTHING, rename=1, switch_off=1)
    on, off = Variation(settings, 1).apply([reasoned])
    assert on.row.rationale == f"casino {on.row.codes[0]} listed."
    assert off.row.rationale == ""
