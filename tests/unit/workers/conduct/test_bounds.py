"""What is kept under one key stays within its record; what was dropped by number is remembered as such."""

from __future__ import annotations

import msgspec
import pytest

from schemas.conduct import MOST_STRIKES, Level
from schemas.identifiers import EXACT_MAX
from schemas.topics import load_topics
from tests.unit.workers.conduct.test_engine import review
from tests.unit.workers.conduct.world import START_S, World, decision, policy, rule
from workers.conduct import bounds
from workers.conduct.bounds import MOST_BYTES, MOST_OTHER_MARKS, MOST_RAISED, prune
from workers.conduct.entries import Forget, Strike, Subject, author_digest, encode
from workers.conduct.levels import Draft
from workers.conduct.rules import Rules
from workers.conduct.state import Kept, Mark, Raised, State, encode_state

# Of the largest identifier each character takes four bytes; times end with the year 9999.
LONGEST, LATEST_MS = "\U0001f5ff" * 256, 253_402_300_799_999
AUTHOR = Subject("author", LONGEST, LONGEST)
KEPT = Kept(
    LATEST_MS,
    LONGEST,
    "review",
    "assistant",
    "0" * 24,
    codes=("A" * 16,) * 64,
    revision=EXACT_MAX,
    rules=("0" * 16,) * 32,
)
# What the record has beside key and value: lengths, times, the batch's own head.
BESIDE = 1024


def largest() -> State:
    """Full of everything; each as long as the schemas allow."""
    mark = Mark(EXACT_MAX, LONGEST, False, LATEST_MS)
    raised = Raised(EXACT_MAX, False, "0" * 64, LATEST_MS, LATEST_MS, LATEST_MS)
    return State(
        subject=AUTHOR,
        newest_ms=LATEST_MS,
        seen_ms=LATEST_MS,
        strikes={f"{number:064x}": KEPT for number in range(MOST_STRIKES)},
        marks={f"{number:064x}": mark for number in range(MOST_STRIKES + MOST_OTHER_MARKS)},
        raised={
            f"{'r' * 64}|human_review|{LATEST_MS - number}|{'0' * 16}": raised
            for number in range(MOST_RAISED)
        },
        revision=EXACT_MAX,
        cut_ms=LATEST_MS,
        forgotten_ms=LATEST_MS,
    )


def test_the_largest_state_fits_into_its_topic() -> None:
    (topic,) = [one for one in load_topics() if one.name == "moderation.conduct-state"]
    size = len(AUTHOR.key) + len(encode_state(largest())) + BESIDE
    assert size <= MOST_BYTES
    assert int(topic.config["max.message.bytes"]) >= MOST_BYTES


def test_the_largest_entry_fits_into_any_topic() -> None:
    strike = Strike(
        subject=AUTHOR,
        decision="0" * 64,
        at_ms=LATEST_MS,
        seen_ms=LATEST_MS,
        policy=LONGEST,
        action="review",
        role="assistant",
        author="0" * 24,
        codes=KEPT.codes,
        places=(Subject("conversation", LONGEST, LONGEST),) * 5,
        revision=EXACT_MAX,
        rules=KEPT.rules,
    )
    assert len(encode(strike)) < 100_000


def test_of_a_decision_the_codes_are_those_of_its_policy() -> None:
    world = World([policy(rule())])
    world.decide(decision(1, 1, codes=("C1", "X9", "c1", *(f"Y{number}" for number in range(500)))))
    state = world.state("author", "a")
    assert state is not None
    assert [kept.codes for kept in state.strikes.values()] == [("C1",)]


def draft(**changes: object) -> Draft:
    return Draft.of(State(newest_ms=START_S * 1000, **changes), AUTHOR)  # type: ignore[arg-type]


def test_the_newest_levels_are_kept_of_too_many_and_each_as_long_as_its_own_rule_needs() -> None:
    house = policy(rule("short", window_s=60), rule("long", window_s=3600))
    book = Rules([house])
    short, long = (digest for digest, _ in book.rules_of(house))
    now_ms = START_S * 1000

    def raised(at_ms: int) -> Raised:
        return Raised(0, True, "0" * 64, at_ms, at_ms, None)

    old_ms = now_ms - 1_000_000
    made = draft(raised={f"{name}|warn|{old_ms}|{name}": raised(old_ms) for name in (short, long, "gone")})
    prune(book, 0, made)
    assert {name.rsplit("|", 1)[1] for name in made.raised} == {long, "gone"}
    many = {f"r|warn|{now_ms + number}|{long}": raised(now_ms + number) for number in range(MOST_RAISED + 3)}
    made = draft(raised=many)
    prune(book, 0, made)
    assert list(made.raised) == list(many)[3:]


