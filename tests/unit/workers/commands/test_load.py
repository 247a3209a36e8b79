"""`rsafe load`: what is refused before anything is sent, what is written, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.unit.workers.load.test_run import Echo
from workers.commands import load as module
from workers.commands.load import OutcomesMissing, load
from workers.errors import UsageError


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Echo:
    return _installed(Echo(), monkeypatch)


def _installed(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> Echo:
    class Reader:
        take = echo.take

        def close(self) -> None:
            pass

    monkeypatch.setattr(module, "EventSender", lambda *_, **__: echo)
    monkeypatch.setattr(module, "OutcomeReader", lambda *_, **__: Reader())
    return echo


def _load(*arguments: str) -> Result:
    return CliRunner().invoke(load, [*arguments], catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tenant", "a", "--tenant", "a"], "--tenant: expected different names"),
        (["--tenant", "a", "--tenant", "b", "--conversations", "1"], "at least one for each of 2 tenants"),
        (["--tenant", "a", "--tenant", "b", "--pool", "1", "--hits", "0.5"], "a text for each of 2 tenants"),
        (["--run", "Über"], "--run: expected 1 to 16 letters"),
        (["--lengths", "fixed:x"], "--lengths: expected fixed:N"),
        (["--picture", "a.gif"], r"ends with \.png or \.svg"),
        (["--json", "absent/a.json"], "--json: there is no folder absent"),
        (["--tenant", "a\x07"], r"would be refused: \$\.tenant"),
        (["--policy", ""], r"would be refused: \$\.policy"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(
    arguments: list[str], message: str, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(echo, "send", lambda *_: pytest.fail("sent"))
    with pytest.raises(UsageError, match=message):
        _load(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "0"], "expected events a second, more than 0, or `max`"),
        (["--rate", "fast"], "expected events a second"),
        (["--rate", "nan"], "expected events a second"),
        (["--hits", "1.1"], "0<=x<=1"),
        (["--rate", "max", "--warm-up", "5"], "expected no --warm-up at the rate `max`"),
        (["--count", "5", "--duration", "5"], "--duration or --count, not both"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(arguments: list[str], message: str) -> None:
    result = _load(*arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_a_run_writes_its_figures_to_the_screen_and_to_files(echo: Echo, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figures, picture = tmp_path / "figures.json", tmp_path / "figures.svg"
    result = _load(
        *("--rate", "1000", "--count", "200", "--warm-up", "0.1", "--hits", "0.9", "--pool", "20"),
        *("--run", "mine", "--json", str(figures), "--picture", str(picture)),
    )
    assert result.exit_code == 0
    assert "measured: 200 sent, 200 judged, 0 missing" in result.stdout
    body: dict[str, Any] = json.loads(figures.read_text())
    assert (body["form"], body["run"], body["main_figure"]) == ("rsafe-load-1", "mine", "latency")
    assert body["measured"]["sent"] == 200
    assert body["asked"]["lengths"] == "lognormal:60:0.8"
    assert picture.read_bytes().startswith(b"<?xml")


def test_max_says_what_it_is_and_takes_a_count(echo: Echo) -> None:
    result = _load("--rate", "max", "--count", "300")
    assert "as fast as the producer's queue takes them (the figure is throughput)" in result.stderr
    assert "300 sent" in result.stdout


def test_missing_outcomes_are_an_error_after_the_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _installed(Echo(lost=lambda name: name.endswith("-3")), monkeypatch)
    figures = tmp_path / "figures.json"
    with pytest.raises(
        OutcomesMissing, match=r"^1 events had no outcome within 0\.3 s of the last$"
    ) as caught:
        _load(
            "--rate",
            "1000",
            "--count",
            "10",
            "--warm-up",
            "0",
            "--drain-timeout",
            "0.3",
            "--json",
            str(figures),
        )
    assert caught.value.exit_code == 1
    assert json.loads(figures.read_text())["measured"]["missing"] == 1


def test_a_pool_without_outcomes_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(Echo(lost=lambda _: True), monkeypatch)
    with pytest.raises(OutcomesMissing, match="nothing was measured, since not all of the pool was judged"):
        _load("--hits", "0.5", "--pool", "5", "--drain-timeout", "0.2")
