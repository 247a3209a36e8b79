"""One look at every server, for an operator."""

from __future__ import annotations

from pathlib import Path

from tests.unit.guard.serving.token_server import engine_over, servers

PATIENCE_S = 10.0


async def test_servers_are_looked_at_without_being_started(remote_folder: Path) -> None:
    async with servers(2) as found:
        engine = engine_over(remote_folder, *(one.url for one in found))
        looked = await engine.look(PATIENCE_S)
        assert [(one.server, one.version, one.why) for one in looked] == [
            (one.url, "0.32.0", "") for one in found
        ]
        assert not engine.alive


async def test_another_model_a_refused_key_and_an_empty_port_are_told_apart(remote_folder: Path) -> None:
    async with servers(2) as (other, locked):
        other.model, locked.key = "another", "secret"
        looked = await engine_over(remote_folder, other.url, locked.url, "http://127.0.0.1:1").look(
            PATIENCE_S
        )
    assert [one.answers for one in looked] == [True, True, False]
    assert "it serves 'another'" in looked[0].why
    assert "refuses our key" in looked[1].why
    assert "no connection" in looked[2].why


async def test_servers_with_other_weights_than_the_first_are_told(remote_folder: Path) -> None:
    async with servers(2) as (first, second):
        second.weights = 3.0
        looked = await engine_over(remote_folder, first.url, second.url).look(PATIENCE_S)
    assert looked[0].why == ""
    assert "other weights" in looked[1].why


async def test_every_address_of_a_name_is_looked_at(remote_folder: Path) -> None:
    async with servers(1) as (server,):
        port = server.url.rpartition(":")[2]
        looked = await engine_over(remote_folder, f"http://localhost:{port}", addresses="all").look(
            PATIENCE_S
        )
    assert any(one.version == "0.32.0" for one in looked)
    assert all(one.server.startswith(f"http://localhost:{port} [") for one in looked)


async def test_a_name_that_is_none_is_told(remote_folder: Path) -> None:
    engine = engine_over(remote_folder, "http://no-such-name.invalid:8000", addresses="all")
    (one,) = await engine.look(PATIENCE_S)
    assert "cannot be resolved" in one.why