def test_corrections_of_what_is_kept_stay_and_of_others_the_newest() -> None:
    now_ms = START_S * 1000
    made = draft(
        strikes={"kept": msgspec.structs.replace(KEPT, at_ms=now_ms)},
        marks={name: Mark(1, "", True, now_ms - 9) for name in ("kept", "oldest")}
        | {f"other-{number}": Mark(1, "", True, now_ms) for number in range(MOST_OTHER_MARKS)},
    )
    prune(Rules([policy(rule())]), 0, made)
    assert "kept" in made.marks and "oldest" not in made.marks
    assert len(made.marks) == MOST_OTHER_MARKS + 1


def test_corrections_alone_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_OTHER_MARKS", 4)
    world = World([policy(rule("room", per="conversation"))])
    room = Subject("conversation", "acme", "c")
    for number in range(9):
        world.take([msgspec.structs.replace(review(number, 5, "safe"), subject=room)])
    state = world.state("conversation", "c")
    assert state is not None and len(state.marks) == 4


def test_a_level_is_not_withdrawn_where_decisions_of_its_window_were_dropped_by_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "MOST_STRIKES", 5)
    world = World([policy(rule(levels=(Level(score=4, recommend="warn"),)))])
    world.decide(*(decision(number, number) for number in range(1, 9)))
    assert [e.change for e in world.escalations] == ["raised"]
    # 4 to 8 are kept. Without two of them three are left; but 1 to 3 lay in the window as well.
    world.take([review(7, 100, "safe", "r1"), review(8, 100, "safe", "r2")])
    assert [e.change for e in world.escalations] == ["raised"]
    # In a window that begins after what was dropped nothing is missing.
    later = 3 * 3600
    world.decide(*(decision(20 + number, later + number) for number in range(4)))
    world.take([review(21, later + 100, "safe", "r3")])
    assert [e.change for e in world.escalations] == ["raised", "raised", "withdrawn"]


def test_a_tumbling_window_looks_back_no_further_than_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_STRIKES", 5)
    house = policy(rule(window="tumbling", window_s=600, levels=(Level(score=4, recommend="warn"),)))
    world = World([house])
    world.decide(*(decision(number, 590 + number) for number in range(1, 17)))
    assert [e.change for e in world.escalations] == ["raised", "raised"]
    world.take([review(number, 700, "safe", f"r{number}") for number in (15, 16)])
    assert [e.change for e in world.escalations] == ["raised", "raised"]  # the first of 600 s were dropped
    world.decide(*(decision(40 + number, 1200 + number) for number in range(5)))
    world.take([review(40 + number, 1300, "safe", f"s{number}") for number in (1, 2)])
    assert [e.change for e in world.escalations] == ["raised"] * 3 + ["withdrawn"]


def test_a_forget_leaves_none_of_too_many_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_STRIKES", 3)
    rules = (rule(), rule("room", per="conversation"), rule("all", per="tenant"), rule("copy", per="text"))
    world = World([policy(*rules)])
    world.decide(*(decision(number, number, conversation_id=f"c{number}") for number in range(1, 9)))
    world.decide(decision(20, 9, author="b", conversation_id="c1"))
    state = world.state("author", "a")
    assert state is not None and len(state.strikes) == 3
    world.take([Forget(subject=Subject("author", "acme", "a"), until_ms=(START_S + 100) * 1000)])
    digest = author_digest("acme", "a").encode()
    for stored in world.states.values():
        assert digest not in stored and b'"a"' not in stored
        assert not any(f"{number:064x}".encode() in stored for number in range(1, 9))
    room = world.state("conversation", "c1")
    assert room is not None and list(room.strikes) == [f"{20:064x}"]


def test_a_sliding_window_is_whole_only_where_what_it_looks_back_on_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "MOST_STRIKES", 5)
    world = World([policy(rule(levels=(Level(score=4, recommend="warn"),)))])
    for number, at_s in enumerate((3500, 3501, 3502, 3503, 3601, 3602, 3603), 1):
        world.decide(decision(number, at_s))
    assert [e.change for e in world.escalations] == ["raised", "raised"]  # before 3,600 s and from then on
    # 3502, 3503 and 3601 are left; with 3500 and 3501, which were dropped, they are still enough.
    world.take([review(number, 3700, "safe", f"r{number}") for number in (6, 7)])
    assert [e.change for e in world.escalations] == ["raised", "raised"]


def test_what_a_short_rule_raised_is_not_raised_anew_while_a_long_one_keeps_the_decisions() -> None:
    house = policy(rule("short", window_s=60), rule("long", window_s=3600))
    world = World([house], allowed_lateness_s=60)
    world.decide(*(decision(number, number) for number in range(1, 5)))
    world.decide(decision(9, 2000))
    state = world.state("author", "a")
    assert state is not None and {name.split("|")[0] for name in state.raised} == {"long"}
    told = len(world.escalations)
    world.take([review(1, 2100, "safe")])  # three are left, which reach the level of both
    assert len(world.escalations) == told
