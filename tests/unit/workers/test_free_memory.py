"""Free memory is given back while a worker runs, and no longer."""

from __future__ import annotations

import asyncio
import ctypes
import threading

import pytest

from workers.free_memory import giving_back, trimmer


async def test_free_memory_is_given_back_again_and_again_beside_the_loop() -> None:
    calls: list[int] = []
    enough = asyncio.Event()
    loop = asyncio.get_running_loop()

    def trim() -> None:
        calls.append(threading.get_ident())
        if len(calls) == 3:
            loop.call_soon_threadsafe(enough.set)

    async with giving_back(trim, every_s=0.001):
        await asyncio.wait_for(enough.wait(), 30)
    ended = len(calls)
    await asyncio.sleep(0.01)
    assert len(calls) <= ended + 1  # one may have been under way
    assert threading.get_ident() not in calls


async def test_nothing_is_done_without_a_way_to_do_it() -> None:
    before = asyncio.all_tasks()
    async with giving_back(None, every_s=0.0):
        assert asyncio.all_tasks() == before


async def test_a_trim_that_fails_is_not_hushed_up() -> None:
    def trim() -> None:
        raise OSError("no memory to give")

    async def work() -> None:
        before = asyncio.all_tasks()
        async with giving_back(trim, every_s=0.0):
            await asyncio.wait(asyncio.all_tasks() - before)

    with pytest.raises(OSError, match="no memory to give"):
        await work()


def test_a_trim_with_the_c_library_here_gives_large_free_blocks_back() -> None:
    trim = trimmer()
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        assert trim is None
        return
    assert trim is not None
    assert trim() in (0, 1)
