from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from msgspec.structs import replace

from guard.training.gate import run_gate
from guard.training.gate_settings import Drop, Floor, GateSettings
from guard.training.measured_rows import ROWS_KEY, Reply
from guard.training.report import PAGE, REPORT, Page, page_text, write_page, write_report
from tests.unit.guard.training.measured import report, row, rows_with

RISKY = '<script>alert("x")</script>'
VOID = {"meta", "link", "br", "img"}


class Checker(HTMLParser):
    """Every tag is closed in order; what is fetched from elsewhere is collected."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    return checker


def guard(hits: int = 30, digest: str = "d" * 64) -> dict[str, object]:
    rows = rows_with(hits, 40 - hits, 5, 45, suite="synthetic/held_out")
    rows += rows_with(5, 5, 0, 0, suite="attacks/begging", first=500)
    scored = [replace(one, replies={"think": replace(one.replies["think"], calibrated=0.6)}) for one in rows]
    scored.append(row(900, True, None, suites=("synthetic/held_out",)))
    scored.append(
        replace(row(901, False, "unsafe", 0.9999, suites=("synthetic/held_out",)), id=f"worst {RISKY}")
    )
    return report(scored, digest)


def page(tmp_path: Path) -> Page:
    challenger, champion = guard(20), guard(35, "c" * 64)
    settings = GateSettings(
        floors=(Floor(suite="synthetic/*", figure="f1", least=0.2, modes=("think",)),),
        drops=(Drop(suite="*", misses=0.01, over_refusals=0.01, modes=("think",)),),
    )
    lines = [{"stage": f"s{n // 5}", "step": n % 5, "loss": 1 / (n + 1), "reward": n / 10} for n in range(10)]
    (tmp_path / "progress.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in lines) + '{"step": 1')
    return Page(
        challenger,
        champion=champion,
        others={"warm start": guard(25, "e" * 64)},
        gate=run_gate(settings, challenger, champion, tmp_path / "gate"),
        progress={"warm-start": tmp_path / "progress.jsonl", "grpo": tmp_path / "absent.jsonl"},
        name="A & B",
    )


def test_the_page_stands_alone_and_is_well_formed(tmp_path: Path) -> None:
    text = page_text(page(tmp_path))
    checker = checked(text)
    assert checker.fetched == []
    assert "script" not in checker.tags
    assert "url(" not in text
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ET.fromstring(svg)
    assert text.count("<svg") >= 6
    assert "<title>A &amp; B</title>" in text


def test_the_page_shows_every_part(tmp_path: Path) -> None:
    text = page_text(page(tmp_path))
    for part in ("Gate", "Suites", "Figures", "Scores", "Learning curves", "Without a verdict", "Worst rows"):
        assert f"<h2>{part}</h2>" in text
    assert "<h2>Attacks</h2>" not in text  # this report has no flip rates
    assert "warm start" in text
    assert "no_verdict" in text
    assert ">loss</text>" in text
    assert ">reward</text>" in text
    assert ">grpo<" not in text
    assert '<b class="bad">failed</b>' in text
    # What got no verdict comes first, then the surest error; by id, which is never markup.
    worst = text[text.index("<h2>Worst rows</h2>") :]
    places = [worst.index(one) for one in ("<code>r900", "&lt;script&gt;", "<code>r5")]
    assert places == sorted(places)
    assert "1 answers without a verdict" in worst


def test_bars_say_values_and_intervals_of_both_guards(tmp_path: Path) -> None:
    text = page_text(page(tmp_path))
    says = re.findall(r"<title>((?:challenger|champion|warm start): [^<]*)</title>", text)
    assert any(one.startswith("challenger: balanced accuracy 0.6") for one in says)
    assert any(one.startswith("champion: accuracy 0.5") for one in says)
    assert all(re.search(r"\(\d\.\d{3}–\d\.\d{3}\), n = ", one) for one in says)


def test_the_same_reports_give_the_same_page(tmp_path: Path) -> None:
    assert page_text(page(tmp_path)) == page_text(page(tmp_path))


def test_a_page_needs_the_challenger_alone(tmp_path: Path) -> None:
    path = write_page(tmp_path / "new", Page(guard()))
    assert path.name == PAGE
    assert [one.name for one in path.parent.iterdir()] == [PAGE]
    text = path.read_text(encoding="utf-8")
    checked(text)
    assert "<h2>Gate</h2>" not in text
    assert "<h2>Learning curves</h2>" not in text


def test_a_report_without_rows_or_suites_still_has_a_page() -> None:
    old = {"weights_digest": "d" * 64, "engine": "vllm 1", "seed": 1, "modes": {}}
    checked(page_text(Page(old)))


def test_the_report_is_json_with_a_row_a_line(tmp_path: Path) -> None:
    whole = guard()
    write_report(tmp_path, whole)
    text = (tmp_path / REPORT).read_text(encoding="utf-8")
    assert json.loads(text) == whole
    rows = whole[ROWS_KEY]
    assert isinstance(rows, list)
    assert sum(line.startswith('{"id":') for line in text.splitlines()) == len(rows)
    write_report(tmp_path, {"a": 1})
    assert json.loads((tmp_path / REPORT).read_text(encoding="utf-8")) == {"a": 1}


def test_flip_rates_are_a_table() -> None:
    figures = {"begging": {"safe": 3, "n": 10, "unjudged": 1}}
    text = page_text(Page(guard() | {"attacks": {"think": figures, "fast": {}}}))
    assert "<td>begging</td><td>3 of 10</td><td>1</td>" in text


@pytest.mark.parametrize("progress", ["", "not json\n", '{"step": 1, "loss": null}\n', "[1]\n"])
def test_a_broken_progress_file_draws_nothing(tmp_path: Path, progress: str) -> None:
    path = tmp_path / "progress.jsonl"
    path.write_text(progress)
    assert "<h2>Learning curves</h2>" not in page_text(Page(guard(), progress={"grpo": path}))


def test_not_a_number_leaves_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    path.write_text('{"step": 1, "kl": NaN}\n{"step": 2, "kl": 0.5}\n{"step": 3, "kl": 0.7}\n')
    text = page_text(Page(guard(), progress={"grpo": path}))
    assert "kl: last 0.7" in text
    assert "nan" not in text.lower().replace("finance", "")


def test_a_reply_without_a_reason_is_counted() -> None:
    one = replace(row(1, True, "unsafe"), replies={"think": Reply()})
    assert "no reason" in page_text(Page(report([one, row(2, False, "safe")])))
