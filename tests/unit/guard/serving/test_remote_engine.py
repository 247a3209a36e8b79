from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from guard.errors import EngineDead, EngineFailed, EngineTimeout
from guard.serving.engine import Completion, EngineParameters
from guard.serving.remote_engine import RemoteEngine
from tests.unit.guard.serving.token_server import (
    STOP,
    TokenServer,
    broken,
    engine_over,
    never,
    servers,
    status,
)
from tests.waiting import until

PATIENCE_S = 30.0
PARAMETERS = EngineParameters(max_tokens=4, logprob_token_ids=(5, 300), stop_token_ids=(STOP,))


@asynccontextmanager
async def started(folder: Path, *found: TokenServer, **options: Any) -> AsyncIterator[RemoteEngine]:
    engine = engine_over(folder, *(one.url for one in found), **options)
    await engine.start()
    try:
        yield engine
        view = engine.fleet()
        assert [(one.calls, one.tokens) for one in view.endpoints] == [(0, 0)] * len(view.endpoints)
        assert engine.calls_in_flight == 0
    finally:
        await engine.close()


async def ask(
    engine: RemoteEngine, prompt: tuple[int, ...] = (1, 2, 30), patience_s: float = PATIENCE_S
) -> Completion:
    return await engine.generate(prompt, PARAMETERS, time.monotonic() + patience_s)


def total(found: list[TokenServer]) -> int:
    return sum(len(one.calls) for one in found)


async def test_a_call_is_answered_by_a_server_under_its_models_name(remote_folder: Path) -> None:
    async with servers(1) as found, started(remote_folder, *found) as engine:
        completion = await ask(engine)
        assert completion.token_ids == (33, 34, 35, 36)
        assert completion.finish_reason == "length"
        assert all(values is not None for values in completion.verdict_logprobs)
        assert found[0].calls[0]["model"] == found[0].model
        assert (engine.name, engine.version, engine.alive) == ("vllm-remote", "0.32.0", True)


async def test_as_many_ids_as_the_protocol_allows_are_asked_for_in_parts(remote_folder: Path) -> None:
    async with servers(1) as found, started(remote_folder, *found) as engine:
        wanted = tuple(range(200, 328))
        parameters = EngineParameters(max_tokens=2, logprob_token_ids=wanted)
        completion = await engine.generate((1, 2), parameters, time.monotonic() + PATIENCE_S)
        assert [len(values or ()) for values in completion.verdict_logprobs] == [128, 128]


async def test_calls_go_to_the_server_with_the_fewest_outstanding_tokens(remote_folder: Path) -> None:
    async with servers(2) as found, started(remote_folder, *found) as engine:
        for one in found:
            one.answer = never
        long = asyncio.ensure_future(ask(engine, (1,) * 200))
        await until(lambda: sum(one.running for one in found) == 1)
        (busy,) = [one for one in found if one.running]
        short = [asyncio.ensure_future(ask(engine, (1, 2))) for _ in range(5)]
        await until(lambda: sum(one.running for one in found) == 6)
        assert busy.running == 1
        tokens = sum(one.tokens for one in engine.fleet().endpoints)
        assert tokens == 204 + 5 * 6
        for task in (long, *short):
            task.cancel()
        await asyncio.gather(long, *short, return_exceptions=True)
        await until(lambda: sum(one.aborted for one in found) == 6)


@pytest.mark.parametrize("answer", [broken, status(500), status(502)])
async def test_a_failure_is_tried_at_another_server(remote_folder: Path, answer: Any) -> None:
    async with servers(2) as found, started(remote_folder, *found) as engine:
        found[0].answer = answer
        for number in range(4):
            assert (await ask(engine, (1, 2, number))).token_ids
        assert engine.alive
        assert engine.fleet().retries >= 1


