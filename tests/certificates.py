"""Certificates that a test makes for itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key (PKCS #8, which Kafka wants), as files."""

    certificate: Path
    key: Path

    def one_file(self) -> Path:
        """Key and certificate in one file, as a broker reads them."""
        both = self.certificate.with_suffix(".both.pem")
        both.write_bytes(self.key.read_bytes() + self.certificate.read_bytes())
        return both


class Authority:
    """An authority of its own; `file` is what others trust."""

    def __init__(self, folder: Path, name: str) -> None:
        self._ca, self._folder = trustme.CA(), folder
        self.file = folder / f"{name}.ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str, *hosts: str, key_password: str = "") -> Pair:
        """For a server of these hosts, or for the client `name` (its common name)."""
        # Java refuses a certificate whose list of names is empty.
        issued = self._ca.issue_cert(*(hosts or (f"{name}.example",)), common_name=name)
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        encryption: KeySerializationEncryption = NoEncryption()
        if key_password:
            encryption = BestAvailableEncryption(key_password.encode())
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key.pem")
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        pair.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        return pair
