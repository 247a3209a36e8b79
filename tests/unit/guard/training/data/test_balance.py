from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from guard.training.data.balance import balanced
from guard.training.data.drafts import Draft, Drops, unmatched_twins
from guard.training.data.generated import generated
from guard.training.data.settings import GeneratorSource
from tests.unit.guard.training.data.samples import draft

rows = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["safe", "unsafe", "pair"]), st.booleans()),
    max_size=30,
)


def drafts_of(kinds: list[tuple[str, str, bool]]) -> list[Draft]:
    drafts: list[Draft] = []
    for number, (source, kind, dev) in enumerate(kinds):
        split = "dev" if dev else "train"
        if kind == "pair":
            on = draft(number, source=source, split=split, twin=f"s-{number}~off", group="g")
            off = draft(
                number, safe=True, id=f"s-{number}~off", source=source, split=split, twin=on.row.id, group="g"
            )
            drafts += [on, off]
        else:
            drafts.append(draft(number, source=source, split=split, safe=kind == "safe"))
    return drafts


def safe_beside_pairs(kinds: list[tuple[str, str, bool]]) -> int:
    """Safe rows without twins in `train`, of sources whose unsafe rows all have twins."""
    beside = {s for s, kind, dev in kinds if (kind, dev) == ("pair", False)}
    beside -= {s for s, kind, dev in kinds if (kind, dev) == ("unsafe", False)}
    return sum(s in beside and (kind, dev) == ("safe", False) for s, kind, dev in kinds)


@given(kinds=rows, seed=st.integers(0, 3))
def test_train_is_balanced_pairs_stay_and_dev_is_as_it_was(
    kinds: list[tuple[str, str, bool]], seed: int
) -> None:
    before = drafts_of(kinds)
    drops = Drops()
    after = balanced(before, seed, drops)
    train = [d.row for d in after if d.row.split == "train"]
    labels = Counter(r.label for r in train)
    assert 0 <= labels["safe"] - labels["unsafe"] <= safe_beside_pairs(kinds)
    assert unmatched_twins([d.row for d in after]) == []
    assert [d for d in before if d.row.twin or d.row.split == "dev"] == [
        d for d in after if d.row.twin or d.row.split == "dev"
    ]
    assert len(before) == len(after) + sum(drops.counts.values())
    assert after == balanced(before, seed, Drops())


@given(safe=st.integers(1, 20), unsafe=st.integers(1, 20))
def test_a_source_of_both_classes_is_balanced_by_itself(safe: int, unsafe: int) -> None:
    both = drafts_of([("a", "safe", False)] * safe + [("a", "unsafe", False)] * unsafe)
    other = drafts_of([("b", "pair", False)])
    after = balanced([*both, *[Draft(d.row, d.touched) for d in other]], 0, Drops())
    labels = Counter(d.row.label for d in after if d.row.source == "a")
    assert labels == {"safe": min(safe, unsafe), "unsafe": min(safe, unsafe)}


def test_sources_of_one_class_are_balanced_together() -> None:
    kinds = [("a", "safe", False)] * 30 + [("b", "safe", False)] * 10 + [("c", "unsafe", False)] * 20
    drops = Drops()
    after = balanced(drafts_of(kinds), 0, drops)
    by_source = Counter(d.row.source for d in after)
    assert by_source["c"] == by_source["a"] + by_source["b"] == 20
    assert by_source["b"] >= 1
    assert drops.counts["a", "balanced_out"] + drops.counts["b", "balanced_out"] == 20


def test_safe_rows_beside_pairs_stay() -> None:
    kinds = [("a", "safe", False)] * 5 + [("a", "pair", False)] * 4 + [("b", "unsafe", False)] * 3
    after = balanced(drafts_of(kinds), 0, Drops())
    assert Counter((d.row.source, d.row.label) for d in after) == {("a", "safe"): 9, ("a", "unsafe"): 4}


def test_a_source_that_is_unsafe_by_made_twins_alone_has_one_class() -> None:
    safe = drafts_of([("a", "safe", False)] * 6)
    on = draft(90, safe=True, source="a", group="g", twin="s-90~on")
    made = draft(90, id="s-90~on", source="a", group="g", twin="s-90")
    others = drafts_of([("c", "unsafe", False)] * 2)
    others = [Draft(msgspec.structs.replace(d.row, id=f"c-{d.row.id}"), d.touched) for d in others]
    after = balanced([*safe, on, made, *others], 0, Drops())
    assert Counter((d.row.source, d.row.label) for d in after) == {
        ("a", "safe"): 3,
        ("a", "unsafe"): 1,
        ("c", "unsafe"): 2,
    }


def test_benign_draws_of_the_generator_are_kept_for_unsafe_ones_without_twins() -> None:
    drafts = list(generated(GeneratorSource(train_rows=200, twins=0.5), seed=1))
    after = [d.row for d in balanced(drafts, 0, Drops())]
    labels = Counter(row.label for row in after)
    assert labels["safe"] == labels["unsafe"]
    benign = [row for row in after if row.label == "safe" and not row.twin]
    before = [d.row for d in drafts if d.row.label == "safe" and not d.row.twin]
    assert len(benign) > len(before) / 4
