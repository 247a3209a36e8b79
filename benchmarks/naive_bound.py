"""Guard-bound, against a naive worker: one event after the other through a vLLM server.

    python -m benchmarks.naive_bound [--rounds 5] [--checkpoint tiny]

As `guard_bound`, with another yardstick: `naive.py` consumes one event, posts its prompt to
`/v1/completions` of `vllm serve`, publishes the answer and commits. The server runs the same checkpoint with
the same arguments of the engine. Both stay up side by side and take turns; each round has new messages. The
times of both are the broker's, from the first event's arrival to the last answer's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec

from benchmarks import guard_bound
from benchmarks.guard_bound import TIMEOUT_S, Timed, Titles, Yardstick, run
from benchmarks.measure import create_topic, load, read_values, say, wait_for_records
from benchmarks.vllm_alone import Answer
from guard.serving.vllm_environment import usable_cores, variables
from guard.serving.vllm_start import VllmOptions, engine_arguments
from schemas.event import Event

TITLES: Final = Titles("naive_bound", "Guard-bound: against a naive worker", "naive worker, decisions/s")
SERVER_PORT: Final = 18_087
START_TIMEOUT_S: Final = 600.0
# Of the asynchronous engine and its process, or at odds with a server that is asked for texts.
_NOT_OF_A_SERVER: Final = frozenset({"model", "skip_tokenizer_init", "worker_extension_cls"})
# Left to the server, which wants its core in a process of its own.
_SERVERS_CHOICE: Final = frozenset({"VLLM_ENABLE_V1_MULTIPROCESSING"})
_LOOK_S: Final = 0.5


class Served:
    """`vllm serve` and the process that asks it."""

    def __init__(self, command: Sequence[str], checkpoint: Path, options: VllmOptions, log: Path) -> None:
        self._log = log
        self.asker: subprocess.Popen[bytes] | None = None
        environment = variables(os.environ, usable_cores(), cpu=True)
        for name in _SERVERS_CHOICE:
            environment.pop(name, None)
        with log.open("ab") as output:
            self._server = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "vllm.entrypoints.openai.api_server",
                    *server_arguments(checkpoint, options),
                ],
                env={**os.environ, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_ready()
            with log.open("ab") as output:
                self.asker = subprocess.Popen([*command], stdout=output, stderr=subprocess.STDOUT)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End both."""
        for process in (self.asker, self._server):
            if process is not None:
                process.terminate()
                process.wait(60)

    def last_lines(self) -> str:
        """The end of what both wrote."""
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])

    def _wait_ready(self) -> None:
        end = time.monotonic() + START_TIMEOUT_S
        while not _answers(f"http://127.0.0.1:{SERVER_PORT}/health"):
            if self._server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(
                    f"the vLLM server is not ready; the last lines of its log:\n{self.last_lines()}"
                )
            time.sleep(_LOOK_S)


class Bench(guard_bound.Bench):
    """The worker, and a yardstick before a vLLM server, on one broker."""

    messages: ClassVar[Mapping[Timed, int]] = {
        "fast": 1_000,
        "think": 300,
    }  # half a minute for the naive worker
    # One call a message, as the yardstick's.
    switches: ClassVar[Mapping[str, str]] = {
        "RSAFE_GUARD__CALIBRATION": "off",
        "RSAFE_GUARD__CATEGORY_SCORES": "off",
    }
    module: ClassVar = "benchmarks.naive"
    """Run with brokers, group, both topics, URL, checkpoint and policies."""

    def _yardstick(self) -> Yardstick:
        for topic in ("served-events", "served-decisions"):
            create_topic(self._servers, f"{topic}-{self._run}")
        self._served_sent = 0
        command = [
            *(sys.executable, "-m", self.module, self._servers, f"served-{self._run}"),
            *(f"served-events-{self._run}", f"served-decisions-{self._run}"),
            *(f"http://127.0.0.1:{SERVER_PORT}", str(self._checkpoint.path), str(self._policies_file)),
        ]
        guard = self._settings.guard
        options = VllmOptions(self._checkpoint.max_model_len, guard.max_concurrency)
        say("starting a vLLM server")
        return Served(command, self._checkpoint.path, options, self._folder / "server.log")

    def _through_alone(self, mode: Timed, events: Sequence[Event]) -> Answer:
        before = self._served_sent
        self._served_sent += len(events)
        source, target = f"served-events-{self._run}", f"served-decisions-{self._run}"
        load(self._servers, source, map(self._record, [mode] * len(events), events))
        assert isinstance(self._alone, Served)
        try:
            wait_for_records(
                self._servers, target, self._served_sent, process=self._alone.asker, timeout_s=TIMEOUT_S
            )
        except RuntimeError as error:
            raise RuntimeError(f"{error}; the last lines of the log:\n{self._alone.last_lines()}") from error
        started = read_values(self._servers, source)[before][0]
        new = read_values(self._servers, target)[before:]
        tokens: list[Mapping[str, int]] = [msgspec.json.decode(value)["tokens"] for _, value in new]
        prompt, completion = (sum(one[name] for one in tokens) for name in ("prompt", "completion"))
        return Answer((new[-1][0] - started) / 1000, prompt, completion)


def server_arguments(folder: Path, options: VllmOptions) -> list[str]:
    """Of a server with the worker's own arguments of the engine, on this machine only.

    `vllm serve` under its other name: the command itself looks for a package called vllm, and the build for
    processors has another name.
    """
    arguments: dict[str, Any] = engine_arguments(folder, options, cpu=True)
    flags = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
        for name, value in arguments.items()
        # What is false is so by default.
        if name not in _NOT_OF_A_SERVER and value is not False
    ]
    return [f"--model={folder}", *flags, "--host=127.0.0.1", f"--port={SERVER_PORT}"]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - our own URL
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def main() -> None:
    """Run it."""
    run(__doc__, Bench, TITLES)


if __name__ == "__main__":
    main()
