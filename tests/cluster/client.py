"""kubectl and Helm as the tests use them: output as objects, refusals as errors with the program's words."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

CHART: Final = Path(__file__).resolve().parents[2] / "helm" / "rsafe-stream"
# For controllers on a busy machine; each needs a fraction of a second on an idle one.
PATIENCE_S: Final = 60.0
# Longer than the patience of anything inside, so that the program's own words end a wait.
_PROGRAM_S: Final = 150.0

Object = dict[str, Any]
Answer = TypeVar("Answer")


class Refused(Exception):
    """A program ended with an error; the message is what it wrote."""


def _run(command: Sequence[str], environment: Mapping[str, str], text: str = "") -> tuple[str, str]:
    run = subprocess.run(
        command, input=text, env=dict(environment), capture_output=True, text=True, timeout=_PROGRAM_S
    )
    if run.returncode != 0:
        raise Refused(f"{' '.join(command[1:4])} …: {run.stderr.strip()}\n{run.stdout.strip()}")
    return run.stdout, run.stderr


def eventually(ask: Callable[[], Answer], holds: Callable[[Answer], bool]) -> Answer:
    """The first answer for which it holds; after `PATIENCE_S` the last one fails the test."""
    end = time.monotonic() + PATIENCE_S
    while not holds(answer := ask()):
        assert time.monotonic() < end, f"still not so after {PATIENCE_S:.0f} s: {answer}"
        time.sleep(0.1)
    return answer


@dataclass(frozen=True)
class Cluster:
    """The API server, asked through kubectl."""

    kubectl: str
    environment: Mapping[str, str]

    def run(self, *arguments: str, text: str = "") -> tuple[str, str]:
        """Output and warnings. Raises `Refused`."""
        return _run([self.kubectl, *arguments], self.environment, text)

    def get(self, *arguments: str) -> Object:
        found: Object = json.loads(self.run("get", "-o", "json", *arguments)[0])
        return found

    def items(self, *arguments: str) -> list[Object]:
        """The objects of a kind, as `kubectl get` lists them."""
        items: list[Object] = self.get(*arguments)["items"]
        return items

    def create(self, *objects: Object, namespace: str = "default") -> None:
        self.run("create", "--validate=strict", "-n", namespace, "-f", "-", text=yaml.safe_dump_all(objects))

    def would_create(self, objects: Iterable[Object], namespace: str) -> str:
        """The server's warnings about objects that it would take. Raises `Refused` when it would refuse one.

        Everything is as in a creation but the storing: defaults, schemas with no unknown field, admission.
        """
        text = yaml.safe_dump_all(objects)
        return self.run(
            *("create", "--dry-run=server", "--validate=strict", "-n", namespace, "-f", "-"), text=text
        )[1]

    def names(self, namespace: str) -> set[str]:
        """Everything in the namespace but events, which stay for an hour, as `kind/name`."""
        listed = self.run("api-resources", "--namespaced", "--verbs=list", "-o", "name")[0].split()
        kinds = sorted(kind for kind in listed if not kind.startswith("events"))
        found = self.run("get", ",".join(kinds), "-n", namespace, "-o", "name", "--ignore-not-found")[0]
        return set(found.split())

    def cluster_names(self) -> set[str]:
        """Everything outside of namespaces."""
        listed = self.run("api-resources", "--namespaced=false", "--verbs=list", "-o", "name")[0].split()
        return set(self.run("get", ",".join(sorted(listed)), "-o", "name", "--ignore-not-found")[0].split())


@dataclass(frozen=True)
class Helm:
    """A release's commands in one namespace. Raises `Refused`."""

    program: str
    environment: Mapping[str, str]
    namespace: str

    def run(self, *arguments: str) -> str:
        return _run([self.program, *arguments, "-n", self.namespace], self.environment)[0]

    def install(self, release: str, *arguments: str) -> str:
        return self.run("install", release, str(CHART), "--wait", "--timeout=120s", *arguments)

    def upgrade(self, release: str, *arguments: str) -> str:
        return self.run("upgrade", release, str(CHART), "--wait", "--timeout=120s", *arguments)

    def objects(self, *arguments: str, release: str = "golden") -> list[Object]:
        """What a first install would send, hooks included, rendered for what this cluster offers."""
        text = self.run("install", release, str(CHART), "--dry-run=server", "-o", "json", *arguments)
        answer = json.loads(text)
        documents = [answer["manifest"], *(hook["manifest"] for hook in answer.get("hooks") or ())]
        return [part for text in documents for part in yaml.safe_load_all(text) if part]
