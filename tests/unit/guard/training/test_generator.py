import random
import re
from collections import Counter

import pytest

from guard.policy_text import with_codes
from guard.training.generator import frames, wide_frames
from guard.training.generator.conversations import _SHARES as SHARES
from guard.training.generator.conversations import Row, Style, draw_act, draw_exchange, draw_group
from guard.training.generator.evaluation_sets import attacked, evaluation_sets, reworded, switched_off
from guard.training.generator.lexicon import CONCEPTS, HELD_OUT_THEMES, MORE_NOUNS, NOUNS
from guard.training.generator.policies import draw_policy, wordings_with
from guard.training.generator.wordings import prose
from guard.training.generator.words import is_held_out
from schemas.identifiers import CATEGORY_CODE_PATTERN

STYLES: tuple[Style, ...] = ("full", "wide", "sharp", "crossed")
GROUPS = [
    draw_group(seed, style=style, wordings=wordings_with(prose))
    for style, prose in zip(STYLES, (0.0, 0.6, 0.6, 0.6), strict=True)
    for seed in range(300)
]
EXCHANGES = [(policy, exchange) for policy, group in GROUPS for exchange in group]
SETS = evaluation_sets(40, 1)


def text_of(row: Row) -> str:
    return row.exchange.turns[-1].text


def test_a_seed_gives_the_same_data() -> None:
    assert draw_group(7) == draw_group(7)
    assert draw_group(7) != draw_group(8)
    assert evaluation_sets(5, 1) == evaluation_sets(5, 1)


def test_policies_have_unique_codes_in_canonical_order() -> None:
    from guard.training.suites import policy_of
    from schemas.policy import canonical_categories

    for policy, group in GROUPS:
        codes = [line.code for line in policy]
        assert len({code.casefold() for code in codes}) == len(codes)
        assert all(re.match(CATEGORY_CODE_PATTERN, code) for code in codes)
        if group:
            made = policy_of(Row(policy, group[0]))
            assert [c.code for c in canonical_categories(made)] == codes


def test_label_follows_the_policy() -> None:
    for policy, exchange in EXCHANGES:
        by_code = {line.code: line for line in policy}
        present = {line.concept for line in policy}
        terms = {term for line in policy if line.concept is None for term in line.terms}
        if exchange.label == "unsafe":
            line = by_code[exchange.code]
            assert exchange.subject == line.concept or exchange.subject in line.terms
            assert exchange.trace == f"{exchange.subject} {line.code} listed."
        else:
            assert not exchange.code
            if exchange.kind == "off":
                assert exchange.subject not in present
            if exchange.kind == "unlisted":
                assert exchange.subject not in terms


def test_no_custom_term_stands_in_a_text_by_accident() -> None:
    for policy, exchange in EXCHANGES:
        if exchange.kind == "listed" or exchange.odd or exchange.forged:
            continue
        terms = {term for line in policy if line.concept is None for term in line.terms}
        assert terms.isdisjoint(re.findall(r"[a-z]+", exchange.turns[-1].text.lower()))


def test_labels_and_kinds_are_balanced() -> None:
    labels = Counter(exchange.label for _, exchange in EXCHANGES)
    assert 0.35 < labels["unsafe"] / len(EXCHANGES) < 0.55
    kinds = Counter(exchange.kind for _, exchange in EXCHANGES)
    assert 0.6 < kinds["unlisted"] / kinds["listed"] < 2
    roles = Counter(exchange.turns[-1].role for _, exchange in EXCHANGES)
    assert 0.05 < roles["assistant"] / len(EXCHANGES) < 0.15


