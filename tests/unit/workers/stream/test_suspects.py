from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.stream.suspects import DEATHS_TO_CONVICT, Mark, Place, Suspects, read_note, write_note

OFFSETS = st.integers(0, 2**63 - 1)
MARKS = st.dictionaries(OFFSETS, st.builds(Mark, st.integers(0, 9), st.booleans()), max_size=40)


def test_the_note_of_the_docstring() -> None:
    marks = {1043: Mark(1, True), 1045: Mark(), 1052: Mark(1)}
    assert write_note(marks) == "1;1043.1!,+2,+7.1"
    assert read_note("1;1043.1!,+2,+7.1") == marks


@given(MARKS)
def test_a_note_is_read_as_it_was_written(marks: dict[int, Mark]) -> None:
    note = write_note(marks)
    assert read_note(note) == marks
    assert len(note.encode()) <= 3_000
    assert bool(note) == bool(marks)


@settings(max_examples=20)
@given(st.integers(), OFFSETS)
def test_a_long_note_is_cut_and_keeps_what_counts_most(seed: int, alone: int) -> None:
    random_ = random.Random(seed)
    marks = {random_.randrange(2**63): Mark(random_.randrange(10)) for _ in range(2_000)}
    marks[alone] = Mark(0, True)
    note = write_note(marks)
    assert len(note.encode()) <= 3_000
    kept = read_note(note)
    assert kept.items() <= marks.items()
    assert kept[alone].alone
    fewest = min(mark.deaths for mark in kept.values() if not mark.alone)
    assert all(marks[offset].deaths <= fewest for offset in marks.keys() - kept.keys())


@given(st.one_of(st.text(), st.from_regex(r"1;[0-9+.,!x]*"), st.text("0123456789+.,!;", max_size=60)))
def test_no_note_is_too_strange(note: str) -> None:
    for text in (note, f"1;{note}"):
        marks = read_note(text)
        assert read_note(write_note(marks)) == marks
        suspects = Suspects()
        suspects.recall(0, text)
        assert (suspects.note(0) == text) == (0 not in suspects.stale())


@pytest.mark.parametrize(
    "note",
    ["2;5", "1;", "1;x", "1;5,6", "1;+5", "1;5,+0", "1;5.12", "1;-5", "1;٥", f"1;{2**63}", "1;" + "9" * 20],
)
def test_a_note_of_another_version_says_nothing(note: str) -> None:
    assert read_note(note) == {}


def commit(suspects: Suspects) -> dict[int, str]:
    """What the loop does when a note is stale."""
    notes = {partition: suspects.note(partition) for partition in list(suspects.stale())}
    for partition, note in notes.items():
        suspects.written(partition, note)
    return notes


def assigned(*notes: str) -> Suspects:
    suspects = Suspects()
    for partition, note in enumerate(notes or ("",)):
        suspects.recall(partition, note)
    return suspects


async def test_a_turn_begins_when_its_marker_is_written() -> None:
    suspects = assigned("", "")
    suspects.accuse("k", Place(0, 5))
    suspects.accuse("k", Place(1, 9))
    assert commit(suspects) == {0: "1;5", 1: "1;9"}
    begun = asyncio.Event()
    may_end = asyncio.Event()

    async def turn() -> None:
        async with suspects.alone("k"):
            begun.set()
            await may_end.wait()

    task = asyncio.create_task(turn())
    await asyncio.sleep(0)
    assert sorted(suspects.stale()) == [0, 1]
    suspects.written(0, "1;5!")
    suspects.written(1, "1;9")  # an older commit, answered late
    await asyncio.sleep(0)
    assert not begun.is_set()
    suspects.written(1, "1;9!")
    await begun.wait()
    may_end.set()
    await task
    assert commit(suspects) == {0: "1;5", 1: "1;9"}
    suspects.acquit("k", Place(0, 5))
    suspects.acquit("k", Place(1, 9))
    assert commit(suspects) == {0: "", 1: ""}
    assert not suspects.suspected("k")


async def test_a_partition_that_goes_is_not_waited_for() -> None:
    suspects = assigned("")
    suspects.accuse("k", Place(0, 5))

    async def turn() -> None:
        async with suspects.alone("k"):
            pass

    task = asyncio.create_task(turn())
    await asyncio.sleep(0)
    assert not task.done()
    suspects.forget(0)
    await asyncio.wait_for(task, 1)
    assert not suspects.stale()


async def die_alone(suspects: Suspects, key: str) -> None:
    async def written() -> None:
        while not commit(suspects):  # noqa: ASYNC110 - a state of the product
            await asyncio.sleep(0)

    loop = asyncio.create_task(written())
    async with suspects.alone(key):
        suspects.died(key)
    loop.cancel()


async def test_two_deaths_alone_convict_and_whoever_asks_the_same_again() -> None:
    suspects = assigned()
    suspects.accuse("k", Place(0, 5))
    assert not suspects.convicted("k")
    await die_alone(suspects, "k")
    assert (suspects.convicted("k"), suspects.note(0)) == (False, "1;5.1")
    await die_alone(suspects, "k")
    assert (suspects.convicted("k"), suspects.note(0)) == (True, "1;5.2")
    suspects.acquit("k", Place(0, 5))
    assert (suspects.convicted("k"), suspects.suspected("k"), suspects.note(0)) == (True, False, "")
    assert not suspects.convicted("another")


