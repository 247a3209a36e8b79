"""The real command when it cannot start, with vLLM and the time-outs of the defaults.

In front of vLLM stands a package of its name that only tells that it was imported: nothing that can be wrong
with the settings or the broker may cost the minute that vLLM takes.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.integration.worker.harness import Topics, make_topics
from tests.waiting import wait_for
from workers.adapters.embedded_addresses import Addresses

# What a person waits for an error, in seconds.
PROMISED_S = 15.0
_IMPORTED = """
import os, pathlib
pathlib.Path(os.environ["VLLM_WAS_IMPORTED"]).touch()
raise ImportError("vLLM stands in for itself here")
"""
# Two cores: two commands side by side, those that wait for a broker first and together.
_SIDE_BY_SIDE = 2


@dataclass(frozen=True)
class Ended:
    """How a command ended. `seconds`: without those in which it waited for a core that others had."""

    code: int
    text: str
    seconds: float
    imported_vllm: bool


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield int(listening.getsockname()[1])


@contextmanager
def refused_port() -> Iterator[int]:
    """A port on which nobody listens, and nobody else can."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield int(bound.getsockname()[1])


class Commands:
    """Runs `rsafe worker`, each time with a marker file of its own."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        package = folder / "in-front" / "vllm"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(_IMPORTED)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RSAFE_")}
        self.environment = clean | dict(environment) | {"PYTHONPATH": str(package.parent)}

    def run(self, name: str, changes: dict[str, str]) -> Ended:
        marker = self.folder / f"{name}.imported"
        log = self.folder / f"{name}.log"
        began = time.monotonic()
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "workers", "worker"],
                env=self.environment | changes | {"VLLM_WAS_IMPORTED": str(marker)},
                stdout=stream,
                stderr=stream,
            )
        try:
            # Not collected yet, so that what the kernel knows of it can be read.
            ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
            wait_for(lambda: os.waitid(os.P_PID, process.pid, ended), f"the end of {name}")
            seconds = time.monotonic() - began - waited_for_a_core_s(process.pid)
        finally:
            process.kill()
            code = process.wait()
        return Ended(code, log.read_text(), seconds, marker.exists())


def waited_for_a_core_s(pid: int) -> float:
    """How long the first thread of a process could have run and had no core."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except OSError:  # another system, or a kernel that does not count
        return 0.0


# What is wrong → exit code as in docs/reference/exit-codes.md, words of the sentence.
REFUSALS: dict[str, tuple[int, list[str]]] = {
    "refused-port": (3, ["RSAFE_KAFKA__BOOTSTRAP_SERVERS", "within 10 s"]),
    "silent-port": (3, ["RSAFE_KAFKA__BOOTSTRAP_SERVERS", "within 10 s"]),
    "absent-topic": (3, ["no topic nowhere", "rsafe topics create"]),
    "too-few-partitions": (3, ["3 partitions", "RSAFE_KAFKA__MIN_PARTITIONS"]),
    "senders-timestamps": (3, ["message.timestamp.type=CreateTime", "RSAFE_KAFKA__EVENTS_TIMESTAMPS=any"]),
    "absent-checkpoint": (3, ["nowhere"]),
    "mistyped-setting": (2, ["RSAFE_KAFKA__GROUP"]),
}


@pytest.fixture(scope="module")
def commands(
    local_stack: Addresses, fresh_name: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Commands, str]:
    """Commands over topics that are as they should be; and the name of a topic that is not."""
    folder = tmp_path_factory.mktemp("start")
    topics = Topics(local_stack.bootstrap_servers, local_stack.redis_url, folder, fresh_name("start"))
    topics.create()
    senders = f"{topics.name}.senders"
    admin = AdminClient({"bootstrap.servers": topics.bootstrap})
    make_topics(admin, [NewTopic(senders, 3, 1)])
    default = ("RSAFE_GUARD__", "RSAFE_STREAM__")
    changed = {name: value for name, value in topics.environment.items() if not name.startswith(default)}
    return Commands(folder, changed), senders


@pytest.fixture(scope="module")
def ended(commands: tuple[Commands, str]) -> dict[str, Ended]:
    command, senders = commands
    with silent_port() as silent, refused_port() as refused, ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        changes = {
            "refused-port": {"RSAFE_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{refused}"},
            "silent-port": {"RSAFE_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{silent}"},
            "absent-topic": {"RSAFE_KAFKA__DECISIONS_TOPIC": "nowhere"},
            "too-few-partitions": {"RSAFE_KAFKA__MIN_PARTITIONS": "4"},
            "senders-timestamps": {"RSAFE_KAFKA__EVENTS_TOPIC": senders},
            "absent-checkpoint": {"RSAFE_GUARD__CHECKPOINT": "nowhere"},
            "mistyped-setting": {"RSAFE_KAFKA__GROUP": "g"},
        }
        return dict(zip(changes, pool.map(command.run, changes, changes.values()), strict=True))


@pytest.mark.parametrize("name", REFUSALS)
def test_one_sentence_and_the_exit_code_of_its_kind_in_time(ended: dict[str, Ended], name: str) -> None:
    code, words = REFUSALS[name]
    found = ended[name]
    assert found.code == code
    assert found.text.startswith("rsafe: ")
    assert (found.text.count("\n"), found.text[-1]) == (1, "\n"), found.text
    for word in words:
        assert word in found.text
    assert not found.imported_vllm
    assert found.seconds < PROMISED_S


def test_what_passes_the_checks_goes_on_to_vllm(commands: tuple[Commands, str]) -> None:
    """So that the tests above would notice."""
    found = commands[0].run("passes", {})
    assert found.imported_vllm
    assert "The checks before the start have passed." in found.text
