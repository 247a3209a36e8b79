"""A real Prometheus as a child process, which watches workers on this machine."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import yaml

from workers.adapters.embedded_server import LOOPBACK, ServerProcess
from workers.errors import StartError

# What a look at a demo needs: a picture after seconds, not after a minute.
SCRAPE_INTERVAL_S: Final = 2
RETENTION: Final = "2d"
# Of `rsafe worker` by its default settings.
DEFAULT_TARGETS: Final = (f"{LOOPBACK}:8080",)


class PrometheusProcess(ServerProcess):
    """Prometheus on a port of the loopback address; its data survives as the stack's does."""

    name = "Prometheus"
    optional: ClassVar[bool] = True
    stop_timeout_s: ClassVar[float] = 10.0
    start_timeout_s: ClassVar[float] = 30.0

    def __init__(
        self,
        folder: Path,
        *,
        targets: Sequence[str] = DEFAULT_TARGETS,
        rules: Path | None = None,
        **options: Any,
    ) -> None:
        """`targets` are `HOST:PORT` of the health endpoints of workers, running or yet to come; `rules` is a
        file of alerts."""
        super().__init__(folder, **options)
        self._targets = targets
        self._rules = rules

    @staticmethod
    def address_at(port: int) -> str:
        return f"http://{LOOPBACK}:{port}"

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/-/ready", timeout=2) as answer:  # noqa: S310 (our own)
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _prepare(self) -> list[str]:
        program = shutil.which("prometheus")
        if program is None:
            raise StartError(
                "no `prometheus` on the PATH; Debian and Ubuntu have it as the package `prometheus`, "
                "and without --prometheus the stack needs none"
            )
        home = self.folder / "prometheus"
        home.mkdir(exist_ok=True)
        configuration = home / "prometheus.yml"
        configuration.write_text(prometheus_configuration(self._targets, self._rules), encoding="utf-8")
        return [
            program,
            f"--config.file={configuration}",
            f"--storage.tsdb.path={home / 'data'}",
            f"--storage.tsdb.retention.time={RETENTION}",
            f"--web.listen-address={LOOPBACK}:{self.port}",
            "--log.level=warn",
        ]


def prometheus_configuration(targets: Sequence[str], rules: Path | None) -> str:
    """The configuration file (YAML). Raises `StartError` when `rules` is not there."""
    if rules is not None and not rules.is_file():
        raise StartError(f"--rules: there is no file {rules}")
    whole: dict[str, Any] = {
        "global": {
            "scrape_interval": f"{SCRAPE_INTERVAL_S}s",
            "evaluation_interval": f"{SCRAPE_INTERVAL_S}s",
        },
        "scrape_configs": [{"job_name": "rsafe-stream", "static_configs": [{"targets": list(targets)}]}],
    }
    if rules is not None:
        whole["rule_files"] = [str(rules.absolute())]
    return yaml.safe_dump(whole, sort_keys=False)