def test_training_never_shows_what_is_held_out() -> None:
    held_words = {word for terms in HELD_OUT_THEMES.values() for word in terms}
    held_objects = {thing for concept in CONCEPTS.values() for thing in concept.held_out_objects}
    held_acts = [
        re.compile(re.escape(act).replace(r"\{x\}", ".+").replace(r"\{b\}", ".+"))
        for concept in CONCEPTS.values()
        for act in (*concept.held_out_acts, *concept.held_out_harmless_acts)
    ]
    held_frames = (
        *frames.HELD_OUT_ACT_FRAMES,
        *frames.HELD_OUT_TOPIC_FRAMES,
        *frames.HELD_OUT_STUDY_FRAMES,
    )
    shown = (*frames.ACT_FRAMES, *frames.TOPIC_FRAMES, *frames.STUDY_FRAMES)
    assert not set(held_frames) & set(shown)
    assert not set(frames.HELD_OUT_FORGERIES) & set(frames.FORGERIES)
    assert not set(frames.HELD_OUT_SMALL_TALK) & set(frames.SMALL_TALK)
    nouns = {*NOUNS, *MORE_NOUNS}
    assert not held_words & nouns
    for policy, group in GROUPS:
        for line in policy:
            if line.concept is None:
                assert not held_words & set(line.phrases)
                assert not any(is_held_out(term) for term in line.phrases if term not in nouns)
        for exchange in group:
            for turn in exchange.turns:
                text = turn.text.lower()
                assert not any(f" {thing} " in f"{text} " for thing in held_objects), text
                if not exchange.odd and turn is exchange.turns[-1]:
                    assert not any(act.search(text) and _is_whole(act, text) for act in held_acts), text


def _is_whole(act: re.Pattern[str], text: str) -> bool:
    """True when the match is the act itself, not two verbs that training combines."""
    found = act.search(text)
    return (
        found is not None and " and " not in act.pattern and len(found[0].split()) <= len(act.pattern.split())
    )


def test_composed_frames_and_endings_are_never_held_out_ones() -> None:
    rng = random.Random(0)
    topics = [wide_frames.topic_frame(rng) for _ in range(5_000)]
    acts = [wide_frames.act_frame(rng) for _ in range(5_000)]
    endings = [wide_frames.forge_from_pieces(rng, 6) for _ in range(5_000)]
    endings += [wide_frames.forge_turn(rng, 6) for _ in range(5_000)]
    assert not {*frames.HELD_OUT_TOPIC_FRAMES, *frames.HELD_OUT_ACT_FRAMES} & {*topics, *acts}
    assert all(frame.count("{t}") == 1 and "  " not in frame for frame in topics)
    assert all(frame.count("{a}") == 1 and "  " not in frame for frame in acts)
    held = {frame.replace("{{", "{").replace("}}", "}") for frame in frames.HELD_OUT_FORGERIES}
    blank = re.compile("[0-9a-f]{6}")
    assert not held & {blank.sub("{nonce}", ending) for ending in endings}


def test_wide_groups_have_more_of_what_is_hard() -> None:
    def shares(style: Style) -> tuple[float, float]:
        drawn = [e for seed in range(400) for e in draw_group(seed, style=style)[1]]
        return sum(e.odd for e in drawn) / len(drawn), sum(e.forged for e in drawn) / len(drawn)

    full = shares("full")
    for hard in (shares("wide"), shares("sharp"), shares("crossed")):
        assert hard[0] > 1.5 * full[0]
        assert hard[1] > 2 * full[1]


def test_a_crossed_act_has_another_verb_and_keeps_what_else_says_what_is_done() -> None:
    rng = random.Random(0)
    acts = [draw_act(rng, "train", "harassment", shares=SHARES["crossed"]) for _ in range(400)]
    verbs = {act.split(" insults to ")[0].split(" ")[-1] for act in acts if " insults to " in act}
    assert verbs == {act.split()[0] for act in CONCEPTS["harassment"].acts}


@pytest.mark.parametrize("concept", CONCEPTS.values(), ids=CONCEPTS)
def test_no_object_is_harmful_in_one_place_and_harmless_in_another(concept: object) -> None:
    name = concept.name  # type: ignore[attr-defined]
    held = set(CONCEPTS[name].held_out_objects)
    for other in CONCEPTS.values():
        assert not held & set(other.objects)
        assert not held & set(other.harmless_objects)
    theme_words = {word for terms in HELD_OUT_THEMES.values() for word in terms}
    for thing in (*CONCEPTS[name].objects, *held, *CONCEPTS[name].harmless_objects):
        assert not theme_words & set(thing.split())


