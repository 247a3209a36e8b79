import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.training.data.errors import RowError, TrainingDataError
from guard.training.data.sources import RawRow, read_raw_rows, source_files, source_name
from tests.unit.guard.training.data.samples import raw, write_lines

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def read_or_refused(path: Path) -> list[RawRow] | RowError:
    try:
        return read(path)
    except RowError as error:
        return error


def read(path: Path) -> list[RawRow]:
    return [row for _, row in read_raw_rows(path)]


def test_a_row_is_read_with_all_that_it_says(tmp_path: Path) -> None:
    meta = {
        "lang": "zh",
        "group": "thread-1",
        "spans": [[0, 3]],
        "policy": "p",
        "judgement_hash": "0a",
        "review_id": "r",
        "reviewed_at": "2026-02-01T12:00:00+01:00",
    }
    (row,) = read(write_lines(tmp_path / "a.jsonl", [raw(1, "hello", meta=meta, categories=["x"], extra=1)]))
    assert (row.id, row.source, row.split, row.label, row.licence) == (
        "chats-1",
        "chats",
        "train",
        "safe",
        "MIT",
    )
    assert (row.meta.lang, row.meta.group) == ("zh", "thread-1")
    assert (row.meta.policy, row.meta.judgement_hash, row.meta.review_id) == ("p", "0a", "r")
    assert row.meta.reviewed_at == datetime(2026, 2, 1, 11, tzinfo=UTC)
    assert row.categories == ("x",)


def test_what_may_be_left_out_may_be_left_out(tmp_path: Path) -> None:
    least = {"id": "a", "messages": [{"role": "user", "content": "hello"}], "label": "unsafe"}
    (row,) = read(write_lines(tmp_path / "my-chats.jsonl", [least]))
    assert (row.source, row.split, row.meta.lang) == ("my-chats", None, "en")


def test_gzip_and_empty_lines_are_read_and_lines_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(
        gzip.compress(b"\n" + json.dumps(raw(1, "x")).encode() + b"\n  \n" + json.dumps(raw(2, "y")).encode())
    )
    assert [(number, row.id) for number, row in read_raw_rows(path)] == [(2, "chats-1"), (4, "chats-2")]
    assert source_name(path) == "a"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"label": "Unsafe"}, ":2: label: expected safe or unsafe"),
        ({"split": "test"}, ":2: split: expected train or dev"),
        ({"messages": []}, ":2: messages: Expected `array` of length >= 1"),
        ({"messages": [{"role": "system", "content": "x"}]}, "role: expected user or assistant"),
        ({"messages": [{"role": "user"}]}, "missing required field `content`"),
        ({"id": ""}, ":2: id: Expected `str` of length >= 1"),
        ({"id": "chats-1"}, ":2: id: stands twice"),
        ({"meta": {"lang": 7}}, ":2: meta.lang: Expected `str`"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    path = write_lines(tmp_path / "a.jsonl", [raw(1, "hello"), raw(2, "private words", **changes)])
    with pytest.raises(RowError) as caught:
        read(path)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert "private" not in str(caught.value)


@given(lines=st.lists(st.binary(max_size=30) | JSON_VALUES.map(lambda v: json.dumps(v).encode()), max_size=4))
def test_reading_is_total(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    outcome = read_or_refused(path)
    if isinstance(outcome, RowError):
        assert outcome.line >= 1
        assert str(outcome).startswith(f"{path}:")
    else:
        assert not outcome


@given(
    changes=st.dictionaries(st.sampled_from(list(raw(1, ""))), JSON_VALUES, max_size=3),
    text=st.text(max_size=9),
)
def test_any_value_of_a_field_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, object], text: str
) -> None:
    path = write_lines(tmp_path_factory.mktemp("rows") / "a.jsonl", [raw(1, text, **changes)])
    outcome = read_or_refused(path)
    if isinstance(outcome, RowError):
        assert (outcome.file, outcome.line) == (path, 1)
    else:
        (row,) = outcome
        assert row.messages
        assert row.label in ("safe", "unsafe")


@given(cut=st.integers(min_value=0, max_value=60))
def test_half_a_gzip_file_is_refused(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("gzip") / "a.jsonl.gz"
    whole = gzip.compress(json.dumps(raw(1, "hello")).encode())
    path.write_bytes(whole[:cut] or b"x")
    with pytest.raises(TrainingDataError, match=r"a.jsonl.gz: expected a whole gzip file"):
        read(path)


def test_the_files_of_a_folder_are_in_order(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl.gz", "notes.txt", "c.json"):
        (tmp_path / name).touch()
    assert [file.name for file in source_files(tmp_path)] == ["a.jsonl.gz", "b.jsonl"]
    assert source_files(tmp_path / "b.jsonl") == [tmp_path / "b.jsonl"]


def test_a_path_without_rows_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="expected at least one file"):
        source_files(tmp_path)
    with pytest.raises(TrainingDataError, match="expected a file of JSON lines or a folder"):
        source_files(tmp_path / "absent")
