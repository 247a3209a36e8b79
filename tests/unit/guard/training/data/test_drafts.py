from guard.training.data.drafts import Drops, chance, unmatched_twins, without
from tests.unit.guard.training.data.samples import draft, row


def test_a_chance_is_even_and_follows_from_its_parts() -> None:
    drawn = [chance(7, "name", number) for number in range(2000)]
    assert all(0 <= one < 1 for one in drawn)
    assert 900 < sum(one < 0.5 for one in drawn) < 1100
    assert chance("a", "bc") != chance("ab", "c")
    assert chance(7, "name", 3) == drawn[3]


def test_a_twin_goes_with_its_row_and_both_are_counted() -> None:
    drafts = [draft(1, twin="s-2"), draft(2, safe=True, twin="s-1"), draft(3)]
    drops = Drops()
    assert [d.row.id for d in without(drafts, {"s-2"}, drops, "why")] == ["s-3"]
    assert drops.counts == {("s", "why"): 1, ("s", "twin_dropped"): 1}


def test_twins_have_each_other_one_text_and_two_labels() -> None:
    turns = row(1).turns
    whole = [
        row(1, twin="s-2", group="g"),
        row(2, twin="s-1", group="g", turns=turns, label="safe", codes=()),
    ]
    assert unmatched_twins(whole) == []
    assert unmatched_twins(whole[:1]) == ["s-1"]
    assert unmatched_twins([whole[0], row(2, twin="s-1", group="g", turns=turns)]) == ["s-1", "s-2"]
    other_text = row(2, twin="s-1", group="g", label="safe", codes=())
    assert unmatched_twins([whole[0], other_text]) == ["s-1", "s-2"]
