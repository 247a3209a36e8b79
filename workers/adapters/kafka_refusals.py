"""Why the brokers turn a client away, in one sentence that says what to do.

librdkafka says it in its error events, with one code for each kind and a text behind it; for TLS the text
does not tell the kinds apart, so that the handshake is made once more with Python's own TLS.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr

from workers.adapters.kafka_options import Option
from workers.adapters.tls import TlsFiles, ask_why, speaks_tls

_REFUSED_LOGIN: Final = frozenset({KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED})
# How long one server may take to shake hands, in seconds, and how many are asked.
_ASK_S: Final = 2.0
_ASKED: Final = 3
_HINT_S: Final = 1.0
_DEFAULT_PORT: Final = 9092
# How long a command that got no answer looks for the reason, in seconds.
_LOOK_S: Final = 3.0


def refusal(options: Mapping[str, Option], errors: Sequence[KafkaError]) -> str | None:
    """The sentence when the brokers refuse this client for certain; None when they may only be away.

    `options` as `client_options` gives them; `errors`: what the client has reported so far. Asks the servers
    themselves when TLS may be the reason; that takes some seconds at most.
    """
    login = [error.str() for error in errors if error.code() in _REFUSED_LOGIN]
    if login:
        return _login(options, login)
    if errors and _encrypted(options):
        for host, port in list(_servers(str(options["bootstrap.servers"])))[:_ASKED]:
            if why := ask_why(host, port, _files(options), _ASK_S):
                return why
    return None


def look_for_refusal(options: Mapping[str, Option]) -> str | None:
    """The same for a client that did not listen to its errors: asks again, for some seconds."""
    if options.get("security.protocol", "PLAINTEXT") == "PLAINTEXT":
        return None
    errors: list[KafkaError] = []
    listening: dict[str, Any] = {**options, "error_cb": errors.append, "log_level": 0}
    with AdminClient(listening) as client:
        try:
            client.list_topics(timeout=_LOOK_S)
        except KafkaException:
            client.poll(0)
    return refusal(options, errors)


def hint(options: Mapping[str, Option], errors: Collection[KafkaError]) -> str:
    """What else to look at when no broker has answered; empty when there is nothing to say."""
    asked = f"RSAFE_KAFKA__SECURITY_PROTOCOL is {options.get('security.protocol')}"
    if _encrypted(options):
        if any("handshake" in error.str() for error in errors):
            return f"; the port does not speak TLS, and {asked}"
        return ""
    for host, port in list(_servers(str(options["bootstrap.servers"])))[:1]:
        if speaks_tls(host, port, _HINT_S):
            return f"; the port speaks TLS, and {asked}"
    return ""


def _login(options: Mapping[str, Option], texts: Sequence[str]) -> str:
    broker, mechanism = options["bootstrap.servers"], options.get("sasl.mechanism")
    if any("mechanism" in text.lower() and "support" in text.lower() for text in texts):
        return (
            f"RSAFE_KAFKA__SASL_MECHANISM: the broker at {broker} does not take {mechanism}; expected one "
            "that its listener offers"
        )
    return (
        f"RSAFE_KAFKA__SASL_USERNAME: the broker at {broker} refuses this user or its password; check "
        f"RSAFE_KAFKA__SASL_PASSWORD, and that the user has a password for {mechanism}"
    )


def _encrypted(options: Mapping[str, Option]) -> bool:
    return str(options.get("security.protocol")).endswith("SSL")


def _files(options: Mapping[str, Option]) -> TlsFiles:
    return TlsFiles(
        "RSAFE_KAFKA__",
        str(options.get("ssl.ca.location", "")),
        str(options.get("ssl.certificate.location", "")),
        str(options.get("ssl.key.location", "")),
        SecretStr(str(options.get("ssl.key.password", ""))),
    )


def _servers(bootstrap: str) -> Iterator[tuple[str, int]]:
    for server in bootstrap.split(","):
        host, _, port = server.strip().rpartition("://")[2].rpartition(":")
        if host and port.isdigit():
            yield host.strip("[]"), int(port)
        elif port and not host:
            yield port, _DEFAULT_PORT
