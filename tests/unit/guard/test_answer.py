import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.answer import Answer, Unparseable, parse_answer

CODES = ("C1", "C10", "X-2")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r" harmless.</think>\boxed{safe}", Answer("safe", (), "harmless.")),
        ("fine</think>\n\\boxed{safe}\n", Answer("safe", (), "fine")),
        (r"</think>\boxed{safe}", Answer("safe", (), "")),
        (r"x</think>\boxed{unsafe}", Answer("unsafe", (), "x")),
        (r"x</think>\boxed{unsafe} C10", Answer("unsafe", ("C10",), "x")),
        (r"x</think>\boxed{unsafe} c10, x-2 C1", Answer("unsafe", ("C10", "X-2", "C1"), "x")),
        (r"x</think>\boxed{unsafe}, C1, c1", Answer("unsafe", ("C1",), "x")),
        (
            r"first \boxed{safe}, but no</think>\boxed{unsafe}",
            Answer("unsafe", (), r"first \boxed{safe}, but no"),
        ),
    ],
)
def test_answer_is_read(text: str, answer: Answer) -> None:
    assert parse_answer(text, CODES) == answer


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        (r"\boxed{safe}", "no_think_close"),
        ("reasoning without end", "no_think_close"),
        (r"\boxed{safe}</think> no </think> \boxed{unsafe} C1", "several_think_closes"),
        (r"x</think>\boxed{safe}</think>", "several_think_closes"),
        (r"x</think></think>\boxed{unsafe}", "several_think_closes"),
        (r"\boxed{safe}</think>", "no_verdict"),
        ("x</think>safe", "no_verdict"),
        (r"x</think>so \boxed{safe}", "no_verdict"),
        (r"x</think>\boxed{Safe}", "no_verdict"),
        (r"x</think>\boxed{ safe }", "no_verdict"),
        (r"x</think>\boxed{maybe}", "no_verdict"),
        (r"x</think>boxed{safe}", "no_verdict"),
        (r"x</think>\boxed{safe}\boxed{unsafe}", "several_verdicts"),
        (r"x</think>\boxed{unsafe} C1 \boxed {safe}", "several_verdicts"),
        (r"x</think>\boxed{safe} C1", "codes_on_safe"),
        (r"x</think>\boxed{safe}.", "trailing_text"),
        (r"x</think>\boxed{safe}<|im_end|>", "trailing_text"),
        (r"x</think>\boxed{unsafe} C9", "unknown_category"),
        (r"x</think>\boxed{unsafe} C1, C9", "unknown_category"),
        (r"x</think>\boxed{unsafe}C1", "trailing_text"),
        (r"x</think>\boxed{unsafe},", "trailing_text"),
        (r"x</think>\boxed{unsafe} because of C1.", "trailing_text"),
        (r"x</think>\boxed{unsafe} C1; C10", "trailing_text"),
    ],
)
def test_anything_else_has_a_reason(text: str, reason: str) -> None:
    parsed = parse_answer(text, CODES)
    assert isinstance(parsed, Unparseable)
    assert parsed.reason == reason


_PIECES = st.sampled_from(
    [
        "</think>",
        r"\boxed{safe}",
        r"\boxed{unsafe}",
        r"\boxed{",
        "safe",
        "}",
        " ",
        ",",
        "C1",
        "c10",
        "C99",
        "\n",
        "x",
        "\0",
        "é",
    ]
)


@given(st.text() | st.lists(_PIECES, max_size=12).map("".join))
def test_no_text_raises_and_none_is_safe_by_accident(text: str) -> None:
    parsed = parse_answer(text, CODES)
    if isinstance(parsed, Answer):
        assert text.count("</think>") == 1
    if isinstance(parsed, Answer) and parsed.label == "safe":
        assert text.rpartition("</think>")[2].strip() == r"\boxed{safe}"
        assert not parsed.codes
    if isinstance(parsed, Unparseable):
        assert r"\boxed{" not in parsed.detail


@given(st.lists(st.sampled_from(CODES), unique=True), st.sampled_from([" ", ", ", ","]), st.booleans())
def test_codes_come_back_in_the_policys_spelling(codes: list[str], separator: str, lower: bool) -> None:
    written = separator.join(code.lower() if lower else code for code in codes)
    text = rf"x</think>\boxed{{unsafe}} {written}"
    assert parse_answer(text, CODES) == Answer("unsafe", tuple(codes), "x")