async def test_who_joins_a_suspect_shares_what_is_known_of_it() -> None:
    suspects = assigned()
    suspects.accuse("k", Place(0, 5))
    await die_alone(suspects, "k")
    suspects.accuse("k", Place(0, 8))
    assert suspects.note(0) == "1;5.1,+3.1"


async def test_a_suspect_that_is_read_during_a_turn_leaves_the_marker() -> None:
    suspects = assigned("1;5,+3")
    suspects.recognise("k", Place(0, 5))
    loop = asyncio.create_task(_commit_always(suspects))
    async with suspects.alone("k"):
        suspects.recognise("k", Place(0, 8))
        assert suspects.note(0) == "1;5!,+3!"
    loop.cancel()


async def _commit_always(suspects: Suspects) -> None:
    while True:
        commit(suspects)
        await asyncio.sleep(0)


def test_the_death_of_the_worker_counts_for_what_was_alone() -> None:
    suspects = assigned("1;5.1!,+3,+1.1")
    assert list(suspects.stale()) == [0]
    assert suspects.note(0) == "1;5.2,+3,+1.1"
    for key, offset in (("a", 5), ("b", 8), ("c", 9), ("d", 10)):
        suspects.recognise(key, Place(0, offset))
    assert [suspects.suspected(key) for key in "abcd"] == [True, True, True, False]
    assert [suspects.convicted(key) for key in "abcd"] == [True, False, False, False]


async def test_who_is_told_to_stop_is_a_suspect_still_and_not_alone() -> None:
    suspects = assigned()
    suspects.accuse("k", Place(0, 5))
    await die_alone(suspects, "k")

    async def turn() -> None:
        async with suspects.alone("k"):
            raise AssertionError("the marker was never written")

    task = asyncio.create_task(turn())
    await asyncio.sleep(0)
    assert suspects.note(0) == "1;5.1!"
    suspects.leave("k", Place(0, 5))
    assert suspects.note(0) == "1;5.1"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (suspects.note(0), suspects.suspected("k")) == ("1;5.1", False)


@dataclass
class Town:
    """Workers one after another with one partition, and questions some of which end the guard."""

    random: random.Random
    poison: set[int]
    note: str = ""
    finished: dict[int, str] = field(default_factory=dict)
    alone_at_deaths: dict[int, int] = field(default_factory=dict)
    deaths: int = 0

    async def worker(self, offsets: list[int]) -> None:
        """Judge what is left, until done or killed."""
        suspects = Suspects()
        suspects.recall(0, self.note)
        left = [offset for offset in offsets if offset not in self.finished]
        for offset in left:
            suspects.recognise(str(offset), Place(0, offset))
        while left:
            if self.random.random() < 0.1:
                return  # the worker is killed between two questions
            first = next((offset for offset in left if suspects.suspected(str(offset))), None)
            if first is None:
                together = left[: self.random.randint(1, 4)]
                if self.poison & set(together):
                    self.deaths += 1
                    if self.random.random() < 0.3:
                        return  # and takes the worker with it
                    for offset in together:
                        suspects.accuse(str(offset), Place(0, offset))
                    self._commit(suspects)
                    continue
                self._finish(suspects, left, together, "judged")
            elif suspects.convicted(str(first)):
                self._finish(suspects, left, [first], "poisoned")
            elif not await self._alone(suspects, first):
                return
            elif first not in self.poison:
                self._finish(suspects, left, [first], "judged")

    async def _alone(self, suspects: Suspects, offset: int) -> bool:
        """Whether the worker lives on."""
        loop = asyncio.create_task(self._commit_always(suspects))
        try:
            async with suspects.alone(str(offset)):
                assert read_note(self.note)[offset].alone
                if self.random.random() < 0.1:  # killed by something else
                    self.alone_at_deaths[offset] = self.alone_at_deaths.get(offset, 0) + 1
                    return False
                if offset in self.poison:
                    self.deaths += 1
                    self.alone_at_deaths[offset] = self.alone_at_deaths.get(offset, 0) + 1
                    if self.random.random() < 0.3:
                        return False
                    suspects.died(str(offset))
        finally:
            loop.cancel()
        return True

    async def _commit_always(self, suspects: Suspects) -> None:
        while True:
            self._commit(suspects)
            await asyncio.sleep(0)

    def _commit(self, suspects: Suspects) -> None:
        self.note = commit(suspects).get(0, self.note)

    def _finish(self, suspects: Suspects, left: list[int], offsets: list[int], how: str) -> None:
        for offset in offsets:
            self.finished[offset] = how
            suspects.acquit(str(offset), Place(0, offset))
            left.remove(offset)
        if self.random.random() < 0.7:
            self._commit(suspects)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 12), st.sets(st.integers(0, 11), max_size=3))
async def test_only_what_was_alone_at_two_deaths_is_given_up_and_everything_ends(
    seed: int, count: int, poison: set[int]
) -> None:
    town = Town(random.Random(seed), poison & set(range(count)))
    for _ in range(400):
        await town.worker(list(range(count)))
        if len(town.finished) == count:
            break
    assert town.finished.keys() == set(range(count))
    assert {offset for offset in town.poison if town.finished[offset] == "judged"} == set()
    for offset, how in town.finished.items():
        if how == "poisoned":
            assert town.alone_at_deaths.get(offset, 0) >= DEATHS_TO_CONVICT
