"""The file of results: gone on with wherever it was cut, and left alone when it is another's."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.workers.lines.worlds import answering, source_of
from workers.errors import UsageError
from workers.lines.results import Results, Tally, go_on, open_results
from workers.lines.run import answer_lines

TEXTS = ["safe", "unsafe", "", "lost", "slow", "unsafe slow", "texts"]
CONTENT = b"\n".join(
    b"" if not text else b"{" if text == "texts" else json.dumps({"text": text}).encode() for text in TEXTS
)
RUN = "ab" * 8


def judge(content: bytes, path: Path, run: str = RUN) -> Tally:
    tally, source = Tally(), source_of(content)

    async def whole() -> None:
        with open_results(path) as stream:
            lines = go_on(stream, path, source, run, tally)
            results = Results(stream, tally, path)
            answers = answering(run=run)
            await answer_lines(lines, source, answers, lambda _, one: results.write(one), ahead=4)
            results.sync()

    asyncio.run(whole())
    return tally


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "out.jsonl"
    judge(CONTENT, path)
    return path.read_bytes()


def test_every_line_that_is_not_empty_has_one_result(whole: bytes) -> None:
    rows = [json.loads(row) for row in whole.splitlines()]
    assert [row["line"] for row in rows] == [1, 2, 4, 5, 6, 7]
    assert [row["status"] for row in rows] == ["judged", "judged", "unjudged", "judged", "judged", "error"]


@given(cut=st.integers(0, 10_000), times=st.integers(1, 3))
def test_cut_anywhere_and_gone_on_with_it_is_as_though_it_had_never_ended(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, cut: int, times: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "out.jsonl"
    path.write_bytes(whole)
    for part in range(times):
        content = path.read_bytes()
        path.write_bytes(content[: cut * (part + 1) % (len(content) + 1)])
        tally = judge(CONTENT, path)
        assert path.read_bytes() == whole
        assert tally.lines == 6
        assert (tally.errors, dict(tally.unjudged)) == (1, {"unparseable": 1})


def test_zeros_at_the_end_are_what_a_crash_of_the_machine_left(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    first, second, *_ = whole.splitlines(keepends=True)
    for left in (b"", b"\0" * 50, second[:20] + b"\0" * 50):
        path.write_bytes(first + left)
        judge(CONTENT, path)
        assert path.read_bytes() == whole


def test_lines_that_were_added_to_the_input_are_judged(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(whole)
    assert judge(CONTENT + b'\n{"text": "unsafe"}\n', path).lines == 7
    assert path.read_bytes().startswith(whole)


@pytest.mark.parametrize(
    ("content", "run", "sentence"),
    [
        (
            CONTENT.replace(b"lost", b"last"),
            RUN,
            r"out\.jsonl:3: the result of another line than in\.jsonl:4",
        ),
        (b"\n" + CONTENT, RUN, r"out\.jsonl:1: the result of another line than in\.jsonl:2"),
        (CONTENT[:20], RUN, r"another line"),
        (CONTENT.split(b"\n")[0], RUN, r"out\.jsonl:2: the result of a line that in\.jsonl does not have"),
        (CONTENT, "cd" * 8, r"out\.jsonl:1: written with another policy, checkpoint, mode or setting"),
    ],
)
def test_results_of_something_else_are_left_alone(
    whole: bytes, tmp_path: Path, content: bytes, run: str, sentence: str
) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(whole[:-5])  # torn as well
    with pytest.raises(UsageError, match=sentence):
        judge(content, path, run)
    assert path.read_bytes() == whole[:-5]


@pytest.mark.parametrize("foreign", [b"my notes", b"my notes\n", b'{"text": "a"}\n', b"\0\n", b"\xff\n"])
def test_a_file_that_holds_something_else_is_left_alone(tmp_path: Path, foreign: bytes) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(foreign)
    with pytest.raises(UsageError, match=r"out\.jsonl:1: expected a result of `rsafe judge --file`"):
        judge(CONTENT, path)
    assert path.read_bytes() == foreign


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with open_results(path), pytest.raises(UsageError, match="expected a file that no other run writes"):
        open_results(path)


def test_what_cannot_be_a_file_of_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--output"):
        open_results(tmp_path)
    with pytest.raises(UsageError, match="--output"):
        open_results(tmp_path / "absent" / "out.jsonl")
