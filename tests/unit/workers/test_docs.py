"""Reference pages follow the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.topics import load_topics
from workers import docs
from workers.settings import setting_fields

PAGES = {path.name: text for path, text in docs.pages().items()}


def test_the_pages_are_fresh() -> None:
    assert docs.stale(docs.pages()) == [], "run `make docs`"


def test_every_setting_is_listed_and_no_secret_has_a_default() -> None:
    for field in setting_fields():
        (line,) = [line for line in PAGES["settings.md"].splitlines() if f"| `{field.variable}` |" in line]
        assert field.description in line
        assert not field.secret or "| empty |" in line


def test_every_topic_is_listed() -> None:
    for topic in load_topics():
        assert f"\n## {topic.name}\n" in PAGES["topics.md"]


@pytest.mark.parametrize("command", ["worker", "policy check", "topics create", "local run", "train"])
def test_every_command_is_listed(command: str) -> None:
    assert f" rsafe {command}\n" in PAGES["commands.md"]


def test_an_option_with_bounds_tells_them() -> None:
    assert (
        "| `--kafka-port INTEGER` | Default: a free one. At least 0, at most 65535. |" in PAGES["commands.md"]
    )
    assert "RANGE" not in PAGES["commands.md"]


def test_a_bar_does_not_break_a_table() -> None:
    for text in PAGES.values():
        rows = [line for line in text.replace("\\|", "").splitlines() if line.startswith("|")]
        assert rows
        assert {line.count("|") for line in rows} <= {3, 5}


def test_check_reports_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    monkeypatch.setattr(docs, "pages", lambda: {page: "text"})
    assert docs.main(["--check"]) == 1
    assert capsys.readouterr().err == "page.md is stale; run `python -m workers.docs`\n"
    assert not page.exists()
    assert docs.main([]) == 0
    assert page.read_text() == "text"
    assert docs.main(["--check"]) == 0
