from __future__ import annotations

import asyncio
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from guard.errors import CheckpointError, EngineAbsent, EngineNotReady
from guard.serving import remote_names
from guard.serving.engine import EngineParameters
from guard.serving.remote_endpoint import Unreachable, addresses
from guard.serving.remote_engine import RemoteEngine
from tests.certificates import Authority
from tests.unit.guard.serving.token_server import TokenServer, engine_over, servers
from tests.waiting import until

PARAMETERS = EngineParameters(max_tokens=2, logprob_token_ids=(5, 300))


async def ask(engine: RemoteEngine) -> None:
    assert (await engine.generate((1, 2), PARAMETERS, time.monotonic() + 30)).token_ids


async def refusal(engine: RemoteEngine) -> str:
    try:
        with pytest.raises(EngineNotReady) as caught:
            await engine.start()
        assert not engine.alive
        return str(caught.value)
    finally:
        await engine.close()


async def test_another_model_is_refused_by_the_name_that_it_has(remote_folder: Path) -> None:
    async with servers(2) as found:
        found[1].model = "somebody-elses"
        said = await refusal(engine_over(remote_folder, *(one.url for one in found)))
        assert "serves 'somebody-elses'; expected 'digest-of-weights'" in said
        assert "RSAFE_GUARD__ENDPOINT_MODEL" in said
        assert found[0].url not in said


async def test_a_model_that_somebody_vouches_for_is_named_so_in_decisions(remote_folder: Path) -> None:
    async with servers(1) as found:
        found[0].model = "ours"
        engine = engine_over(remote_folder, found[0].url, model="ours")
        assert engine.name == "vllm-remote-unverified"
        await engine.start()
        await ask(engine)
        await engine.close()


@pytest.mark.parametrize("key", ["", "wrong"])
async def test_a_server_that_refuses_the_key_is_named_and_the_key_is_not(
    remote_folder: Path, key: str
) -> None:
    async with servers(1) as found:
        found[0].key = "right"
        said = await refusal(engine_over(remote_folder, found[0].url, api_key=key))
        assert said.startswith(f"a vLLM server cannot be used: {found[0].url}: it refuses our key (HTTP 401)")
        assert "RSAFE_GUARD__ENDPOINT_API_KEY" in said
        assert "wrong" not in said


async def test_the_key_goes_along_with_every_request(remote_folder: Path) -> None:
    async with servers(1) as found:
        found[0].key = "right"
        engine = engine_over(remote_folder, found[0].url, api_key="right")
        await engine.start()
        await ask(engine)
        await engine.close()


async def test_a_server_that_reads_less_is_refused(remote_folder: Path) -> None:
    async with servers(1) as found:
        found[0].length = 255
        said = await refusal(engine_over(remote_folder, found[0].url))
        assert "it reads 255 tokens; expected 256 or more" in said


async def test_mixed_versions_are_refused(remote_folder: Path) -> None:
    async with servers(2) as found:
        found[1].version = "0.33.0"
        said = await refusal(engine_over(remote_folder, *(one.url for one in found)))
        assert "0.33.0" in said
        assert "0.32.0" in said


async def test_a_server_with_other_weights_under_the_same_name_is_refused(remote_folder: Path) -> None:
    async with servers(2) as found:
        found[1].weights = 1.2
        said = await refusal(engine_over(remote_folder, *(one.url for one in found)))
        assert "other weights?" in said


async def test_a_server_of_something_else_is_refused(remote_folder: Path) -> None:
    async with servers(1) as found:
        found[0].version = 12  # type: ignore[assignment]
        assert "otherwise than a vLLM server" in await refusal(engine_over(remote_folder, found[0].url))


@pytest.mark.parametrize(
    ("code", "hint"), [(403, "--enable-scale-out"), (404, "--enable-scale-out"), (400, "--max-logprobs 128")]
)
async def test_a_server_that_was_started_otherwise_is_told_how(
    remote_folder: Path, monkeypatch: pytest.MonkeyPatch, code: int, hint: str
) -> None:
    from tests.unit.guard.serving.token_server import status

    async with servers(1) as found:
        monkeypatch.setattr(found[0], "tokens", status(code))
        assert hint in await refusal(engine_over(remote_folder, found[0].url))


