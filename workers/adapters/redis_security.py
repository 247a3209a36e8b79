"""How the link to Redis is secured: the user, the certificates, and what that user must be allowed to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError

from workers.adapters.tls import TlsFiles, ask_why, client_context, why_refused
from workers.errors import SettingsError, StartError
from workers.settings import RedisSettings

WORKER_COMMANDS: Final = ("ping", "mget", "set")
"""What a worker runs on a single Redis; `select` as well where the URL names a database."""
KEY_PATTERN: Final = "rsafe:*"
"""The keys that it uses."""
_PORT: Final = 6379
# Of that pattern; gone within a second.
_TRIED_KEY: Final = "rsafe:may-i"
_TRIED_MS: Final = 1_000


def security_options(settings: RedisSettings) -> dict[str, Any]:
    """Keyword arguments for redis-py's connections: user, password, certificates.

    Raises `SettingsError` naming the variable when the settings do not fit together or a file cannot be used.
    """
    url = _split(settings)
    options: dict[str, Any] = {
        # No `CLIENT SETINFO`: it names the library to the server, and a limited user may not run it.
        "driver_info": None,
    }
    password = settings.password.get_secret_value()
    if settings.username or password:
        if url.username or url.password:
            raise SettingsError(
                "RSAFE_REDIS__URL: expected no user and no password in it, since RSAFE_REDIS__USERNAME or "
                "RSAFE_REDIS__PASSWORD is set"
            )
        if not password:
            raise SettingsError("RSAFE_REDIS__PASSWORD: expected one, since RSAFE_REDIS__USERNAME is set")
        options |= {"username": settings.username or None, "password": password}
    return options | _tls_options(settings, url.scheme)


def tls_files(settings: RedisSettings) -> TlsFiles:
    """The certificates of the link to Redis."""
    return TlsFiles(
        "RSAFE_REDIS__",
        settings.ssl_ca_location,
        settings.ssl_certificate_location,
        settings.ssl_key_location,
        settings.ssl_key_password,
    )


def _tls_options(settings: RedisSettings, scheme: str) -> dict[str, Any]:
    files = tls_files(settings)
    if scheme != "rediss":
        if files.any:
            raise SettingsError(
                "RSAFE_REDIS__URL: expected rediss://, since files of certificates are set "
                "(RSAFE_REDIS__SSL_…)"
            )
        return {}
    client_context(files)
    options: dict[str, Any] = {}
    if files.ca:
        options["ssl_ca_path" if Path(files.ca).is_dir() else "ssl_ca_certs"] = files.ca
    if files.certificate:
        options |= {"ssl_certfile": files.certificate, "ssl_keyfile": files.key}
        # Given even when it is empty: without one OpenSSL would ask for it on the terminal.
        options["ssl_password"] = files.key_password.get_secret_value()
    return options


async def check_rights(client: Any) -> None:
    """Do once what the worker will do. Raises what the client raises; `refusal` makes a sentence of it."""
    await client.ping()
    await client.mget([_TRIED_KEY])
    await client.set(_TRIED_KEY, b"", px=_TRIED_MS)


def refusal(error: BaseException, settings: RedisSettings) -> StartError | None:
    """The sentence when Redis refuses this client for certain; None when it may only be away."""
    variable = "RSAFE_REDIS__URL"
    if settings.password.get_secret_value():
        variable = "RSAFE_REDIS__USERNAME" if settings.username else "RSAFE_REDIS__PASSWORD"
    if isinstance(error, NoPermissionError):
        text = str(error)
        if "'" in text:  # … no permissions to run the 'mget' command
            command = text.split("'")[1]
            if command.isascii() and command.replace("|", "").isalpha():
                return StartError(
                    f"{variable}: this user of Redis may not run {command.upper()}; "
                    f"it needs the ACL +{command}"
                )
        return StartError(
            f"{variable}: this user of Redis may not use keys that begin with rsafe:; it needs the ACL "
            f"~{KEY_PATTERN}"
        )
    if isinstance(error, AuthenticationError | AuthorizationError):
        return StartError(f"{variable}: Redis refuses the credentials; check the user and its password")
    why = why_refused(error, tls_files(settings), _server(settings))
    return StartError(why) if why else None


def ask_for_refusal(settings: RedisSettings, timeout_s: float) -> StartError | None:
    """The same for an error that does not say it: shakes hands once more, which blocks for a while.

    A server that wants a certificate closes the connection, and its reason is lost when a command was sent
    meanwhile.
    """
    url = _split(settings)
    if url.scheme != "rediss" or not url.hostname:
        return None
    why = ask_why(url.hostname, url.port or _PORT, tls_files(settings), timeout_s, _server(settings))
    return StartError(why) if why else None


def _server(settings: RedisSettings) -> str:
    url = _split(settings)
    return f"Redis at {url.hostname}:{url.port or _PORT}"


def _split(settings: RedisSettings) -> SplitResult:
    try:
        url = urlsplit(settings.url.get_secret_value())
        _ = url.port  # read late, and then refused
    except ValueError as error:
        raise SettingsError(
            "RSAFE_REDIS__URL: expected redis://, rediss:// or unix://, with a host"
        ) from error
    return url
