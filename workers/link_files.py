"""What the files of the links hold now: passwords that a `…_FILE` variable names, and certificates."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

from pydantic import SecretStr

from workers.adapters import kafka_options, redis_security
from workers.adapters.tls import TlsFiles
from workers.errors import SettingsError
from workers.settings import KafkaSettings, RedisSettings
from workers.settings_reading import read_secret

Named = tuple[str, str]
"""Group and name of a setting; or a variable, and the file that it names."""
Link = TypeVar("Link", KafkaSettings, RedisSettings)

# The content key is a secret too, and none of a link: it must not change, since the cache depends on it.
_KAFKA: Final = ("sasl_password", "ssl_key_password")
_REDIS: Final = ("url", "password", "sentinel_password", "ssl_key_password")


class LinkState(NamedTuple, Generic[Link]):
    """Settings with the secrets as their files have them, and a digest of the certificates and their key."""

    settings: Link
    certificates: bytes


def read_kafka(kafka: KafkaSettings, files: Mapping[Named, Named]) -> LinkState[KafkaSettings]:
    """As the files are now. `files` as `secret_files` gives them. Raises `SettingsError`."""
    found = kafka.model_copy(update=_secrets("kafka", _KAFKA, files))
    return LinkState(found, _digest(kafka_options.tls_files(found)))


def read_redis(redis: RedisSettings, files: Mapping[Named, Named]) -> LinkState[RedisSettings]:
    """As the files are now. `files` as `secret_files` gives them. Raises `SettingsError`."""
    found = redis.model_copy(update=_secrets("redis", _REDIS, files))
    return LinkState(found, _digest(redis_security.tls_files(found)))


def _secrets(group: str, names: tuple[str, ...], files: Mapping[Named, Named]) -> dict[str, SecretStr]:
    named = {name: files[group, name] for name in names if (group, name) in files}
    return {name: SecretStr(read_secret(variable, path)) for name, (variable, path) in named.items()}


def _digest(files: TlsFiles) -> bytes:
    digest = hashlib.sha256(files.key_password.get_secret_value().encode())
    for path in map(Path, files.named()):
        try:
            found = sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]
            for file in found:
                content = file.read_bytes()
                digest.update(b"%d\n" % len(content))
                digest.update(content)
        except OSError as error:
            raise SettingsError(f"{files.prefix}SSL_…: cannot read {path}: {error.strerror}") from error
    return digest.digest()
