"""Addresses of the parts of a local stack, its own or existing ones."""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from typing import Final

from workers.adapters.embedded_kafka import KafkaProcess
from workers.adapters.embedded_prometheus import PrometheusProcess
from workers.adapters.embedded_redis import RedisProcess
from workers.adapters.embedded_server import ServerProcess

SERVERS: Final[dict[str, type[ServerProcess]]] = {
    "Kafka": KafkaProcess,
    "Redis": RedisProcess,
    "Prometheus": PrometheusProcess,
}
FIELDS: Final = {"Kafka": "bootstrap_servers", "Redis": "redis_url", "Prometheus": "prometheus_url"}
CONNECT_TIMEOUT_S: Final = 5.0
KAFKA_PORT: Final = 9092


@dataclass(frozen=True)
class Addresses:
    """Where the parts are; empty for a part that is not there."""

    bootstrap_servers: str = ""
    redis_url: str = ""
    prometheus_url: str = ""

    def of(self, name: str) -> str:
        """The address of the part of that name."""
        address: str = getattr(self, FIELDS[name])
        return address

    def with_part(self, name: str, address: str) -> Addresses:
        """The same with another address for the part of that name."""
        return replace(self, **{FIELDS[name]: address})

    def environment(self) -> dict[str, str]:
        """The variables of `rsafe` that name them; of Prometheus, which no command asks, `PROMETHEUS_URL`."""
        variables = {
            "RSAFE_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "RSAFE_REDIS__URL": self.redis_url,
            "PROMETHEUS_URL": self.prometheus_url,
        }
        return {name: address for name, address in variables.items() if address}


def broker_accepts(bootstrap_servers: str) -> bool:
    """Whether one of the brokers accepts connections, whatever it asks of clients then."""
    for server in bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition("://")[2].rpartition(":")
        try:
            place = (host.strip("[]") or port, int(port) if host else KAFKA_PORT)
            socket.create_connection(place, timeout=CONNECT_TIMEOUT_S).close()
        except (OSError, ValueError):
            continue
        return True
    return False
