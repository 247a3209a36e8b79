"""`rsafe local` as a person uses it. The session's Kafka is used as an existing one, but for one test."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from workers.adapters.embedded_addresses import Addresses
from workers.adapters.embedded_process import ProcessIdentity, RunningProcess
from workers.adapters.embedded_server import LOOPBACK
from workers.adapters.embedded_status import stack_status

RSAFE = [sys.executable, "-c", "from workers.cli import main; main()"]
PATIENCE_S = 120.0
ROOT = Path(__file__).parents[3]


@pytest.fixture
def environment(local_stack: Addresses, tmp_path: Path) -> dict[str, str]:
    """A stack in a folder of its own, with the session's Kafka."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(tmp_path),
        "RSAFE_LOCAL_FOLDER": str(tmp_path / "stack"),
        "RSAFE_KAFKA__BOOTSTRAP_SERVERS": local_stack.bootstrap_servers,
        "RSAFE_REDIS__URL": "",
    }


def rsafe(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RSAFE, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )


def exported(output: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in shlex.split(output) if "=" in word)


def test_run_gives_the_command_both_addresses_and_exits_as_it_does(environment: dict[str, str]) -> None:
    code = (
        "import os, redis; redis.Redis.from_url(os.environ['RSAFE_REDIS__URL']).ping()\n"
        "print(os.environ['RSAFE_KAFKA__BOOTSTRAP_SERVERS']); raise SystemExit(7)"
    )
    done = rsafe(environment, "local", "run", "--", sys.executable, "-W", "ignore", "-c", code)
    assert done.returncode == 7, done.stderr
    assert done.stdout.strip() == environment["RSAFE_KAFKA__BOOTSTRAP_SERVERS"]
    parts = stack_status(Path(environment["RSAFE_LOCAL_FOLDER"]))
    assert [part.state for part in parts] == ["down", "down"]


def test_run_says_that_a_command_is_not_there_as_a_shell_does(environment: dict[str, str]) -> None:
    done = rsafe(environment, "local", "run", "--ephemeral", "--", "/no/such/command", "--json")
    assert done.returncode == 127
    assert "cannot run /no/such/command" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_passes_signals_on_and_takes_the_stack_down(
    environment: dict[str, str], number: signal.Signals, tmp_path: Path
) -> None:
    code = (
        "import os, signal, sys\n"
        "def end(number, frame): print('got', number, flush=True); sys.exit(5)\n"
        f"signal.signal({int(number)}, end); print(os.getpid(), flush=True)\n"
        "while True: signal.pause()"
    )
    with start(environment, "--ephemeral", "--", sys.executable, "-c", code) as command:
        assert command.stdout
        assert command.stdout.readline().strip().isdigit()
        command.send_signal(number)
        assert command.stdout.readline().strip() == f"got {int(number)}"
        assert command.wait(PATIENCE_S) == 5
    assert not list(tmp_path.glob("rsafe-local-*"))


def test_nothing_survives_when_run_is_killed(environment: dict[str, str], tmp_path: Path) -> None:
    code = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
    with start(environment, "--ephemeral", "--", sys.executable, "-c", code) as command:
        assert command.stdout
        pids = [int(command.stdout.readline())]
        pids += [part.pid for part in stack_status(*tmp_path.glob("rsafe-local-*")) if part.pid]
        assert len(pids) == 2  # the command and Redis; Kafka is the session's
        processes = [RunningProcess.find(identity) for identity in map(ProcessIdentity.of, pids) if identity]
        command.kill()
        for process in processes:
            assert process
            assert process.wait(PATIENCE_S)


def start(environment: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*RSAFE, "local", "run", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_up_status_and_down_with_servers_of_their_own(environment: dict[str, str]) -> None:
    environment = {**environment, "RSAFE_KAFKA__BOOTSTRAP_SERVERS": ""}
    assert rsafe(environment, "local", "status").returncode == 1
    ups = [
        subprocess.Popen([*RSAFE, "local", "up"], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [up.communicate(timeout=2 * PATIENCE_S)[0] for up in ups]
    try:
        assert [up.returncode for up in ups] == [0, 0]
        assert outputs[0] == outputs[1]  # the second found what the first had started
        status = rsafe(environment, "local", "status", "--json")
        assert status.returncode == 0, status.stdout
        parts = {part["name"]: part for part in json.loads(status.stdout)}
        assert exported(outputs[0]) == {
            "RSAFE_KAFKA__BOOTSTRAP_SERVERS": parts["Kafka"]["address"],
            "RSAFE_REDIS__URL": parts["Redis"]["address"],
        }
        assert all(os.getsid(part["pid"]) == part["pid"] for part in parts.values())
        assert "Kafka  up" in rsafe(environment, "local", "status").stdout
    finally:
        down = rsafe(environment, "local", "down")
    assert down.stdout == "stopped: Kafka, Redis\n"
    assert rsafe(environment, "local", "down").stdout == "nothing was up\n"


def test_an_address_where_nobody_is_ends_in_one_sentence(environment: dict[str, str]) -> None:
    environment = {**environment, "RSAFE_KAFKA__BOOTSTRAP_SERVERS": f"{LOOPBACK}:1"}
    done = rsafe(environment, "local", "run", "--", "true")
    assert done.returncode == 3
    assert done.stderr.startswith("rsafe: RSAFE_KAFKA__BOOTSTRAP_SERVERS names")
    assert "Traceback" not in done.stderr