async def test_the_first_start_waits_for_a_server_and_says_for_which(
    remote_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = TokenServer()
    await server.start()
    await server.stop()
    engine = engine_over(remote_folder, server.url)
    starting = asyncio.ensure_future(engine.start())
    await asyncio.sleep(0.2)
    assert not starting.done()
    await server.start()
    await starting
    assert engine.alive
    await engine.close()
    await server.stop()
    # A later start looks once; its caller tries again.
    with pytest.raises(EngineNotReady, match=rf"no vLLM server can be used: {server.url}: no connection"):
        await engine.start()


async def test_one_server_is_enough_to_start_and_the_others_follow(remote_folder: Path) -> None:
    late = TokenServer()
    await late.start()
    await late.stop()
    async with servers(1) as found:
        engine = engine_over(remote_folder, found[0].url, late.url)
        await engine.start()
        assert engine.fleet().states() == {"waiting": 1, "serving": 1, "ejected": 0}
        await late.start()
        await until(lambda: engine.fleet().states()["serving"] == 2)
        await engine.close()
        await late.stop()


async def test_a_server_that_comes_back_as_another_gets_no_calls(remote_folder: Path) -> None:
    async with servers(2) as found:
        engine = engine_over(remote_folder, *(one.url for one in found))
        await engine.start()
        await found[0].stop()
        await until(lambda: engine.fleet().states()["ejected"] == 1)
        found[0].version = "0.33.0"
        await found[0].start()
        await until(lambda: any("0.33.0" in one.why for one in engine.fleet().endpoints))
        assert engine.fleet().states()["serving"] == 1
        await engine.close()


async def test_when_all_are_of_another_version_the_worker_has_to_start_anew(remote_folder: Path) -> None:
    async with servers(1) as found:
        engine = engine_over(remote_folder, found[0].url)
        await engine.start()
        await found[0].stop()
        await engine.gone()
        found[0].version = "0.33.0"
        await found[0].start()
        with pytest.raises(EngineAbsent, match="another version"):
            await engine.start()
        await engine.close()


async def test_a_dead_core_behind_a_living_port_is_ejected(remote_folder: Path) -> None:
    async with servers(2) as found:
        engine = engine_over(remote_folder, *(one.url for one in found), back_off_s=30.0)
        await engine.start()
        found[0].health = 503
        await until(lambda: engine.fleet().ejections == {"failing": 1})
        await engine.close()


async def test_a_name_of_many_addresses_is_as_many_servers(
    remote_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = TokenServer(), TokenServer()
    await first.start()
    second._port = first._port
    await second.start(host="127.0.0.2")
    known = ["127.0.0.1", "127.0.0.2"]

    async def found(host: str, port: int) -> list[str]:
        assert (host, port) == ("guard.example", first._port)
        if not known:
            raise Unreachable("its name cannot be resolved")
        return list(known)

    monkeypatch.setattr(remote_names, "addresses", found)
    url = f"http://guard.example:{first._port}"
    engine = engine_over(remote_folder, url, addresses="all")
    await engine.start()
    assert [one.name for one in engine.fleet().endpoints] == [f"{url} [127.0.0.1]", f"{url} [127.0.0.2]"]
    for _ in range(4):
        await asyncio.gather(*(ask(engine) for _ in range(4)))
    assert first.calls
    assert second.calls
    assert first.peers == {f"guard.example:{first._port}"}
    known.remove("127.0.0.1")
    await until(lambda: len(engine.fleet().endpoints) == 1)
    await ask(engine)
    known.clear()  # a name server that is away takes no server away
    await asyncio.sleep(0.2)
    assert engine.alive
    await engine.close()
    await first.stop()
    await second.stop()


async def test_names_are_resolved_to_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async def entries(*args: Any, **kwargs: Any) -> list[Any]:
        return [(socket.AF_INET, 1, 6, "", (one, 80)) for one in ("10.0.0.2", "10.0.0.1", "10.0.0.2")]

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "getaddrinfo", entries)
    assert await addresses("guard.example", 80) == ["10.0.0.1", "10.0.0.2"]


async def test_a_name_that_is_none_is_told(remote_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*args: Any, **kwargs: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nothing)
    engine = engine_over(remote_folder, "http://guard.example:8000", addresses="all")
    engine._start_timeout_s = 0.1
    said = await refusal(engine)
    assert "guard.example:8000: its name cannot be resolved" in said


async def test_tls_with_the_right_authority_serves_and_with_another_is_told(
    remote_folder: Path, tmp_path: Path
) -> None:
    ours, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    pair = ours.issue("server", "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    server = TokenServer()
    await server.start(tls=context)
    trusted = ssl.create_default_context(cafile=str(ours.file))
    engine = engine_over(remote_folder, server.url, tls=trusted)
    await engine.start()
    await ask(engine)
    await engine.close()
    wrong = engine_over(remote_folder, server.url, tls=ssl.create_default_context(cafile=str(other.file)))
    wrong._start_timeout_s = 0.1
    assert "its certificate is not trusted" in await refusal(wrong)
    await server.stop()


def test_a_folder_without_a_vocabulary_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="vocab_size"):
        engine_over(tmp_path, "http://a:1")
