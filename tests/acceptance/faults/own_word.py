"""What a worker says of itself over HTTP: whether it is ready, and its metrics."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.evidence import json_object
from tests.acceptance.worker_process import WorkerProcess

READY: Final = "/health/ready"
METRICS: Final = "/metrics"
_TIMEOUT_S: Final = 5.0


def ask(worker: WorkerProcess, path: str) -> tuple[int, str] | None:
    """Status and text; None while it does not answer, such as before it listens."""
    port = _port(worker)
    if port is None:
        return None
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=_TIMEOUT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except (OSError, http.client.HTTPException):
        return None


def samples(worker: WorkerProcess, name: str, **labels: str) -> list[float] | None:
    """Values of the metric with these labels, whatever the others are; None while it does not answer."""
    found = ask(worker, METRICS)
    return None if found is None else read_samples(found[1], name, **labels)


def read_samples(text: str, name: str, **labels: str) -> list[float]:
    """Values of the metric with these labels in Prometheus' text form."""
    return [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


def _port(worker: WorkerProcess) -> int | None:
    for line in reversed(worker.log_lines()):
        body = json_object(line.encode())
        if body is not None and isinstance(port := body.get("health_port"), int):
            return port
    return None