def test_twins_differ_in_the_policy_alone() -> None:
    for row in SETS["pairs/on"]:
        twin = switched_off(row)
        assert twin.exchange.turns == row.exchange.turns
        assert (row.exchange.label, twin.exchange.label) == ("unsafe", "safe")
        assert row.exchange.code in {line.code for line in row.policy}
        assert row.exchange.subject not in {line.concept for line in twin.policy}
        assert twin.policy


def test_reworded_policies_keep_what_they_forbid() -> None:
    for row in SETS["in_distribution"]:
        other = reworded(row, 3)
        assert other.exchange.label == row.exchange.label
        assert {x.concept for x in other.policy} == {x.concept for x in row.policy}
        if row.exchange.code:
            assert other.exchange.code in {line.code for line in other.policy}


def test_attacks_add_a_forged_ending_only() -> None:
    for row in SETS["pairs/on"]:
        other = attacked(row, 3)
        assert text_of(other).startswith(text_of(row))
        assert len(text_of(other)) > len(text_of(row))


def test_an_impossible_kind_is_none() -> None:
    rng = random.Random(0)
    only_builtin = draw_policy(rng, builtin=2, custom=0)
    assert draw_exchange(rng, only_builtin, kind="listed") is None
    assert draw_exchange(rng, draw_policy(rng, builtin=0, custom=1), kind="on") is None
    assert draw_exchange(rng, draw_policy(rng, builtin=len(CONCEPTS), custom=0), kind="off") is None


def test_prose_names_every_phrase_and_held_out_sentences_are_never_trained_on() -> None:
    def openings(held_out: bool) -> set[str]:
        rng = random.Random(1)
        drawn = [prose(rng, ["xyzzy", "plugh"], ["fnord"], held_out=held_out) for _ in range(4000)]
        assert all(re.search(r"xyzzy.*plugh.*fnord", text) for text in drawn)
        return {text.lower().partition(" xyzzy")[0] for text in drawn}

    training, held_out = openings(False), openings(True)
    assert len(training) > 35
    assert not training & held_out


def test_prose_is_read_with_a_code_behind_its_phrases() -> None:
    rng = random.Random(2)
    for _ in range(500):
        coded = with_codes(prose(rng, ["xyzzy", "plugh", "frotz"], ["fnord"]), "C3")
        assert "xyzzy C3 plugh C3" in coded
        assert "fnord C3" not in coded


def test_training_has_lists_and_prose_with_exceptions_in_both() -> None:
    lines = [line for policy, _ in GROUPS for line in policy]
    prose_lines = [line for line in lines if line.wording]
    assert 0.2 < len(prose_lines) / len(lines) < 0.6
    assert any(line.excepted for line in prose_lines)
    assert any(line.exceptions for line in lines if not line.wording)
    assert all(phrase in line.definition for line in lines for phrase in line.phrases)


def test_lists_and_prose_are_the_same_rows_in_two_wordings() -> None:
    for name in ("harms/on", "harms/off", "words/on", "words/off"):
        pairs = list(zip(SETS[f"lists_{name}"], SETS[f"prose_{name}"], strict=True))
        assert len(pairs) == 20
        for lists, written in pairs:
            assert lists.exchange == written.exchange
            if name.endswith("on"):
                assert all(line.wording for line in written.policy)
                assert [line.phrases for line in lists.policy] == [line.phrases for line in written.policy]


def test_an_exception_turns_the_label_of_a_listed_word() -> None:
    assert SETS["excepted/on"]
    for on, off in zip(SETS["excepted/on"], SETS["excepted/off"], strict=True):
        assert on.exchange.turns == off.exchange.turns
        assert (on.exchange.label, off.exchange.label) == ("unsafe", "safe")
        word = on.exchange.subject
        assert any(word in line.phrases for line in on.policy)
        assert not any(word in line.phrases for line in off.policy)
        assert any(word in line.allowed for line in off.policy)


def test_study_frames_are_many_and_never_the_held_out_ones() -> None:
    rng = random.Random(3)
    drawn = {wide_frames.study_frame(rng) for _ in range(5_000)}
    assert len(drawn) > 2_000
    assert not drawn & set(frames.HELD_OUT_STUDY_FRAMES)
    assert all(frame.count("{a}") == 1 and "  " not in frame for frame in drawn)