async def test_answers_that_are_none_are_tried_elsewhere_and_cost_the_server_its_calls(
    remote_folder: Path,
) -> None:
    async def garbage(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(text="<html>secret prompt</html>")

    async with servers(2) as found, started(remote_folder, *found, back_off_s=30.0) as engine:
        found[0].answer = garbage
        await asyncio.gather(*(ask(engine, (1, number)) for number in range(20)))
        assert engine.fleet().ejections == {"failing": 1}
        (ejected,) = [one for one in engine.fleet().endpoints if one.state == "ejected"]
        assert ejected.name == found[0].url
        assert "secret" not in ejected.why


async def test_a_call_that_all_servers_fail_fails_alone_after_a_few_tries(remote_folder: Path) -> None:
    async with servers(2) as found, started(remote_folder, *found, failures=50) as engine:
        for one in found:
            one.answer = status(500)
        with pytest.raises(
            EngineFailed, match="3 tries at vLLM servers failed; the last: HTTP 500"
        ) as caught:
            await ask(engine)
        assert "secret" not in str(caught.value)
        assert total(found) == 3
        assert engine.alive


@pytest.mark.parametrize("code", [400, 413, 422])
async def test_a_call_that_a_server_refuses_is_not_tried_again(remote_folder: Path, code: int) -> None:
    async with servers(2) as found, started(remote_folder, *found) as engine:
        for one in found:
            one.answer = status(code)
        with pytest.raises(EngineFailed, match=rf"^a vLLM server refused the call \(HTTP {code}\)$"):
            await ask(engine)
        assert total(found) == 1
        assert engine.alive


@pytest.mark.parametrize("code", [401, 403, 404, 307])
async def test_a_server_of_another_key_or_model_gets_no_more_calls(remote_folder: Path, code: int) -> None:
    async with servers(2) as found, started(remote_folder, *found, back_off_s=30.0) as engine:
        found[0].answer = status(code, Location="http://127.0.0.1:1/elsewhere")
        await asyncio.gather(*(ask(engine, (1, number)) for number in range(6)))
        assert engine.fleet().ejections == {"refused": 1}


@pytest.mark.parametrize("code", [429, 503])
async def test_an_overloaded_server_is_left_alone_and_others_are_asked(
    remote_folder: Path, code: int
) -> None:
    async with servers(2) as found, started(remote_folder, *found) as engine:
        found[0].answer = status(code, **{"Retry-After": "3600"})
        for number in range(6):
            await ask(engine, (1, number))
        assert len(found[0].calls) <= 1
        assert engine.fleet().states()["serving"] == 2


async def test_when_all_are_overloaded_a_call_waits_and_is_answered(remote_folder: Path) -> None:
    async with servers(1) as found, started(remote_folder, *found) as engine:
        found[0].answer = status(503)
        call = asyncio.ensure_future(ask(engine))
        await until(lambda: len(found[0].calls) == 1)
        found[0].answer = found[0].tokens
        assert (await call).token_ids
        found[0].answer = status(429)
        with pytest.raises(EngineTimeout):
            await ask(engine, patience_s=0.3)


async def test_at_the_deadline_the_request_is_closed_and_the_server_aborts_it(remote_folder: Path) -> None:
    async with servers(1) as found, started(remote_folder, *found) as engine:
        found[0].answer = never
        with pytest.raises(EngineTimeout):
            await ask(engine, patience_s=0.1)
        await until(lambda: found[0].aborted == 1)
        with pytest.raises(EngineTimeout, match="passed before the call"):
            await ask(engine, patience_s=-1)


async def test_a_cancelled_call_is_closed_and_the_server_aborts_it(remote_folder: Path) -> None:
    async with servers(1) as found, started(remote_folder, *found) as engine:
        found[0].answer = never
        calls = [asyncio.ensure_future(ask(engine)) for _ in range(20)]
        await until(lambda: found[0].running == 20)
        assert engine.calls_in_flight == 20
        for call in calls:
            call.cancel()
        assert all(
            isinstance(one, asyncio.CancelledError)
            for one in await asyncio.gather(*calls, return_exceptions=True)
        )
        await until(lambda: found[0].aborted == 20)


async def test_a_killed_server_loses_no_call_while_another_is_there(remote_folder: Path) -> None:
    async with servers(2) as found, started(remote_folder, *found, back_off_s=30.0) as engine:
        found[0].answer = never
        calls = [asyncio.ensure_future(ask(engine, (1, number))) for number in range(20)]
        await until(lambda: found[0].running >= 10)
        await found[0].stop()
        assert all(completion.token_ids for completion in await asyncio.gather(*calls))
        assert engine.fleet().ejections == {"unreachable": 1}
        assert engine.fleet().states() == {"waiting": 0, "serving": 1, "ejected": 1}


async def test_the_loss_of_the_last_server_is_a_death_and_a_start_brings_it_back(remote_folder: Path) -> None:
    async with servers(1) as found, started(remote_folder, *found) as engine:
        found[0].answer = never
        gone = asyncio.ensure_future(engine.gone())
        calls = [asyncio.ensure_future(ask(engine)) for _ in range(5)]
        await until(lambda: found[0].running == 5)
        await found[0].stop()
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, EngineDead)
        await gone
        assert not engine.alive
        with pytest.raises(EngineDead):
            await ask(engine)
        found[0].answer = found[0].tokens
        await found[0].start()
        await engine.start()
        assert (await ask(engine)).token_ids


