from pathlib import Path
from typing import Any

import msgspec
import pytest

from guard.training.data.collect import collect
from guard.training.data.drafts import Drops
from guard.training.data.errors import RowError, TrainingDataError
from guard.training.data.settings import DataSettings
from tests.unit.guard.training.data.samples import POLICY, raw, write_lines, write_mapping


def settings(*sources: dict[str, Any]) -> DataSettings:
    return msgspec.convert({"sources": sources}, DataSettings)


def chats(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "jsonl",
        "path": str(folder / "chats.jsonl"),
        "mapping": str(folder / "mapping.yaml"),
        **changes,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_mapping(tmp_path)
    rows = [raw(n, f"text {n}", split="dev" if n % 5 == 0 else "train") for n in range(20)]
    rows[3] |= {"label": "unsafe", "categories": ["bad"], "meta": {"lang": "zh", "group": "thread"}}
    rows[4] |= {"label": "unsafe", "categories": ["unheard"]}
    write_lines(tmp_path / "chats.jsonl", rows)
    return tmp_path


def test_rows_are_labelled_by_their_mapping(folder: Path) -> None:
    drops = Drops()
    rows = {draft.row.id: draft.row for draft in collect(settings(chats(folder)), drops)}
    assert len(rows) == 19
    assert drops.counts == {("chats", "code_not_mapped"): 1}
    unsafe = rows["chats-3"]
    assert (unsafe.label, unsafe.codes, unsafe.policy.id) == ("unsafe", ("C1",), "own")
    assert (unsafe.language, unsafe.group, unsafe.licence, unsafe.split) == (
        "zh",
        "chats:thread",
        "MIT",
        "train",
    )
    assert rows["chats-5"].split == "dev"
    assert rows["chats-5"].policy is unsafe.policy


def test_only_so_many_rows_of_a_split_are_taken(folder: Path) -> None:
    drops = Drops()
    drafts = collect(settings(chats(folder, most_rows=3)), drops)
    assert sorted(d.row.split for d in drafts) == ["dev"] * 3 + ["train"] * 3
    assert drops.counts["chats", "over_most_rows"] == 13
    assert drafts == collect(settings(chats(folder, most_rows=3)), Drops())
    assert [d.row.id for d in drafts] != ["chats-0", "chats-1", "chats-2", "chats-3", "chats-5", "chats-6"]


def test_other_splits_are_left_and_counted(folder: Path) -> None:
    drops = Drops()
    drafts = collect(settings(chats(folder, splits=["dev"])), drops)
    assert {d.row.split for d in drafts} == {"dev"}
    assert drops.counts["chats", "split_not_taken"] == 15


def test_rows_without_a_split_are_split_by_their_group(tmp_path: Path) -> None:
    write_mapping(tmp_path)
    rows = [
        {
            **raw(n, f"question {n // 2}"),
            "messages": [*raw(n, f"question {n // 2}")["messages"], {"role": "assistant", "content": str(n)}],
        }
        for n in range(200)
    ]
    for row in rows:
        del row["split"]
    write_lines(tmp_path / "chats.jsonl", rows)
    drafts = collect(settings(chats(tmp_path, dev_share=0.2)), Drops())
    splits: dict[str, set[str]] = {}
    for draft in drafts:
        splits.setdefault(draft.row.group, set()).add(draft.row.split)
    assert len(splits) == 100
    assert all(len(found) == 1 for found in splits.values())
    assert 8 <= sum(found == {"dev"} for found in splits.values()) <= 32


def test_texts_are_read_as_serving_reads_them_and_empty_ones_dropped(tmp_path: Path) -> None:
    write_mapping(tmp_path)
    write_lines(tmp_path / "chats.jsonl", [raw(1, "he\u200bllo"), raw(2, " \u200b ")])
    drops = Drops()
    (draft,) = collect(settings(chats(tmp_path)), drops)
    assert draft.row.turns[0].text == "hello"
    assert drops.counts == {("chats", "empty_text"): 1}


def test_files_of_a_folder_are_sources_with_mappings_of_their_names(tmp_path: Path) -> None:
    write_lines(
        tmp_path / "advbench.jsonl", [raw(1, "one", id="advbench-1", source="advbench", label="unsafe")]
    )
    write_lines(tmp_path / "mt_bench.jsonl", [raw(1, "two", id="mt_bench-1", source="mt_bench")])
    everything = {"kind": "jsonl", "path": str(tmp_path)}
    assert [d.row.source for d in collect(settings(everything), Drops())] == ["advbench", "mt_bench"]
    chosen = collect(settings({**everything, "only": ["mt_bench"]}), Drops())
    assert [d.row.source for d in chosen] == ["mt_bench"]
    left = collect(settings({**everything, "leave_out": ["mt_bench"]}), Drops())
    assert [d.row.source for d in left] == ["advbench"]
    with pytest.raises(TrainingDataError, match="only: there is no file 'unheard' to choose"):
        collect(settings({**everything, "only": ["unheard"]}), Drops())


def test_an_id_of_two_sources_is_refused(folder: Path) -> None:
    write_lines(folder / "more.jsonl", [raw(3, "other text", source="more")])
    with pytest.raises(TrainingDataError, match="row chats-3: the id stands in chats and in more"):
        collect(settings(chats(folder), chats(folder, path=str(folder / "more.jsonl"))), Drops())


def test_reviews_are_labelled_by_the_policy_they_name(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "own.yaml").write_text(POLICY)
    rows = [
        raw(
            1,
            "one",
            label="unsafe",
            categories=["C2"],
            meta={"review_id": "r1", "policy": "own", "policy_version": "1"},
        ),
        raw(2, "two", meta={"review_id": "r2", "policy": "own"}),
        raw(3, "three", meta={"review_id": "r3", "policy": "unheard"}),
        raw(4, "four", meta={"review_id": "r4"}),
    ]
    source = {
        "kind": "reviews",
        "path": str(write_lines(tmp_path / "reviews.jsonl", rows)),
        "policies": str(tmp_path / "policies"),
    }
    drops = Drops()
    drafts = collect(settings(source), drops)
    assert [(d.row.source, d.row.label, d.row.codes) for d in drafts] == [
        ("reviews", "unsafe", ("C2",)),
        ("reviews", "safe", ()),
    ]
    assert drops.counts == {("reviews", "policy_not_given"): 1, ("reviews", "policy_not_told"): 1}


def review(number: int, label: str, day: int | None, text: str = "one") -> dict[str, Any]:
    meta = {"policy": "own"} | ({} if day is None else {"reviewed_at": f"2026-02-{day:02}T12:00:00Z"})
    return raw(number, text, label=label, source="reviews", meta=meta)


@pytest.fixture
def exports(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "own.yaml").write_text(POLICY)
    (tmp_path / "exports").mkdir()
    return {
        "kind": "reviews",
        "path": str(tmp_path / "exports"),
        "policies": str(tmp_path / "own.yaml"),
    }


def test_of_exports_that_overlap_the_latest_review_counts_and_the_rest_are_counted(
    exports: dict[str, Any],
) -> None:
    """Whichever file stands first: a review may have been changed since, and an old export given later."""
    folder = Path(exports["path"])
    write_lines(folder / "1.jsonl", [review(1, "safe", 1), review(2, "safe", 1), review(3, "unsafe", 9)])
    write_lines(folder / "2.jsonl", [review(1, "safe", 1), review(2, "unsafe", 2), review(3, "safe", 3)])
    write_lines(folder / "3.jsonl", [review(2, "unsafe", 2), review(4, "safe", 3)])
    drops = Drops()
    drafts = collect(settings(exports), drops)
    assert [(d.row.id, d.row.label) for d in drafts] == [
        ("chats-1", "safe"),
        ("chats-2", "unsafe"),
        ("chats-3", "unsafe"),
        ("chats-4", "safe"),
    ]
    assert drops.counts == {("reviews", "superseded"): 4}


def test_a_review_of_several_exports_without_its_time_is_refused(exports: dict[str, Any]) -> None:
    folder = Path(exports["path"])
    write_lines(folder / "1.jsonl", [review(1, "safe", None), review(2, "safe", None)])
    assert len(collect(settings(exports), Drops())) == 2
    write_lines(folder / "2.jsonl", [review(2, "unsafe", 2)])
    with pytest.raises(RowError, match=r"2\.jsonl:1: meta\.reviewed_at: expected the time of the review"):
        collect(settings(exports), Drops())


def test_a_broken_line_ends_the_reading(folder: Path) -> None:
    with (folder / "chats.jsonl").open("a") as file:
        file.write("no row\n")
    with pytest.raises(RowError, match=r"chats.jsonl:21: expected one JSON object"):
        collect(settings(chats(folder)), Drops())
