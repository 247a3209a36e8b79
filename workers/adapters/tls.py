"""Certificates of a link: whether their files can be used, and why a handshake failed.

Python's own TLS tells, for Redis, which uses it, and for Kafka: librdkafka has one sentence for an unknown
authority, a wrong host name and an expired certificate, and does not look at a key before it connects.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from pydantic import SecretStr

from workers.errors import SettingsError
from workers.settings import KafkaSettings, RedisSettings

# What OpenSSL's verification answers (x509_vfy.h) when the certificate is good and the name is another one.
_OTHER_NAME: Final = frozenset({62, 64})
# … and when it is not valid yet, or not any more.
_OTHER_TIME: Final = frozenset({9, 10})
# Alerts with which a server turns down the certificate of a client, or the lack of one.
_CLIENT_ALERTS: Final = (
    "CERTIFICATE_REQUIRED",
    "BAD_CERTIFICATE",
    "UNSUPPORTED_CERTIFICATE",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN",
    "ALERT_UNKNOWN_CA",
    "ALERT_ACCESS_DENIED",
    "HANDSHAKE_FAILURE",
)
# After a handshake the server may still say that it wants a certificate (TLS 1.3); so long it has, in
# seconds.
_LAST_WORD_S: Final = 0.5
_NO_PASSWORD: Final = SecretStr("")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Certificates of one link. `prefix`: of its settings' variables, such as `RSAFE_KAFKA__`."""

    prefix: str
    ca: str = ""
    certificate: str = ""
    key: str = ""
    key_password: SecretStr = _NO_PASSWORD

    @classmethod
    def of(cls, prefix: str, settings: KafkaSettings | RedisSettings) -> Self:
        """Those that the settings of a link name."""
        return cls(
            prefix,
            settings.ssl_ca_location,
            settings.ssl_certificate_location,
            settings.ssl_key_location,
            settings.ssl_key_password,
        )

    @property
    def any(self) -> bool:
        """Whether any file is named."""
        return bool(self.ca or self.certificate or self.key)

    def named(self) -> list[str]:
        """The files that are named."""
        return [path for path in (self.ca, self.certificate, self.key) if path]


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """TLS with these files. Raises `SettingsError` naming the setting whose file cannot be used."""
    # With authorities of its own these alone, as librdkafka has it.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if files.ca else ssl.create_default_context()
    if files.ca:
        _load_authorities(context, f"{files.prefix}SSL_CA_LOCATION", files.ca)
    if bool(files.certificate) != bool(files.key):
        absent, there = ("KEY", "CERTIFICATE") if files.certificate else ("CERTIFICATE", "KEY")
        raise SettingsError(
            f"{files.prefix}SSL_{absent}_LOCATION: expected a file, since "
            f"{files.prefix}SSL_{there}_LOCATION is set"
        )
    if files.certificate:
        _load_own(context, files)
    return context


def _load_authorities(context: ssl.SSLContext, variable: str, path: str) -> None:
    if Path(path).is_dir():  # one file a certificate, named by its hash; looked at when it is needed
        context.load_verify_locations(capath=path)
        return
    _require_readable(variable, path)
    try:
        context.load_verify_locations(cafile=path)
    except OSError as error:  # of which `ssl.SSLError` is one; another when the file went away meanwhile
        raise SettingsError(f"{variable}: {path} holds no certificate; expected PEM") from error


def _load_own(context: ssl.SSLContext, files: TlsFiles) -> None:
    certificate, key = f"{files.prefix}SSL_CERTIFICATE_LOCATION", f"{files.prefix}SSL_KEY_LOCATION"
    _require_readable(certificate, files.certificate)
    _require_readable(key, files.key)
    _load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate, files.certificate)
    try:
        # The password is given even when it is empty: without one OpenSSL would ask for it on the terminal.
        context.load_cert_chain(files.certificate, files.key, files.key_password.get_secret_value())
    except (OSError, ValueError) as error:  # also for a file that went away, and a password that is too long
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            raise SettingsError(
                f"{key}: the key in {files.key} does not belong to the certificate in {files.certificate}"
            ) from error
        raise SettingsError(
            f"{key}: {files.key} holds no private key that can be read; expected PEM, and "
            f"{files.prefix}SSL_KEY_PASSWORD when it is encrypted"
        ) from error


def _require_readable(variable: str, path: str) -> None:
    try:
        Path(path).open("rb").close()
    except OSError as error:
        raise SettingsError(f"{variable}: cannot read the file {path}: {error.strerror}") from error


def why_refused(error: BaseException, files: TlsFiles, server: str) -> str | None:
    """The sentence for a failed handshake, None where TLS is not why. Looks at the causes of an error too.

    `server`: who it is, as the settings name it.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ssl.SSLCertVerificationError):
            return _distrust(found, files, server)
        if isinstance(found, ssl.SSLError):
            return _alert(found, files, server)
        found = found.__cause__ or found.__context__
    return None


def _distrust(error: ssl.SSLCertVerificationError, files: TlsFiles, server: str) -> str:
    if error.verify_code in _OTHER_NAME:
        return (
            f"the certificate of {server} is for another host name; use a name that stands in the "
            "certificate, or have this one added to it"
        )
    if error.verify_code in _OTHER_TIME:
        return (
            f"the certificate of {server} has expired or is not valid yet; renew it, or set the clock right"
        )
    known = files.ca or "the system's certificates"
    return (
        f"{files.prefix}SSL_CA_LOCATION: the certificate of {server} is from an authority that is not in "
        f"{known}; expected the file of its authority"
    )


def _alert(error: ssl.SSLError, files: TlsFiles, server: str) -> str | None:
    reason = error.reason or ""
    if any(alert in reason for alert in _CLIENT_ALERTS):
        setting = f"{files.prefix}SSL_CERTIFICATE_LOCATION"
        if not files.certificate:
            return f"{setting}: {server} asks for a client certificate; expected a file, and its key"
        return (
            f"{setting}: {server} refuses the client certificate in {files.certificate} ({reason.lower()}); "
            "expected one that is valid and whose authority the server knows"
        )
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return f"{server} does not speak TLS on this port"
    return None


def speaks_tls(host: str, port: int, timeout_s: float) -> bool:
    """Whether somebody there shakes hands, whoever it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False


def ask_why(host: str, port: int, files: TlsFiles, timeout_s: float, server: str = "") -> str | None:
    """Shake hands as a client would, and say why it fails; None when it does not, or nobody is there.

    `server`: who it is, as the settings name it; host and port if empty.
    """
    context, server = client_context(files), server or f"{host}:{port}"
    try:
        with (
            socket.create_connection((host, port), timeout=timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=host) as link,
        ):
            link.settimeout(min(timeout_s, _LAST_WORD_S))
            link.recv(1)
    except TimeoutError:  # it waits for the first request: all is well
        return None
    except OSError as error:
        return why_refused(error, files, server)
    return None
