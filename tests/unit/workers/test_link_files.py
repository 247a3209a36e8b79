"""What the files of the links hold now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from workers.errors import SettingsError
from workers.link_files import read_kafka, read_redis
from workers.settings import KafkaSettings, RedisSettings


def test_secrets_are_those_of_the_files_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("from-file\n")
    files = {
        ("kafka", "sasl_password"): ("P", str(tmp_path / "p")),
        ("redis", "password"): ("R", str(tmp_path / "p")),
        ("secrets", "content_key"): ("C", "/absent"),
    }
    kafka = KafkaSettings(sasl_password=SecretStr("old"), ssl_key_password=SecretStr("kept"))
    found = read_kafka(kafka, files).settings
    assert found.sasl_password.get_secret_value() == "from-file"
    assert found.ssl_key_password.get_secret_value() == "kept"
    files["redis", "sentinel_password"] = ("S", str(tmp_path / "p"))
    redis = read_redis(RedisSettings(url=SecretStr("redis://kept")), files).settings
    assert redis.sentinel_password.get_secret_value() == "from-file"
    assert redis.password.get_secret_value() == "from-file"
    assert redis.url.get_secret_value() == "redis://kept"


@pytest.mark.parametrize("content", [None, b"", b"\xff"])
def test_a_file_that_cannot_be_used_is_refused_by_its_variable(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "p").write_bytes(content)
    with pytest.raises(SettingsError, match=r"^P_FILE: "):
        read_kafka(KafkaSettings(), {("kafka", "sasl_password"): ("P_FILE", str(tmp_path / "p"))})


@pytest.mark.parametrize("name", ["ssl_ca_location", "ssl_certificate_location", "ssl_key_location"])
@pytest.mark.parametrize(("read", "model"), [(read_kafka, KafkaSettings), (read_redis, RedisSettings)])
def test_each_file_counts_by_what_it_holds(
    tmp_path: Path, name: str, read: Callable[..., Any], model: Any
) -> None:
    file = tmp_path / "x.pem"
    settings = model.model_validate({name: str(file)})
    with pytest.raises(SettingsError, match="cannot read"):
        read(settings, {})
    file.write_bytes(b"one")
    first = read(settings, {})
    file.write_bytes(b"one")
    assert read(settings, {}) == first
    file.write_bytes(b"two")
    assert read(settings, {}) != first


def test_a_folder_of_authorities_counts_by_its_files(tmp_path: Path) -> None:
    settings = KafkaSettings(ssl_ca_location=str(tmp_path))
    first = read_kafka(settings, {})
    (tmp_path / "a.0").write_bytes(b"one")
    assert read_kafka(settings, {}) != first


@given(st.tuples(st.binary(), st.binary()), st.tuples(st.binary(), st.binary()))
def test_what_moves_from_one_file_to_the_next_is_a_change(
    tmp_path_factory: pytest.TempPathFactory, one: tuple[bytes, bytes], other: tuple[bytes, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("pair")
    settings = KafkaSettings(ssl_certificate_location=str(folder / "c"), ssl_key_location=str(folder / "k"))

    def digest(pair: tuple[bytes, bytes]) -> bytes:
        (folder / "c").write_bytes(pair[0])
        (folder / "k").write_bytes(pair[1])
        return read_kafka(settings, {}).certificates

    assert (digest(one) == digest(other)) == (one == other)
