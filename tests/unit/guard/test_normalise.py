import random
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.normalise import NORMALISER, normalise
from guard.training.generator.conversations import draw_group
from guard.training.generator.evaluation_sets import evaluation_sets

# What joins, parts, hides, turns round, grows or looks like something else.
PIECES = st.sampled_from(
    [
        *"aceoxABHPй\u0451\u0430\u0435\u043e\u0441\u0445\u0456\u0433\u03b1\u03bf\u03bd\u03c9\u1f02 \t\n\r1-_",
        *"\u0301\u0323\u0308\u0327\u0302\u0338\u0336\u0344\u0f71\u0f73\u05b0\u0653\u3099\u20e3\u0489",
        *"\u200b\u200c\u200d\u200e\u202a\u202b\u202c\u202d\u202e\u2066\u2069\u00ad\u034f\ufe0f\ufeff",
        *"\0\x1b\x7f\x85\x0b\u2028\u2029\u00a0\u3000\u2800\ufff9\ufffe\U000e0041\U000e007f\U0001d173",
        *"\uff41\u24d0\U0001d41a\u1d00\ufb01\u2170\u00b2\u00bd\u00b4\u00a8\u0385\u1fcd\u203e\u2126\u212b",
        *"\u1100\u1161\u11a8\u3131\u314f\uffa1\uac00\u3200\uff76\uff9e\u0958\u09c7\u09be\u2adc\ufdfa\ufdfb",
        *"\u0e33\u0587\u0675\u05d0\u0627\U0001f170\U0001f469\U0001f3fb\ud800\U0001d15e\U0002f800",
    ]
)
TEXTS = st.text(max_size=40) | st.lists(PIECES, max_size=40).map("".join)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("c\u200ba\u200cs\u200di\u2060n\ufeffo", "casino"),
        ("ca\u00adsi\u034fno", "casino"),
        ("c\U000e0061a\ufe0fs\U000e0101ino", "casino"),
        ("c\0a\x1bs\x7fi\x9fno\ufdd0\U0001fffe", "casino"),
        ("\u202eonisac\u202c", "casino"),
        ("the \u202eonisac eht\u202c of", "the the casino of"),
        ("\u202aa\u2067b\u2069c\u200f", "abc"),
        ("\uff43\uff41\uff53\uff49\uff4e\uff4f", "casino"),
        ("\U0001d484\U0001d482\U0001d494\U0001d48a\U0001d48f\U0001d490", "casino"),
        ("\u24d2\u24d0\u24e2\u24d8\u24dd\u24de \U0001f152\U0001f170", "casino CA"),
        ("\u1d04\u1d00\ua731\u026a\u0274\u1d0f \u1d9c\u1d43\u02e2\u2071\u207f\u1d52", "casino casino"),
        ("c\u0336a\u0336s\u0336i\u0332n\u0305o\u20dd", "casino"),
        ("c\u0301\u0316\u0317a\u0300\u0301\u0302\u0303\u0304sino", "casino"),
        ("\u0441asin\u043e c\u0430sino \u03f2asin\u03bf", "casino casino casino"),
        ("c\u0430\u0301sino \u03ac\u0441b", "c\u00e1sino \u00e1cb"),
        ("\u043aaz\u0438\u043d\u043e \u043aa\u0437\u0438\u043do", "\u043aaz\u0438\u043d\u043e казино"),
        ("\u03b5\u03bb\u03bb\u03b7\u03bdikos", "\u03b5\u03bb\u03bb\u03b7\u03bdikos"),
        ("\u03bb\u03ccyo\u03c2 \u03bb\u03ccvo\u03c2", "\u03bb\u03ccyo\u03c2 \u03bb\u03cc\u03bd\u03bf\u03c2"),
        ("a\r\nb\rc\x0bd\x0ce\x85f\u2028g\u2029h", "a\nb\nc\nd\ne\nf\ng\nh"),
        ("a\u00a0b\u2003c\u3000d\u2800e\tf", "a b c d e\tf"),
        ("\ufb01t \u2170v e\u0301 \u212b", "fit iv \u00e9 \u00c5"),
        ("\ud800", "\ufffd"),
    ],
    ids=ascii,
)
def test_what_hides_is_taken_out_or_written_plainly(text: str, read: str) -> None:
    assert normalise(text) == read


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \t\n ",
        "plain words, 'quoted' \"so\" — “and” ’so’… not this".replace("…", "..."),
        "10² H₂O 1½ km² ¼",
        "Москва и Санкт-Петербург, СССР, ёлка, май",
        "windowsом и IT-шник",
        "Ελλάδα, λόγος",
        "Tiếng Việt có dấu thanh",
        "ẹ̀kọ́ Yorùbá, g̃uaraní",
        "한국어 ㅋㅋㅋ ㅠㅠ",
        "日本語のカタカナ、漢字。",
        "น้ำ ໝາ և ﷺ ﷻ",
        "שָׁלוֹם וּבְרָכָה",
        "السَّلَامُ عَلَيْكُمْ",
        "नमस्ते, हिन्दी",
        "👍🏽 😀 🇩🇪 ❤",
        "don´t ¨ ¯ ` ^",
        "\ue000 private",
    ],
    ids=ascii,
)
def test_honest_text_stays_the_same_object(text: str) -> None:
    assert normalise(text) is text


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("👩\u200d👩\u200d👧 ❤\ufe0f 1\ufe0f\u20e3", "👩👩👧 ❤ 1"),
        ("می\u200cخواهم", "میخواهم"),
        ("ක\u0dca\u200dර", "ක\u0dcaර"),
    ],
)
def test_honest_joiners_and_selectors_go_as_well(text: str, read: str) -> None:
    assert normalise(text) == read


