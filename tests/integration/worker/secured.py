"""A broker and a Redis with certificates, users and rights, each for one module of tests."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.certificates import Authority, Pair
from tests.conftest import require
from tests.waiting import wait_for
from workers.adapters.embedded import LocalStack
from workers.adapters.embedded_redis import RedisProcess
from workers.adapters.embedded_server import LOOPBACK, free_port
from workers.errors import StartError
from workers.kafka_rights import Right

# For so long a connection may live before its client must log in again, in ms.
REAUTH_MS = 3_000
HOST = "localhost"
_KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional-id": ResourceType.TRANSACTIONAL_ID,
}
_OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}


@dataclass
class Broker:
    """One listener for each way in; `plain` is the administrator's, who may do everything."""

    plain: str
    password: str
    """`host:port` of the listener with a password (SASL_SSL, SCRAM-SHA-512)."""
    certificate: str
    """… of the one that asks for a certificate (SSL)."""
    both: str
    """… of the one that asks for both."""
    authority: Authority
    """Of the broker's own certificate."""
    clients: Authority
    """Whose certificates of clients the broker takes."""
    folder: Path

    def __post_init__(self) -> None:
        self.admin: Any = AdminClient({"bootstrap.servers": self.plain})

    def set_passwords(self, passwords: Mapping[str, str]) -> None:
        """Make these users, or change their passwords; the former ones are not taken any more."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        wanted = [
            UserScramCredentialUpsertion(user, info, password.encode())
            for user, password in passwords.items()
        ]
        for future in self.admin.alter_user_scram_credentials(wanted).values():
            future.result(30)

    def allow(self, user: str, rights: list[Right]) -> None:
        """Grant exactly these."""
        bindings = [
            AclBinding(
                _KINDS[right.kind],
                right.name,
                ResourcePatternType.PREFIXED if right.prefixed else ResourcePatternType.LITERAL,
                f"User:{user}",
                "*",
                _OPERATIONS[operation],
                AclPermissionType.ALLOW,
            )
            for right in rights
            for operation in right.operations
        ]
        for future in self.admin.create_acls(bindings).values():
            future.result(30)
        # What is answered is written down; the broker heeds it a moment later, and passwords before rights.
        theirs = AclBindingFilter(
            ResourceType.ANY,
            None,
            ResourcePatternType.ANY,
            f"User:{user}",
            None,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        wait_for(lambda: len(self.admin.describe_acls(theirs).result(30)) >= len(bindings), "the rights")

    def trust(self, *authorities: Authority) -> None:
        """Take certificates of clients from these authorities alone, for new connections."""
        # Another name each time: the broker reads a file again when its name changes.
        file = self.folder / f"trusted-{time.monotonic_ns()}.pem"
        _join(file, authorities)
        for listener in ("certificate", "both"):
            entry = ConfigEntry(
                f"listener.name.{listener}.ssl.truststore.location",
                str(file),
                incremental_operation=AlterConfigOpType.SET,
            )
            resource = ConfigResource(ResourceType.BROKER, "1", incremental_configs=[entry])
            (altered,) = self.admin.incremental_alter_configs([resource]).values()
            altered.result(30)


@contextmanager
def secured_broker(folder: Path, *trusted: Authority) -> Iterator[Broker]:
    """A broker whose certificate is for `localhost`; `trusted`: whose clients it takes."""
    authority = Authority(folder, "brokers")
    ports = {name: free_port() for name in ("PLAINTEXT", "PASSWORD", "CERTIFICATE", "BOTH")}
    certificate = authority.issue("broker", HOST)
    everyone = folder / "everyone.ca.pem"
    _join(everyone, trusted)
    stack = LocalStack(
        ephemeral=True,
        redis=False,
        kafka_port=ports["PLAINTEXT"],
        kafka_properties=_properties(ports, certificate, everyone),
    )
    try:
        stack.start()
    except StartError as error:
        require(False, str(error))
    try:
        yield Broker(
            plain=stack.addresses.bootstrap_servers,
            password=f"{HOST}:{ports['PASSWORD']}",
            certificate=f"{HOST}:{ports['CERTIFICATE']}",
            both=f"{HOST}:{ports['BOTH']}",
            authority=authority,
            clients=trusted[0],
            folder=folder,
        )
    finally:
        stack.stop()


def _join(file: Path, authorities: Iterable[Authority]) -> None:
    file.write_bytes(b"".join(one.file.read_bytes() for one in authorities))


def _properties(ports: Mapping[str, int], certificate: Pair, trusted: Path) -> dict[str, str]:
    listeners = ",".join(
        f"{name}://{LOOPBACK if name == 'PLAINTEXT' else HOST}:{port}" for name, port in ports.items()
    )
    controller = f"{LOOPBACK}:{free_port()}"
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    return {
        "listeners": f"{listeners},CONTROLLER://{controller}",
        "advertised.listeners": listeners,
        "controller.quorum.voters": f"1@{controller}",
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,PASSWORD:SASL_SSL,CERTIFICATE:SSL,BOTH:SASL_SSL,CONTROLLER:PLAINTEXT"
        ),
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.password.scram-sha-512.sasl.jaas.config": scram,
        "listener.name.both.scram-sha-512.sasl.jaas.config": scram,
        "connections.max.reauth.ms": str(REAUTH_MS),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificate.one_file()),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(trusted),
        "listener.name.certificate.ssl.client.auth": "required",
        "listener.name.both.ssl.client.auth": "required",
        # The common name is the user.
        "listener.name.certificate.ssl.principal.mapping.rules": "RULE:^CN=([^,]+),.*$/$1/",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }


class SecuredRedis(RedisProcess):
    """Redis that speaks TLS alone, with a certificate for `localhost`."""

    def __init__(self, folder: Path, authority: Authority, clients: Authority | None) -> None:
        super().__init__(folder, ephemeral=True)
        self._authority, self._clients = authority, clients
        self._certificate = authority.issue("redis", HOST)
        self._own = clients.issue("administrator") if clients else None

    @property
    def url(self) -> str:
        return f"rediss://{HOST}:{self.port}/0"

    def admin(self) -> Any:
        """The default user, who may do everything."""
        own = self._own
        files = {"ssl_certfile": str(own.certificate), "ssl_keyfile": str(own.key)} if own else {}
        return redis.Redis.from_url(self.url, ssl_ca_certs=str(self._authority.file), retry=None, **files)

    def answers(self) -> bool:
        try:
            with self.admin() as client:
                return bool(client.ping())
        except (redis.RedisError, OSError):
            return False

    def _prepare(self) -> list[str]:
        program, *words = super()._prepare()
        words[words.index("--port") + 1] = "0"
        settings = {
            "tls-port": str(self.port),
            "tls-cert-file": str(self._certificate.certificate),
            "tls-key-file": str(self._certificate.key),
            "tls-ca-cert-file": str((self._clients or self._authority).file),
            "tls-auth-clients": "yes" if self._clients else "no",
        }
        return [program, *words, *(word for name, value in settings.items() for word in (f"--{name}", value))]

    def set_user(self, name: str, *rules: str) -> None:
        """Make or change a user of the ACL."""
        with self.admin() as client:
            client.execute_command("ACL", "SETUSER", name, "reset", "on", *rules)


@contextmanager
def secured_redis(
    folder: Path, authority: Authority, clients: Authority | None = None
) -> Iterator[SecuredRedis]:
    """`clients`: whose certificates it asks for. Skips where no redis-server speaks TLS."""
    server = SecuredRedis(folder, authority, clients)
    try:
        server.start()
    except StartError as error:
        require(False, f"needs a redis-server with TLS on the PATH: {error}")
    try:
        yield server
    finally:
        server.stop()


def own(pair: Pair) -> dict[str, str]:
    """The settings of a client's own certificate."""
    return {"ssl_certificate_location": str(pair.certificate), "ssl_key_location": str(pair.key)}


def put(file: Path, content: bytes) -> None:
    """In place as a whole, as a kubelet does."""
    draft = file.with_suffix(".draft")
    draft.write_bytes(content)
    draft.replace(file)


def put_pair(folder: Path, pair: Pair) -> None:
    """One after the other: for a moment they do not fit."""
    put(folder / "tls.crt", pair.certificate.read_bytes())
    put(folder / "tls.key", pair.key.read_bytes())
