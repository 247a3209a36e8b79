from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.prompt import Turn
from guard.training.data.errors import RowError, TrainingDataError
from guard.training.data.rows import POLICIES, ROWS, read_rows, write_rows
from tests.unit.guard.training.data.samples import policy, row


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = [
        row(1),
        row(2, policy=policy("B1"), label="safe", codes=(), twin="s-3", language="zh"),
        row(3, policy=policy("B1"), codes=("B1",), twin="s-2", rationale="because", licence="MIT"),
    ]
    assert write_rows(tmp_path / "new", rows) == 3
    again = read_rows(tmp_path / "new")
    assert again == rows
    assert again[1].policy is again[2].policy


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=3),
    group=st.text(st.characters(exclude_categories=["Cs"])),
)
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, texts: list[str], group: str) -> None:
    folder = tmp_path_factory.mktemp("rows")
    turns = tuple(Turn(role="user", text=text) for text in texts)
    rows = [row(1, turns=turns, group=group)]
    write_rows(folder, rows)
    assert read_rows(folder) == rows


def test_policies_that_read_alike_are_kept_once(tmp_path: Path) -> None:
    write_rows(tmp_path, [row(1), row(2, policy=policy("A1", "A2", "A3", threshold=0.9))])
    assert (tmp_path / POLICIES).read_bytes().count(b"\n") == 1
    assert {r.policy.threshold for r in read_rows(tmp_path)} == {0.5}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"turns": ()}, "turns"),
        ({"label": "safe"}, "codes"),
        ({"codes": ("A9",)}, "codes"),
        ({"id": ""}, "id"),
    ],
)
def test_a_row_that_contradicts_itself_is_not_written(
    tmp_path: Path, changes: dict[str, object], field: str
) -> None:
    with pytest.raises(TrainingDataError, match=rf": {field}: expected"):
        write_rows(tmp_path, [row(1, **changes)])


def test_an_id_stands_once(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="row s-1: id: stands twice"):
        write_rows(tmp_path, [row(1), row(1)])


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (b'"label":"unsafe"', b'"label":"secret words"', ":2: label: expected one of the values"),
        (b'"label":"unsafe"', b'"label":7', ":2: label: Expected `str`"),
        (b'"source":"s",', b"", ":2: Object missing required field `source`"),
        (b'"group"', b'"groop"', ":2: Object contains unknown field `groop`"),
        (b'{"id"', b'secret words {"id"', ":2: expected one JSON object on a line"),
        (b'"secret words number 2"', b'"secret \xff words"', ":2: expected UTF-8"),
        (b'"A1"', b'"A7"', ":2: codes: expected codes of the row's policy"),
        (b'"s-2"', b'"s-1"', ":2: id: stands twice"),
    ],
)
def test_a_broken_line_is_named_and_not_shown(tmp_path: Path, old: bytes, new: bytes, sentence: str) -> None:
    write_rows(tmp_path, [row(1), row(2)])
    first, second = (tmp_path / ROWS).read_bytes().splitlines(keepends=True)
    assert old in second
    (tmp_path / ROWS).write_bytes(first + second.replace(old, new))
    with pytest.raises(RowError, match=sentence) as caught:
        read_rows(tmp_path)
    assert "secret" not in str(caught.value)
    assert caught.value.line == 2


def test_a_changed_policy_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path, [row(1)])
    path = tmp_path / POLICIES
    path.write_bytes(path.read_bytes().replace(b"second of A1", b"second of all"))
    with pytest.raises(RowError, match=r"policies.jsonl:1: judgement_hash: expected"):
        read_rows(tmp_path)


def test_a_row_without_its_policy_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path, [row(1)])
    (tmp_path / POLICIES).write_bytes(b"")
    with pytest.raises(RowError, match=r"rows.jsonl:1: policy: expected"):
        read_rows(tmp_path)


def test_an_absent_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match=r"policies.jsonl: cannot be read: No such file"):
        read_rows(tmp_path)
