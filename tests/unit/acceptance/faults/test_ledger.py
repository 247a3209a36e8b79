from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.acceptance.faults.ledger import Ledger, Repeat, commit_of


def repeat(number: int, row: str = "a-row") -> Repeat:
    return Repeat(row=row, number=number, seed="0", began="2026-01-05T09:00:00+00:00", lasted_s=1.5)


def test_repeats_are_kept_in_order_and_rows_apart(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "made-when-needed")
    for one in (repeat(1), repeat(1, "another"), repeat(2)):
        ledger.append(one)
    assert ledger.read("a-row") == [repeat(1), repeat(2)]
    assert ledger.read("another") == [repeat(1, "another")]
    assert ledger.read("a-third") == []


def test_a_line_that_was_cut_off_is_as_if_it_had_not_been_begun(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append(repeat(1))
    with ledger.path("a-row").open("ab") as file:
        file.write(b'{"row": "a-ro')
    assert ledger.read("a-row") == [repeat(1)]
    ledger.append(repeat(2))
    assert ledger.read("a-row") == [repeat(1), repeat(2)]


def test_a_line_of_before_commits_were_noted_is_read(tmp_path: Path) -> None:
    line = b'{"row":"a-row","number":1,"seed":"0","began":"2026-01-05T09:00:00+00:00","lasted_s":1.5}\n'
    ledger = Ledger(tmp_path)
    ledger.path("a-row").write_bytes(line)
    assert ledger.read("a-row") == [repeat(1)]
    assert ledger.read("a-row")[0].commit == ""


def test_the_commit_of_a_checkout_has_a_mark_when_tracked_files_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)
        return done.stdout.decode().strip()

    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit_of(tmp_path) == ""
    git("init")
    for name in ("code.py", "page.md"):
        (tmp_path / name).write_text("one")
    git("add", "code.py", "page.md")
    git("-c", "user.name=quince", "-c", "user.email=quince@example.org", "commit", "-m", "first")
    commit = git("rev-parse", "--short", "HEAD")
    (tmp_path / "new.txt").write_text("not tracked")
    assert commit_of(tmp_path) == commit
    (tmp_path / "page.md").write_text("two")
    assert (commit_of(tmp_path), commit_of(tmp_path, but_for=["page.md"])) == (f"{commit}+", commit)
    (tmp_path / "code.py").write_text("two")
    assert commit_of(tmp_path, but_for=["page.md"]) == f"{commit}+"


def test_a_forgotten_row_begins_anew(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append(repeat(1))
    ledger.forget("a-row")
    ledger.forget("never-seen")
    assert ledger.read("a-row") == []
