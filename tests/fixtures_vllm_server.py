"""Real `vllm serve` processes by `rsafe serve-guard`. A start takes a minute, so tests share them."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from guard.checkpoint import Checkpoint
from guard.serving.engine import EngineParameters
from guard.serving.remote_engine import RemoteEngine
from guard.serving.remote_options import RemoteOptions
from tests.collector import Collector, http_collector
from tests.conftest import require

API_KEY: Final = "key-of-the-tests"
# From the start of the command to the first health, in seconds; most of it is imports.
START_S: Final = 700.0
# As docs/operations/traces-and-logs.md says; and spans are sent at once, not every five seconds.
_TRACES: Final = {
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
    "OTEL_TRACES_SAMPLER": "parentbased_always_off",
    "OTEL_BSP_SCHEDULE_DELAY": "50",
}
_RUNNING: Final = ("vllm:num_requests_running", "vllm:num_requests_waiting")


class VllmServer:
    """One server with a port of its own; started when it is first needed, and again after a kill."""

    def __init__(self, checkpoint: Checkpoint, log: Path, collector: Collector) -> None:
        """`collector`: takes its spans, of sampled traces alone."""
        self._checkpoint, self._log = checkpoint, log
        self.collector = collector
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The settings that name its checkpoint and its key; a worker needs the same."""
        return {
            "RSAFE_GUARD__CHECKPOINT": str(self._checkpoint.path),
            "RSAFE_GUARD__ENDPOINT_API_KEY": API_KEY,
            # Without a manifest, as random weights have it, the template is told.
            **({} if self._checkpoint.verified else {"RSAFE_GUARD__TEMPLATE": "rsafe-compact-1"}),
        }

    def begin(self) -> None:
        """Start it, or let it go on where it was stopped; it is not ready yet."""
        if self._process is not None and self._process.poll() is None:
            self._signal(signal.SIGCONT)
            return
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RSAFE_")}
        traces = ["--", "--otlp-traces-endpoint", f"{self.collector.address}/v1/traces"]
        with self._log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "workers", "serve-guard", "--port", str(self.port), *traces],
                env=clean | self.environment | _TRACES | {"OMP_NUM_THREADS": "1"},
                stdout=stream,
                stderr=stream,
                start_new_session=True,  # its core is killed and stopped with it
            )

    def ready(self) -> None:
        """Returns when it is well."""
        self.begin()
        until = time.monotonic() + START_S
        while not self._well():
            assert self._process is not None
            assert self._process.poll() is None, f"vllm serve ended: {self._log.read_text()[-2000:]}"
            assert time.monotonic() < until, "vllm serve did not come up"
            time.sleep(0.2)

    def kill(self) -> None:
        """kill -9, its core included."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        """It hangs from now on."""
        self._signal(signal.SIGSTOP)

    def metrics(self) -> str:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
            return str(answer.read().decode())

    def unfinished(self) -> float:
        """Requests that it runs or queues, as of its last step."""
        return sum_of(self.metrics(), *_RUNNING)

    def log(self) -> str:
        return self._log.read_text()

    def options(self) -> RemoteOptions:
        return RemoteOptions(endpoints=(self.url,), api_key=API_KEY)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def _well(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


class ServedEngine(RemoteEngine):
    """The engine over one server that tests can end: it is started again with the engine."""

    def __init__(self, server: VllmServer, checkpoint: Checkpoint, *, hang_timeout_s: float = 20.0) -> None:
        super().__init__(
            checkpoint.path,
            checkpoint.weights_digest,
            server.options(),
            max_model_len=checkpoint.max_model_len,
            hang_timeout_s=hang_timeout_s,
            start_timeout_s=START_S,
        )
        self._server = server

    async def start(self) -> None:
        await asyncio.to_thread(self._server.ready)
        await super().start()

    def die(self) -> None:
        """Its server is killed."""
        self._server.kill()

    def hang(self) -> None:
        """Its server is stopped."""
        self._server.stop()

    async def busy(self) -> bool:
        """Whether the server works on anything; it counts when it makes a step, so it is given one."""
        one = EngineParameters(max_tokens=1, logprob_token_ids=(0,))
        await self.generate((1, 2, 3), one, time.monotonic() + 60)
        return await asyncio.to_thread(self._server.unfinished) > 0


def sum_of(metrics: str, *names: str) -> float:
    """The sum of the samples of these names."""
    lines = [line for line in metrics.splitlines() if line.startswith(names)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


@pytest.fixture(scope="session")
def servers_collector() -> Iterator[Collector]:
    """Where the servers send their spans; a worker may send its own there."""
    with http_collector() as collector:
        yield collector


@pytest.fixture(scope="session")
def vllm_server(
    served_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory, servers_collector: Collector
) -> Iterator[VllmServer]:
    """A server that is well. Tests leave it so."""
    server = _server(served_checkpoint, tmp_path_factory.mktemp("servers") / "shared.log", servers_collector)
    try:
        server.ready()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def mortal_server(
    served_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory, servers_collector: Collector
) -> Iterator[VllmServer]:
    """A server for the tests that end it; they call `ready` first."""
    server = _server(served_checkpoint, tmp_path_factory.mktemp("servers") / "mortal.log", servers_collector)
    yield server
    server.kill()


def _server(checkpoint: Checkpoint, log: Path, collector: Collector) -> VllmServer:
    require(importlib.util.find_spec("vllm"), "vLLM is not installed (extra `cpu` or `gpu`)")
    return VllmServer(checkpoint, log, collector)
