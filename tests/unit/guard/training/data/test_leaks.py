import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.prompt import Turn
from guard.training.data.drafts import Draft, Drops, unmatched_twins
from guard.training.data.errors import TrainingDataError
from guard.training.data.groups import group_of
from guard.training.data.leaks import NearTexts, bands_and_rows, character_grams, similarity, without_leaks
from guard.training.data.settings import LeakSettings
from guard.training.generator.words import made_up
from tests.unit.guard.training.data.samples import draft, raw, write_lines

SETTINGS = LeakSettings()
WORDS = [made_up(random.Random(seed)) for seed in range(18)]


def text(seed: int, length: int = 30) -> str:
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) + str(rng.randrange(50)) for _ in range(length))


def said(number: int, words: str, split: str = "train", **changes: Any) -> Draft:
    return draft(number, turns=(Turn(role="user", text=words),), split=split, **changes)


def test_similarity_is_the_share_of_common_runs() -> None:
    assert similarity(character_grams("abcdef"), character_grams("abcdef")) == 1.0
    assert similarity(character_grams("abcdef"), character_grams("abcdeg")) == pytest.approx(1 / 3)
    assert character_grams("abc") == {"abc"}
    assert character_grams("") == {""}


@given(one=st.text(max_size=40), other=st.text(max_size=40))
def test_what_is_near_is_similar(one: str, other: str) -> None:
    near = NearTexts(SETTINGS, [other]).has_near(one)
    similar = similarity(character_grams(one), character_grams(other))
    assert not near or similar >= SETTINGS.threshold
    assert near or similar < 1.0


def test_of_near_pairs_hardly_one_is_missed() -> None:
    texts = [text(seed) for seed in range(300)]
    known = NearTexts(SETTINGS, texts)
    changed = [each.replace(each.split()[7], "x", 1) for each in texts]
    similar = [
        similarity(character_grams(a), character_grams(b)) for a, b in zip(texts, changed, strict=True)
    ]
    near = [known.has_near(each) for each in changed]
    expected = sum(each >= SETTINGS.threshold for each in similar)
    assert expected > 250
    assert expected - 3 <= sum(near) <= expected
    assert not any(known.has_near(text(seed)) for seed in range(1000, 1050))


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.95, 1.0])
def test_bands_miss_at_most_one_pair_in_a_hundred(threshold: float) -> None:
    bands, rows = bands_and_rows(threshold, 128)
    assert bands * rows <= 128
    assert (1 - threshold**rows) ** bands <= 0.01


def test_train_gives_way_to_dev_and_both_to_evaluation(tmp_path: Path) -> None:
    drafts = [
        said(1, text(1)),
        said(2, text(1).upper() + " !", "dev"),
        said(3, text(3)),
        said(4, text(4), "dev"),
        said(5, text(5)),
        said(6, text(5) + " ?", "dev"),
    ]
    path = write_lines(tmp_path / "e.jsonl", [raw(1, text(4)), raw(2, "\u200b" + text(5))])
    drops = Drops()
    kept = without_leaks(drafts, LeakSettings(evaluation_paths=(str(path),)), drops)
    assert [d.row.id for d in kept] == ["s-2", "s-3"]
    assert drops.counts == {("s", "near_duplicate_of_dev"): 1, ("s", "near_duplicate_of_evaluation"): 3}


def test_a_prompt_of_an_evaluation_set_is_not_trained_on_with_another_answer(tmp_path: Path) -> None:
    def answered(number: int, prompt: int, split: str = "train", **changes: Any) -> Draft:
        turns = (Turn(role="user", text=text(prompt)), Turn(role="assistant", text=text(100 + number)))
        group = group_of(turns, "prompt")
        return draft(number, **{"turns": turns, "group": group, "split": split, **changes})

    asked = {"role": "user", "content": text(1)}
    path = write_lines(
        tmp_path / "e.jsonl",
        [
            raw(1, "", messages=[asked, {"role": "assistant", "content": text(50)}]),
            raw(2, text(2)),
            raw(3, text(60), source="s", meta={"group": "thread"}),
        ],
    )
    drafts = [
        answered(1, 1),
        answered(2, 1, "dev"),
        answered(3, 2, group="s:other"),
        answered(4, 4, group="s:thread"),
        answered(5, 5),
        answered(6, 6),
    ]
    drops = Drops()
    kept = without_leaks(drafts, LeakSettings(evaluation_paths=(str(path),)), drops)
    assert [d.row.id for d in kept] == ["s-2", "s-5", "s-6"]
    assert drops.counts == {("s", "group_in_evaluation"): 3}


def test_twins_leave_together() -> None:
    pair = [said(1, text(1), twin="s-2"), said(2, text(1), twin="s-1", safe=True)]
    drops = Drops()
    kept = without_leaks([*pair, said(3, text(1), "dev"), said(4, text(2))], SETTINGS, drops)
    assert [d.row.id for d in kept] == ["s-3", "s-4"]
    assert unmatched_twins([d.row for d in kept]) == []


def test_the_whole_conversation_counts_and_not_the_answer_alone() -> None:
    refusal = Turn(role="assistant", text="I am sorry, I cannot help with that request.")
    drafts = [
        draft(n, turns=(Turn(role="user", text=text(n)), refusal), split="dev" if n == 1 else "train")
        for n in range(4)
    ]
    assert len(without_leaks(drafts, SETTINGS, Drops())) == 4


def test_evaluation_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="expected a file of JSON lines"):
        without_leaks([said(1, "x")], LeakSettings(evaluation_paths=(str(tmp_path / "no"),)), Drops())


def test_a_threshold_of_one_means_equal() -> None:
    settings = msgspec.structs.replace(SETTINGS, threshold=1.0)
    known = NearTexts(settings, [text(1)])
    assert known.has_near(text(1))
    assert not known.has_near(text(1) + "x")
