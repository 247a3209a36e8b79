from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.stream.window import Caps, Load, Window

WINDOW = Window(total=Caps(100, 10_000, 1000), partition=Caps(60, 6000, 600), batch=50)
LOADS = st.builds(Load, st.integers(0, 60), st.integers(0, 6000), st.integers(0, 600))


@given(st.lists(LOADS, max_size=8), LOADS)
def test_no_cap_is_passed_whichever_partition_the_records_come_from(loads: list[Load], skipped: Load) -> None:
    room = WINDOW.room(loads, usual=Load(), skipped=skipped)
    assert 0 <= room <= 50
    if room:
        assert skipped.records + sum(load.records for load in loads) + room <= 100
        assert max((load.records for load in loads), default=0) + room <= 60


@given(st.lists(LOADS, min_size=1, max_size=8), st.integers(1, 500), st.integers(1, 100))
def test_records_of_the_usual_weight_do_not_pass_the_caps(loads: list[Load], size: int, tokens: int) -> None:
    room = WINDOW.room(loads, usual=Load(1, size, tokens))
    if room > 1:  # one is always let in, or a record larger than a cap would never be read
        assert sum(load.size for load in loads) + room * size <= 10_000
        assert max((load.size for load in loads), default=0) + room * size <= 6000
        assert sum(load.tokens for load in loads) + room * tokens <= 1000
        assert max((load.tokens for load in loads), default=0) + room * tokens <= 600


CAPS = st.builds(Caps, st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 5000))


@given(CAPS, CAPS, st.integers(1, 1000), st.integers(0, 6), st.builds(Load, st.just(1), st.integers(0, 9999)))
def test_an_empty_window_always_has_room(
    total: Caps, partition: Caps, batch: int, partitions: int, usual: Load
) -> None:
    assert Window(total, partition, batch).room([Load()] * partitions, usual) >= 1


@given(CAPS, st.integers(1, 1000), LOADS)
def test_what_is_worth_reading_again_is_not_full(caps: Caps, batch: int, load: Load) -> None:
    assert not (caps.low(load) and caps.full(load, batch))


@given(CAPS, st.integers(1, 1000), LOADS)
def test_a_window_that_is_full_of_finished_records_is_worth_a_commit(
    caps: Caps, batch: int, load: Load
) -> None:
    finished = Load(load.records, load.size)  # tokens are given back when the answer comes
    if caps.full(finished, batch):
        assert caps.frees(finished)


def test_a_few_free_places_are_not_worth_a_batch() -> None:
    assert WINDOW.room([Load(45), Load(45)], Load()) == 0
    assert WINDOW.room([Load(40), Load(20)], Load()) == 20


@pytest.mark.parametrize("full", [Load(records=50), Load(size=4500), Load(tokens=600)])
def test_each_of_records_bytes_and_tokens_fills_a_partition(full: Load) -> None:
    assert WINDOW.full(full)
    assert WINDOW.room([full, Load()], Load()) == 0
    assert not WINDOW.full(Load(40, 4000, 500))
