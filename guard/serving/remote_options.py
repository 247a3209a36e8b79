"""How a fleet of vLLM servers is reached, and by which name a server says which weights it serves."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import urlsplit

# A server of random weights has the name of no checkpoint.
_DUMMY: Final = "dummy:"


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """How the servers are spoken to; the names are those of the settings, without `endpoint_`."""

    endpoints: tuple[str, ...]
    """Base addresses (`endpoint_urls`), 1 or more."""
    addresses: Literal["one", "all"] = "one"
    """`all`: a host name that resolves to several addresses is as many servers."""
    model: str = ""
    """Name of the served model where it is not the weights digest; somebody vouches for it then."""
    api_key: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    """For `https`; None: the system's authorities."""
    max_connections: int = 256
    """To each server."""
    health_interval_s: float = 2.0
    """How often a server is asked whether it is well; also the longest wait for its answer."""
    failures: int = 3
    """Failures in a row after which a server gets no calls; one whose port does not answer gets none at
    once."""
    back_off_s: float = 1.0
    """From an ejection to the first look whether the server is back; doubled up to 16 times."""


def endpoint_urls(text: str) -> tuple[str, ...]:
    """Base addresses from a comma-separated list, without a `/` at their ends, each once, in order.

    Raises ValueError with what was expected; the address is repeated only where it can hold no password.
    """
    found = [one.strip() for one in text.split(",")]
    return tuple(dict.fromkeys(_base_url(one) for one in found if one))


def _base_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - raises for one that is none
    except ValueError as error:
        raise ValueError("expected addresses such as http://host:8000, comma-separated") from error
    if "@" in parts.netloc:
        raise ValueError(
            "expected addresses without user and password; the key goes into RSAFE_GUARD__ENDPOINT_API_KEY"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or not text.isprintable() or " " in text:
        raise ValueError("expected addresses such as http://host:8000, comma-separated")
    if parts.query or parts.fragment:
        raise ValueError("expected addresses without `?` and `#`, such as http://host:8000")
    return text.rstrip("/")


def served_name(weights_digest: str, load_format: str, quantization: str = "") -> str:
    """The model's name at a server that `rsafe serve-guard` started: what it serves, to the byte.

    >>> served_name("abc", "auto", "fp8")
    'abc-fp8'
    """
    rounded = f"-{quantization}" if quantization else ""
    return f"{_DUMMY if load_format == 'dummy' else ''}{weights_digest}{rounded}"