def test_an_override_over_letters_that_run_so_by_themselves_is_only_removed() -> None:
    assert normalise("\u202e\u05e9\u05dc\u05d5\u05dd\u202c") == "\u05e9\u05dc\u05d5\u05dd"


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_normalised_text_is_normalised_composed_bounded_and_shows_itself(text: str) -> None:
    read = normalise(text)
    assert normalise(read) is read
    assert unicodedata.normalize("NFC", read) == read
    assert len(read) <= 6 * len(text)
    assert "\r" not in read
    hidden = {c for c in read if unicodedata.category(c) in ("Cc", "Cs", "Me") and c not in "\t\n"}
    assert not hidden
    assert not any(unicodedata.bidirectional(c) in ("RLO", "LRO", "RLE", "LRE", "PDF") for c in read)


@settings(max_examples=200, deadline=None)
@given(st.text("abcxyz \n.!?", max_size=30), st.randoms(use_true_random=False))
def test_text_with_invisible_characters_put_in_is_read_as_without(text: str, rng: random.Random) -> None:
    invisible = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\ufe0f\U000e0042\u200e\u2066\u2069\0"
    sprinkled = "".join(c + rng.choice(["", rng.choice(invisible)]) for c in text)
    assert normalise(sprinkled) == text


def test_every_character_alone_and_between_others_is_settled_at_once() -> None:
    # Ideographs and syllables neither hide nor fall apart; the planes above hold no letters.
    skipped = (
        (0x3400, 0x9FFF),
        (0xAC00, 0xD7A3),
        (0x20000, 0x2F7FF),
        (0x30000, 0xDFFFF),
        (0xE1000, 0x10FFFF),
    )
    starts = [0, *(last + 1 for _, last in skipped)]
    codes = [c for start, (end, _) in zip(starts, skipped, strict=False) for c in range(start, end)]
    for character in map(chr, codes):
        read = normalise(f"a{character}\u0301o")
        assert normalise(read) == read, ascii(character)


LARGE = 131_072  # characters of context that the limits let through by default


@pytest.mark.parametrize(
    "unit",
    [
        "\u0316\u0301",
        "\u0f73",
        "\u0f73\u0344",
        "\u0301\u0316\u034f",
        "\u3221",
        "\ufdfa",
        "\u202ea",
        "\u0441a ",
        "\u200b",
    ],
    ids=ascii,
)
def test_hostile_texts_take_time_in_proportion(unit: str) -> None:
    """Python orders marks in quadratic time: minutes for a text of this size that is not bounded before."""
    started = time.process_time()
    normalise("a" + unit * (LARGE // len(unit)))
    assert time.process_time() - started < 5.0


def test_plain_ascii_costs_next_to_nothing() -> None:
    # The bound is loose, for busy machines: what takes 0.2 µs must not come to take a hundred times that.
    text = "how do i get my money back from the casino in town tonight"
    started = time.process_time()
    for _ in range(10_000):
        normalise(text)
    assert time.process_time() - started < 0.2


def test_the_version_names_the_unicode_tables_too() -> None:
    assert NORMALISER.split("/") == ["plain-1", unicodedata.unidata_version]


def test_the_texts_of_training_and_evaluation_are_read_as_they_are() -> None:
    """The trainer renders them without `normalise`; that is right as long as it changes none of them."""
    for seed in range(60):
        for style in ("full", "wide", "sharp", "crossed"):
            policy, exchanges = draw_group(seed, style=style)
            texts = [turn.text for exchange in exchanges for turn in exchange.turns]
            lines = [text for line in policy for text in (line.title, line.definition, *line.exceptions)]
            assert all(normalise(text) is text for text in (*texts, *lines))
    for rows in evaluation_sets(10, 1).values():
        assert all(normalise(turn.text) is turn.text for row in rows for turn in row.exchange.turns)
