"""The short pass: a few thousand inputs per decoder, and what hypothesis finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.dead_letter import DeadLetter
from schemas.decision import Decision
from schemas.event import Event
from schemas.verdict import Verdict
from tests.fuzz.__main__ import ROUND, main, run_inputs, try_input
from tests.fuzz.bounds import TooSlowError, bounded, timed
from tests.fuzz.cached import run_entry
from tests.fuzz.inputs import LARGEST_BYTES, make_input
from tests.fuzz.report import BEGIN, END, Score
from tests.fuzz.targets import TARGETS, Target, pack_headers, unpack_headers
from tests.unit.schemas.strategies import instances
from workers.adapters.verdict_codec import encode_verdict
from workers.ports import CachedVerdict

INPUTS = 3_000
STRUCTS: list[tuple[str, Any]] = [
    *(("event", Event), ("decision", Decision)),
    *(("verdict struct", Verdict), ("dead_letter struct", DeadLetter)),
]
BY_NAME = {target.name: target for target in TARGETS}
headers = st.lists(
    st.tuples(
        st.one_of(
            st.text(max_size=20),
            st.sampled_from(
                ["traceparent", "CE_ID", "rsafe-attempts"]
                + ["rsafe-" + field.replace("_", "-") for field in DeadLetter.__struct_fields__]
            ),
        ),
        st.one_of(st.none(), st.binary(max_size=60), st.integers().map(lambda n: str(n).encode())),
    ),
    max_size=12,
)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_mutated_examples_break_no_decoder(target: Target) -> None:
    score, failures = Score(), []
    with bounded():
        for number in range(INPUTS):
            if (failure := try_input(target, 0, number, score)) is not None:
                failures.append((number, failure))
    assert failures == []
    # Both ways are taken, or the inputs are no good.
    assert 0 < score.accepted < INPUTS


@given(st.sampled_from(TARGETS), st.binary(max_size=400))
def test_any_bytes_break_no_decoder(target: Target, data: bytes) -> None:
    target.run(data)


@given(st.sampled_from(["trace", "attempts", "dead letter", "redrive mark"]), headers)
def test_any_headers_break_no_reader(name: str, content: list[tuple[str, bytes | None]]) -> None:
    BY_NAME[name].run(
        pack_headers([(field.encode("utf-8", "ignore").decode(), value) for field, value in content])
    )


@given(st.data())
@settings(max_examples=60)
def test_what_is_well_formed_is_accepted(data: st.DataObject) -> None:
    name, struct = data.draw(st.sampled_from(STRUCTS))
    content = msgspec.json.encode(data.draw(instances(struct)))
    # An event may be over a limit.
    assert BY_NAME[name].run(content) or name == "event"


@given(
    st.lists(
        st.tuples(
            st.text("abc-", min_size=1),
            st.none() | st.binary(min_size=2).filter(lambda b: not {30, 31} & {*b}),
        )
    )
)
def test_headers_survive_packing(content: list[tuple[str, bytes | None]]) -> None:
    assert unpack_headers(pack_headers(content)) == content or not content


@pytest.mark.parametrize("unit", ["hello there ", "\0", "🙂é", "a\n"])
@pytest.mark.parametrize(("size", "fits"), [(120_000, True), (1_000_000, False)])
def test_a_remembered_rationale_of_any_length_is_a_decision_or_a_miss(
    unit: str, size: int, fits: bool
) -> None:
    verdict = Verdict(label="safe", score=0.5, rationale=unit * (size // len(unit.encode())))
    entry = encode_verdict(CachedVerdict(verdict, "0" * 64, 5, "full", "m", "d", True, "1"))
    assert run_entry(entry) is fits


def test_an_input_is_the_same_whenever_it_is_made() -> None:
    corpus = TARGETS[0].corpus
    assert [make_input(3, "event", n, corpus) for n in range(50)] == [
        make_input(3, "event", n, corpus) for n in range(50)
    ]
    assert len({make_input(3, "event", n, corpus) for n in range(50)}) > 40
    assert max(len(make_input(3, "event", n, corpus)) for n in range(6000)) <= LARGEST_BYTES


def _raises(data: bytes) -> bool:
    raise KeyError("x")


def _takes_memory(data: bytes) -> bool:
    return len(bytearray(1 << 30)) > 0


@pytest.mark.parametrize(("broken", "words"), [(_raises, "KeyError"), (_takes_memory, "MemoryError")])
def test_a_broken_decoder_is_found(broken: Any, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    scores, following = run_inputs([Target("broken", (b"{}",), broken)], 1, 0, 3)
    assert (scores["broken"].failed, following) == (3, 3)
    assert words in capsys.readouterr().out


def test_a_decoder_without_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.bounds._HANGS_S", 0.05)

    def never(data: bytes) -> None:
        while True:
            pass

    with bounded(), pytest.raises(TooSlowError, match="no end"):
        timed(never, b"")


def test_a_run_goes_on_where_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    each = 2 * ROUND
    first = each * len(TARGETS) - 500
    assert main(["--inputs", str(each), "--first", str(first)]) == 0
    output = capsys.readouterr().out
    assert f"seed 1, inputs {first} to {first + 499}" in output
    assert f"| {TARGETS[-1].name} | 500 |" in output


def test_one_input_is_repeated_by_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "event", "--first", "70000", "--inputs", "1"]) == 0
    assert "seed 1, inputs 70000 to 70000" in capsys.readouterr().out


def test_a_whole_run_is_written_into_the_page_between_its_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.fuzz.__main__.ROUND", 2)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    assert main(["--inputs", "2", "--page", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}\n\n| Decoder |")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    for target in TARGETS:
        assert f"| {target.name} | 2 |" in text
    for part in (["2", "--only", "event"], ["2", "--first", "1"], ["3"]):
        assert main(["--page", str(page), "--inputs", *part]) == 0
    assert page.read_text(encoding="utf-8") == text
