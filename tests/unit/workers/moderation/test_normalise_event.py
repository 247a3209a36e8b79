from __future__ import annotations

import msgspec
import pytest

from guard.normalise import normalise
from schemas.event import Event
from tests.unit.workers.moderation.builders import FINGERPRINTS, make_event, make_turn, make_verdict
from tests.unit.workers.moderation.test_pipeline import World, decision_of, record_of
from workers.moderation.fingerprint import Fingerprints
from workers.moderation.normalise_event import as_read, texts_of

PLAIN = "where is the casino"
# Three ways to write the same to a reader: zero-width characters, letters of another script, another width.
HIDDEN = ("where is the c\u200basi\u2060no", "where is the \u0441\u0430sino", "where is the ｃａｓｉｎｏ")


def test_an_event_of_normal_texts_is_read_as_the_same_object() -> None:
    event = make_event(text=PLAIN, context=(make_turn("before"), make_turn("ещё раньше")))
    assert as_read(event) is event
    assert texts_of(event, as_read(event)) == [PLAIN, "before", "ещё раньше"]


@pytest.mark.parametrize("text", HIDDEN, ids=ascii)
def test_message_and_context_are_normalised_and_nothing_else_changes(text: str) -> None:
    turns = (make_turn("before"), make_turn(text))
    event = make_event(text=text, context=turns)
    read = as_read(event)
    assert (read.message.text, [turn.text for turn in read.context]) == (PLAIN, ["before", PLAIN])
    assert msgspec.structs.replace(
        read, message=msgspec.structs.replace(read.message, text=text), context=turns
    ) == event  # fmt: skip
    assert set(texts_of(event, read)) == {text, PLAIN, "before"}


async def test_events_that_are_read_alike_share_a_verdict_and_keep_their_own_content_mac() -> None:
    world = World()
    events = [make_event(event_id=f"e-{n}", text=text) for n, text in enumerate((PLAIN, *HIDDEN))]
    found = [decision_of((await world.run(record_of(event, offset=n)))[0]) for n, event in enumerate(events)]
    assert [[turn.text for turn in question.turns] for question in world.guard.questions] == [[PLAIN]]
    assert [decision.cache.hit for decision in found] == [False, True, True, True]
    own = FINGERPRINTS.of(events[0].tenant)
    assert [decision.content_mac for decision in found] == [own.text(text) for text in (PLAIN, *HIDDEN)]
    assert len({decision.content_mac for decision in found}) == 4


async def test_the_context_digest_is_of_what_the_guard_read() -> None:
    world = World()
    events = [make_event(context=(make_turn(text),)) for text in (PLAIN, *HIDDEN)]
    found = [decision_of((await world.run(record_of(event, offset=n)))[0]) for n, event in enumerate(events)]
    assert len({decision.coverage.context_digest for decision in found}) == 1
    assert len(world.guard.questions) == 1


@pytest.mark.parametrize(("text", "macs"), [(PLAIN, 1), ("обычный текст", 1), (HIDDEN[0], 2)], ids=ascii)
async def test_a_second_mac_is_made_only_where_a_text_changed(
    text: str, macs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    text_mac = Fingerprints.text

    def count(self: Fingerprints, one: str) -> str:
        made.append(one)
        return text_mac(self, one)

    monkeypatch.setattr(Fingerprints, "text", count)
    await World().run(record_of(make_event(text=text)))
    assert len(made) == macs


@pytest.mark.parametrize("quoted", ["the c\u200basi\u2060no is here", "the casino is here"], ids=ascii)
@pytest.mark.parametrize("rationale", ["masked", "full"])
async def test_a_rationale_is_masked_whichever_of_the_two_texts_it_quotes(
    quoted: str, rationale: str
) -> None:
    """As the model reads it, and as it came; also when it was kept in full under an earlier setting."""
    event = make_event(text="go to the \u202eereh si onisac eht\u202c now")
    assert normalise(event.message.text) == "go to the the casino is here now"
    shown = await _shown(event, quoted, rationale)
    assert ("casino" in shown) == (rationale == "full" and "casino" in quoted)
    backwards = await _shown(event, "ereh si onisac eht", rationale)
    assert ("onisac" in backwards) == (rationale == "full")


async def _shown(event: Event, rationale: str, form: str) -> str:
    world = World(rationale=form)
    world.guard.answer = lambda _: make_verdict(rationale=rationale)
    await world.run(record_of(event))
    (again,) = await world.run(record_of(event, offset=8))
    if form == "full":  # what was kept in full is masked for one who asks for that now
        masked = World()
        masked.cache.kept = world.cache.kept
        (later,) = await masked.run(record_of(event, offset=9))
        assert "casino" not in (decision_of(later).rationale or "")
        assert "onisac" not in (decision_of(later).rationale or "")
    return decision_of(again).rationale or ""
