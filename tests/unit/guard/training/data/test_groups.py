from hypothesis import given
from hypothesis import strategies as st

from guard.prompt import Turn
from guard.training.data.drafts import Drops
from guard.training.data.groups import drawn_split, group_of, one_split_per_group, plain_text
from tests.unit.guard.training.data.samples import draft


def turns(*texts: str) -> tuple[Turn, ...]:
    return tuple(Turn(role="user", text=text) for text in texts)


def test_answers_to_one_prompt_are_one_group() -> None:
    assert group_of(turns("a prompt", "one answer"), "prompt") == group_of(
        turns("A  Prompt", "other"), "prompt"
    )
    assert group_of(turns("a prompt"), "prompt") == group_of(turns("a prompt", "an answer"), "prompt")
    assert group_of(turns("a prompt", "one"), "conversation") != group_of(
        turns("a prompt", "two"), "conversation"
    )


def test_forms_of_a_character_and_line_breaks_do_not_tell_texts_apart() -> None:
    assert plain_text(turns("Ｆｕｌｌ\n width")) == "full width"


def test_a_drawn_split_follows_from_group_and_seed() -> None:
    drawn = [drawn_split(f"g{number}", 0.2, 0) for number in range(1000)]
    assert 150 < drawn.count("dev") < 250
    assert drawn == [drawn_split(f"g{number}", 0.2, 0) for number in range(1000)]
    assert drawn != [drawn_split(f"g{number}", 0.2, 1) for number in range(1000)]
    assert drawn_split("g", 0.0, 0) == "train"


@given(rows=st.lists(st.tuples(st.sampled_from(["train", "dev"]), st.integers(0, 4)), max_size=20))
def test_no_group_straddles_splits_and_dev_stays(rows: list[tuple[str, int]]) -> None:
    drafts = [draft(n, split=split, group=f"g{group}") for n, (split, group) in enumerate(rows)]
    drops = Drops()
    kept = one_split_per_group(drafts, drops)
    splits: dict[str, set[str]] = {}
    for each in kept:
        splits.setdefault(each.row.group, set()).add(each.row.split)
    assert all(len(found) == 1 for found in splits.values())
    assert [d for d in kept if d.row.split == "dev"] == [d for d in drafts if d.row.split == "dev"]
    assert len(kept) + drops.counts["s", "group_in_dev"] == len(drafts)
