"""How the links to Redis are secured: user and certificates, and what it means when Redis turns us away."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError

from workers.adapters.redis_address import RedisAddress, read_address
from workers.adapters.tls import TlsFiles, ask_why, client_context, why_refused
from workers.errors import SettingsError, StartError
from workers.redis_rights import KEY_PATTERN, whole_name
from workers.settings import RedisSettings

# How many of several hosts are asked why they turn us away.
_ASKED: Final = 3
# What a URL may say of the same things as the settings of certificates.
_FILES_IN_URL: Final = frozenset(
    {"ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile", "ssl_keyfile", "ssl_password"}
)


class RefusedBySentinel(AuthenticationError):
    """A sentinel refuses the credentials; `AuthenticationError` alone is of a server."""


def secured_address(settings: RedisSettings) -> RedisAddress:
    """What the URL says, with the user, the password and the certificates of the settings.

    Raises `SettingsError` as `read_address` and `security_options` do.
    """
    address = read_address(settings)
    return address._replace(options={**address.options, **security_options(settings)})


def security_options(settings: RedisSettings) -> dict[str, Any]:
    """Keyword arguments for redis-py's connections to servers: user, password, certificates.

    Raises `SettingsError` naming the variable when the settings do not fit together or a file cannot be used.
    """
    address, options = read_address(settings), dict[str, Any]()
    password = settings.password.get_secret_value()
    if settings.username or password:
        if not address.options.keys().isdisjoint(("username", "password")):
            raise SettingsError(
                "RSAFE_REDIS__URL: expected no user and no password in it, since RSAFE_REDIS__USERNAME or "
                "RSAFE_REDIS__PASSWORD is set"
            )
        if not password:
            raise SettingsError("RSAFE_REDIS__PASSWORD: expected one, since RSAFE_REDIS__USERNAME is set")
        options |= {"username": settings.username or None, "password": password}
    return options | _tls_options(settings, address)


def tls_files(settings: RedisSettings) -> TlsFiles:
    """The certificates of the links to Redis, as the settings name them."""
    return TlsFiles.of("RSAFE_REDIS__", settings)


def _tls_options(settings: RedisSettings, address: RedisAddress) -> dict[str, Any]:
    files = tls_files(settings)
    if not files.any:
        return {}
    if address.scheme != "rediss":
        raise SettingsError(
            "RSAFE_REDIS__URL: expected rediss://, since files of certificates are set (RSAFE_REDIS__SSL_…)"
        )
    if not _FILES_IN_URL.isdisjoint(address.options):
        raise SettingsError(
            "RSAFE_REDIS__URL: expected no files of certificates in it, since RSAFE_REDIS__SSL_… are set"
        )
    client_context(files)
    options: dict[str, Any] = {}
    if files.ca:
        options["ssl_ca_path" if Path(files.ca).is_dir() else "ssl_ca_certs"] = files.ca
    if files.certificate:
        options |= {"ssl_certfile": files.certificate, "ssl_keyfile": files.key}
        # Given even when it is empty: without one OpenSSL would ask for it on the terminal.
        options["ssl_password"] = files.key_password.get_secret_value()
    return options


def refusal(error: BaseException, settings: RedisSettings, server: str = "Redis") -> StartError | None:
    """The sentence when Redis refuses this client for certain; None when it may only be away.

    `server`: who it is, as an operator knows it.
    """
    if isinstance(error, NoPermissionError):
        return _lacking(str(error), settings)
    if isinstance(error, RefusedBySentinel):
        return StartError(
            f"{_login_of_sentinels(settings)}: a sentinel refuses the credentials; check the user and its "
            "password"
        )
    if isinstance(error, AuthenticationError | AuthorizationError):
        return StartError(
            f"{_login(settings)}: Redis refuses the credentials; check the user and its password"
        )
    why = why_refused(error, _files_in_use(settings), server)
    return StartError(why) if why else None


def ask_for_refusal(settings: RedisSettings, timeout_s: float) -> StartError | None:
    """The same for an error that does not say it: shakes hands once more, which blocks for a while.

    A server that wants a certificate closes the connection, and its reason is lost when a command was sent
    meanwhile. The hosts of the URL are asked.
    """
    address, files = read_address(settings), tls_files(settings)
    # With options of TLS in the URL, redis-py shakes hands in another way than we would here.
    if address.scheme != "rediss" or any(name.startswith("ssl_") for name in address.options):
        return None
    kind = "the sentinel" if settings.topology == "sentinel" else "Redis"
    for host in address.hosts[:_ASKED]:
        server = f"{kind} at {host.name}:{host.port}"
        if why := ask_why(host.name, host.port, files, timeout_s, server):
            return StartError(why)
    return None


def _lacking(text: str, settings: RedisSettings) -> StartError:
    command = text.split("'")[1] if "'" in text else ""  # … no permissions to run the 'mget' command
    if not command.isascii() or not command.replace("|", "").isalpha():
        return StartError(
            f"{_login(settings)}: this user of Redis may not use keys that begin with rsafe:; it needs the "
            f"ACL ~{KEY_PATTERN}"
        )
    command = whole_name(command.lower())
    who, login = "user of Redis", _login(settings)
    if command.startswith("sentinel|"):
        who, login = "user of the sentinels", _login_of_sentinels(settings)
    name = command.upper().replace("|", " ")
    return StartError(f"{login}: this {who} may not run {name}; it needs the ACL +{command}")


def _login(settings: RedisSettings) -> str:
    if not settings.password.get_secret_value():
        return "RSAFE_REDIS__URL"
    return "RSAFE_REDIS__USERNAME" if settings.username else "RSAFE_REDIS__PASSWORD"


def _login_of_sentinels(settings: RedisSettings) -> str:
    return f"RSAFE_REDIS__SENTINEL_{'USERNAME' if settings.sentinel_username else 'PASSWORD'}"


def _files_in_use(settings: RedisSettings) -> TlsFiles:
    files, named = tls_files(settings), read_address(settings).options
    if files.any:
        return files
    authorities = named.get("ssl_ca_certs") or named.get("ssl_ca_path") or ""
    return TlsFiles("RSAFE_REDIS__", authorities, named.get("ssl_certfile", ""))
