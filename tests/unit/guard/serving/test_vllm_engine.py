from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from guard.errors import EngineDead, EngineKilled, EngineNotReady, EngineTimeout
from guard.serving import vllm_engine
from guard.serving.vllm_engine import VllmEngine
from guard.serving.vllm_start import VllmOptions


class Running:
    """Stands for a running vLLM whose first call ends in an error."""

    def __init__(self, error: Exception) -> None:
        self.error, self.ended = error, list[str]()

    async def call(self, *_: Any) -> Any:
        raise self.error

    def kill(self) -> None:
        self.ended.append("killed")

    async def let_go(self) -> None:
        self.ended.append("let go")


LLM = SimpleNamespace(model_config=SimpleNamespace(get_vocab_size=lambda: 10))


@pytest.mark.parametrize(
    ("error", "kind", "why"),
    [
        (EngineDead("gone"), EngineKilled, "ended"),
        (EngineTimeout("late"), EngineNotReady, "does not answer"),
    ],
)
async def test_what_loads_and_does_not_answer_is_not_ready_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception], why: str
) -> None:
    running = Running(error)

    async def start(folder: Path, options: VllmOptions) -> Any:
        return LLM

    monkeypatch.setattr(vllm_engine, "require_vllm", lambda: None)
    monkeypatch.setattr(vllm_engine, "start_vllm", start)
    monkeypatch.setattr(vllm_engine, "RunningVllm", lambda llm: running)
    engine = VllmEngine(Path("nowhere"), VllmOptions(max_model_len=64))
    with pytest.raises(kind, match=why):
        await engine.start()
    assert running.ended == ["killed", "let go"]
    assert not engine.alive
    await asyncio.wait_for(engine.gone(), 10)


async def test_an_engine_that_was_never_started_is_gone_and_free() -> None:
    engine = VllmEngine(Path("nowhere"), VllmOptions(max_model_len=64))
    await engine.gone()
    engine.die()
    engine.hang()
    assert (engine.alive, engine.calls_in_flight, engine.process_ids) == (False, 0, ())
    assert not await engine.busy()
    await engine.close()
