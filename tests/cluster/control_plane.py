"""A Kubernetes control plane on free ports of the loopback address: etcd, API server, controllers, scheduler.

kwok stands in for the kubelet: it makes nodes and pods ready and runs nothing in them. All else (schemas,
admission, Pod Security, scheduling, roll-outs, garbage collection) is real.
"""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.certificates import Authority
from workers.adapters.embedded_server import LOOPBACK, ServerProcess, free_port, port_answers

OWN_STAGES: Final = Path(__file__).with_name("stages.yaml")
# What kwok plays: nodes come up and stay up, pods are ready at once, those of jobs complete, deleted ones go.
STAGES: Final = (
    "node/fast/node-initialize",
    "node/heartbeat-with-lease/node-heartbeat-with-lease",
    "pod/fast/pod-complete",
    "pod/fast/pod-delete",
    "pod/fast/pod-ready",
)


@dataclass(frozen=True)
class Site:
    """Where the parts find their programs, their files and each other."""

    programs: Path
    """What tests/cluster/build.sh made."""
    folder: Path

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    def program(self, name: str) -> str:
        return str(self.programs / "bin" / name)


class Part(ServerProcess):
    """One program of the control plane; it is ready when it says so at its port."""

    stop_timeout_s: ClassVar[float] = 10.0
    # A second or two on an idle machine; the API server has taken 36 on a busy one.
    start_timeout_s: ClassVar[float] = 180.0

    def __init__(self, site: Site) -> None:
        super().__init__(site.folder / type(self).__name__.lower())
        self.site = site

    @staticmethod
    def address_at(port: int) -> str:
        return f"https://{LOOPBACK}:{port}"

    def answers(self) -> bool:
        return port_answers(self.port)


class Etcd(Part):
    """The store."""

    name = "etcd"

    @staticmethod
    def address_at(port: int) -> str:
        return f"http://{LOOPBACK}:{port}"

    def _prepare(self) -> list[str]:
        peer = self.address_at(free_port())
        return [
            self.site.program("etcd"),
            f"--data-dir={self.folder / 'data'}",
            f"--listen-client-urls={self.address}",
            f"--advertise-client-urls={self.address}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            # Nothing here outlives the tests.
            "--unsafe-no-fsync",
        ]


class ApiServer(Part):
    """The API, with its usual admission: Pod Security, priorities, service accounts, quotas."""

    name = "kube-apiserver"

    def __init__(self, site: Site, etcd: Etcd) -> None:
        super().__init__(site)
        self._etcd, self._token = etcd, secrets.token_hex(16)
        self.accounts_key = self.folder / "accounts.key"

    def answers(self) -> bool:
        # Its port opens before it serves: the roles of the first start have to be written.
        ask = ("--request-timeout=2s", "get", "--raw", "/readyz")
        return self._kubectl(*ask).returncode == 0

    def _prepare(self) -> list[str]:
        tokens, public = self.folder / "tokens.csv", self.folder / "accounts.pub"
        authority = Authority(self.folder, "authority")
        pair = authority.issue("kube-apiserver", LOOPBACK, "localhost", "kubernetes.default.svc")
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.accounts_key.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        )
        public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        tokens.write_text(f'{self._token},admin,admin,"system:masters"\n')
        self._write_kubeconfig(authority.file.read_bytes())
        return [
            self.site.program("kube-apiserver"),
            f"--etcd-servers={self._etcd.address}",
            f"--bind-address={LOOPBACK}",
            f"--advertise-address={LOOPBACK}",
            f"--secure-port={self.port}",
            f"--tls-cert-file={pair.certificate}",
            f"--tls-private-key-file={pair.key}",
            f"--cert-dir={self.folder}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            # On by default from 1.35.
            "--feature-gates=ImageVolume=true",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={self.accounts_key}",
            "--service-cluster-ip-range=10.0.0.0/24",
            # It would refuse to publish a loopback address.
            "--endpoint-reconciler-type=none",
        ]

    def _kubectl(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        program = [self.site.program("kubectl"), f"--kubeconfig={self.site.kubeconfig}"]
        return subprocess.run([*program, *arguments], capture_output=True)

    def _write_kubeconfig(self, authority: bytes) -> None:
        server = {
            "server": self.address,
            "certificate-authority-data": base64.b64encode(authority).decode(),
        }
        self.site.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "tests", "cluster": server}],
                    "users": [{"name": "admin", "user": {"token": self._token}}],
                    "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "admin"}}],
                    "current-context": "tests",
                }
            )
        )
        self.site.kubeconfig.chmod(0o600)


class Controllers(Part):
    """What makes pods of deployments, completes jobs and collects garbage."""

    name = "kube-controller-manager"

    def __init__(self, site: Site, api: ApiServer) -> None:
        super().__init__(site)
        self._api = api

    def _prepare(self) -> list[str]:
        return [
            self.site.program("kube-controller-manager"),
            f"--kubeconfig={self.site.kubeconfig}",
            f"--service-account-private-key-file={self._api.accounts_key}",
            f"--cert-dir={self.folder}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={self.port}",
            "--leader-elect=false",
        ]


class Scheduler(Part):
    """What finds a node for a pod, or says why there is none."""

    name = "kube-scheduler"

    def _prepare(self) -> list[str]:
        return [
            self.site.program("kube-scheduler"),
            f"--kubeconfig={self.site.kubeconfig}",
            f"--cert-dir={self.folder}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={self.port}",
            "--leader-elect=false",
        ]


class Kwok(Part):
    """What reports nodes and pods in place of kubelets."""

    name = "kwok"

    def _prepare(self) -> list[str]:
        stages = self.folder / "stages.yaml"
        files = [self.site.programs / "stages" / f"{name}.yaml" for name in STAGES]
        stages.write_text("\n---\n".join(file.read_text() for file in (*files, OWN_STAGES)))
        return [
            self.site.program("kwok"),
            f"--kubeconfig={self.site.kubeconfig}",
            f"--config={stages}",
            f"--server-address={LOOPBACK}:{self.port}",
            "--manage-all-nodes=true",
            "--node-lease-duration-seconds=40",
        ]


@contextmanager
def control_plane(site: Site) -> Iterator[None]:
    """Runs while the block does; whatever ends the block, or this process, ends all programs.

    Raises `StartError` with the end of the log of the program that did not start.
    """
    etcd = Etcd(site)
    api = ApiServer(site, etcd)
    parts: list[Part] = [etcd, api, Controllers(site, api), Scheduler(site), Kwok(site)]
    try:
        for part in parts:
            part.start()
        yield
    finally:
        for part in reversed(parts):
            part.stop()


def environment(site: Site) -> dict[str, str]:
    """For kubectl and Helm: this cluster, and nothing of the caller's own settings or caches."""
    foreign = ("KUBE", "HELM_")
    kept: dict[str, Any] = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    folders = {f"HELM_{kind}_HOME": str(site.folder / "helm" / kind) for kind in ("CACHE", "CONFIG", "DATA")}
    return kept | folders | {"KUBECONFIG": str(site.kubeconfig), "KUBECACHEDIR": str(site.folder / "cache")}
