from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from guard.training.data.balance import balanced
from guard.training.data.drafts import Draft, Drops, unmatched_twins
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
            on = draft(number, source=source, split=split, twin=f"{number}-off", group="g")
            off = draft(
                number, safe=True, id=f"{number}-off", source=source, split=split, twin=on.row.id, group="g"
            )
            drafts += [on, off]
        else:
            drafts.append(draft(number, source=source, split=split, safe=kind == "safe"))
    return drafts


@given(kinds=rows, seed=st.integers(0, 3))
def test_train_is_balanced_pairs_stay_and_dev_is_as_it_was(
    kinds: list[tuple[str, str, bool]], seed: int
) -> None:
    before = drafts_of(kinds)
    drops = Drops()
    after = balanced(before, seed, drops)
    train = [d.row for d in after if d.row.split == "train"]
    labels = Counter(r.label for r in train)
    assert labels["safe"] == labels["unsafe"]
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
