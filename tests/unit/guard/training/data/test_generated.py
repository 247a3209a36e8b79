from guard.training.data.drafts import unmatched_twins
from guard.training.data.generated import generated
from guard.training.data.settings import GeneratorSource


def test_rows_have_a_twin_where_they_are_unsafe() -> None:
    rows = [draft.row for draft in generated(GeneratorSource(train_rows=60, dev_rows=20, twins=1), seed=3)]
    assert unmatched_twins(rows) == []
    assert sum(not row.id.endswith("~off") for row in rows) == 80
    assert {row.split for row in rows} == {"train", "dev"}
    for row in rows:
        assert (row.label == "unsafe") == bool(row.codes)
        assert row.label == "safe" or row.twin
        assert {category.code for category in row.policy.categories}.issuperset(row.codes)
        assert row.rationale
        assert row.licence


def test_a_share_of_unsafe_rows_has_twins_and_other_draws_are_the_same() -> None:
    every = [draft.row for draft in generated(GeneratorSource(train_rows=200, twins=1), seed=3)]
    half = [draft.row for draft in generated(GeneratorSource(train_rows=200, twins=0.5), seed=3)]
    none = [draft.row for draft in generated(GeneratorSource(train_rows=200, twins=0), seed=3)]
    assert unmatched_twins(half) == []
    unsafe = sum(row.label == "unsafe" for row in every)
    assert 0.3 * unsafe < sum(row.label == "unsafe" and bool(row.twin) for row in half) < 0.7 * unsafe
    assert not any(row.twin for row in none)
    texts = [row.turns for row in every if not row.id.endswith("~off")]
    assert texts == [row.turns for row in half if not row.id.endswith("~off")] == [row.turns for row in none]


def test_in_dev_all_unsafe_rows_have_twins() -> None:
    rows = [draft.row for draft in generated(GeneratorSource(dev_rows=40, twins=0), seed=3)]
    assert unmatched_twins(rows) == []
    assert all(row.twin for row in rows if row.label == "unsafe")


def test_the_switched_off_category_is_gone() -> None:
    source = GeneratorSource(train_rows=60, twins=1)
    rows = {draft.row.id: draft.row for draft in generated(source, seed=3)}
    for row in rows.values():
        if row.label == "unsafe":
            gone = next(c for c in row.policy.categories if c.code == row.codes[0])
            assert gone not in rows[row.twin].policy.categories


def test_draws_follow_from_the_seed_and_more_rows_begin_with_the_same() -> None:
    def texts(count: int, seed: int) -> list[str]:
        drafts = generated(GeneratorSource(train_rows=count), seed)
        return [draft.row.turns[-1].text for draft in drafts]

    assert texts(20, 1) == texts(20, 1)
    assert texts(30, 1)[: len(texts(20, 1))] == texts(20, 1)
    assert texts(20, 1) != texts(20, 2)