async def test_a_server_that_is_back_gets_calls_again(remote_folder: Path) -> None:
    told: list[tuple[str, str]] = []
    async with servers(2) as found, started(remote_folder, *found) as engine:
        engine.tell(lambda name, state, why: told.append((name, state)))
        await found[0].stop()
        await until(lambda: engine.fleet().states()["ejected"] == 1)
        await found[0].start()
        await until(lambda: engine.fleet().states()["serving"] == 2)
        assert told == [(found[0].url, "ejected"), (found[0].url, "serving")]


async def test_a_server_that_is_silent_is_ejected_and_its_calls_go_elsewhere(remote_folder: Path) -> None:
    async with servers(2) as found, started(remote_folder, *found, back_off_s=30.0) as engine:
        found[0].answer = never
        calls = [asyncio.ensure_future(ask(engine, (1, number))) for number in range(6)]
        await until(lambda: found[0].running >= 1)
        found[0].stalls_health = True
        assert all(completion.token_ids for completion in await asyncio.gather(*calls))
        assert engine.fleet().ejections == {"silent": 1}


async def test_out_of_time_at_a_server_that_hangs_is_a_death_and_no_timeout(remote_folder: Path) -> None:
    async with servers(1) as found, started(remote_folder, *found) as engine:
        found[0].answer, found[0].stalls_health = never, True
        with pytest.raises(EngineDead):
            await ask(engine, patience_s=0.02)
        assert not engine.alive


async def test_a_core_that_counts_no_tokens_while_it_has_calls_hangs(remote_folder: Path) -> None:
    async with (
        servers(2) as found,
        started(remote_folder, *found, hang_timeout_s=0.4, back_off_s=30.0) as engine,
    ):
        for one in found:
            one.metrics = 'vllm:generation_tokens_total{engine="0"} 12.0\n'
        found[0].answer = never
        calls = [asyncio.ensure_future(ask(engine, (1, number))) for number in range(4)]
        await asyncio.gather(*calls)
        assert engine.fleet().ejections == {"silent": 1}


async def test_a_server_that_does_not_count_is_not_taken_for_hung(remote_folder: Path) -> None:
    async with servers(1) as found, started(remote_folder, *found, hang_timeout_s=0.1) as engine:
        found[0].metrics, found[0].answer = None, never
        with pytest.raises(EngineTimeout):
            await ask(engine, patience_s=0.5)
        assert engine.alive


async def test_close_ends_calls_and_may_be_called_twice(remote_folder: Path) -> None:
    async with servers(1) as found, started(remote_folder, *found) as engine:
        found[0].answer = never
        call = asyncio.ensure_future(ask(engine))
        await until(lambda: found[0].running == 1)
        await engine.close()
        with pytest.raises(EngineDead):
            await call
        await engine.close()
        assert not engine.alive


async def test_prompts_that_would_end_a_server_are_not_sent(remote_folder: Path) -> None:
    async with servers(1) as found, started(remote_folder, *found) as engine:
        for prompt in ((), (-1,), (400,)):
            with pytest.raises(EngineFailed, match="expected 1 or more token ids from 0 to 399"):
                await ask(engine, prompt)
        with pytest.raises(EngineFailed, match="256 prompt tokens; expected fewer than 256"):
            await ask(engine, (1,) * 256)
        assert not found[0].calls


async def test_a_server_of_which_all_connections_are_taken_is_well_all_the_same(remote_folder: Path) -> None:
    async with servers(1) as found, started(remote_folder, *found, max_connections=1) as engine:
        found[0].answer = never
        holder = asyncio.ensure_future(ask(engine))
        await until(lambda: len(found[0].calls) == 1)
        calls = [asyncio.ensure_future(ask(engine, patience_s=0.6)) for _ in range(2)]
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, EngineTimeout)
        assert len(found[0].calls) == 1
        assert engine.fleet().ejections == {}
        holder.cancel()
        await asyncio.gather(holder, return_exceptions=True)


async def test_an_endless_answer_is_not_read(remote_folder: Path) -> None:
    async def endless(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 65_536)

    async with servers(1) as found, started(remote_folder, *found, failures=50) as engine:
        found[0].answer = endless
        with pytest.raises(EngineFailed, match="the answer is longer than"):
            await ask(engine)
