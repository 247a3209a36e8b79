"""Settings: one typed tree, every name checked."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from hypothesis import given
from hypothesis import strategies as st

from workers.adapters.kafka_options import consumer_options, producer_options, transaction_options
from workers.errors import SettingsError
from workers.settings import (
    PREFIX,
    KafkaSettings,
    SettingField,
    Settings,
    fault_hooks,
    load_settings,
    secret_files,
    setting_fields,
)


def test_an_empty_environment_gives_the_defaults() -> None:
    assert load_settings({}) == Settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RSAFE_KAFKA__BOOTSTRAP_SERVERS", "broker:9092"),
        ("RSAFE_KAFKA__GROUP_ID", "other"),
        ("RSAFE_GUARD__ENGINE", "scripted"),
        ("RSAFE_GUARD__CHECKPOINT", "/models/guard"),
        ("RSAFE_POLICIES__PATH", "/etc/policies"),
    ],
)
def test_promised_names_are_read(variable: str, value: str) -> None:
    group, name = variable.removeprefix(PREFIX).lower().split("__")
    assert getattr(getattr(load_settings({variable: value}), group), name) == value


def test_the_redis_url_is_a_secret() -> None:
    settings = load_settings({"RSAFE_REDIS__URL": "redis://:hunter2@cache:6379/0"})
    assert settings.redis.url.get_secret_value() == "redis://:hunter2@cache:6379/0"
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.model_dump_json()


def test_a_mistyped_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(SettingsError, match="RSAFE_KAFKA__GROUPID; did you mean RSAFE_KAFKA__GROUP_ID"):
        load_settings({"RSAFE_KAFKA__GROUPID": "x"})
    with pytest.raises(SettingsError, match="rsafe_kafka__group_id; did you mean RSAFE_KAFKA__GROUP_ID"):
        load_settings({"rsafe_kafka__group_id": "x"})
    with pytest.raises(SettingsError, match="unknown setting RSAFE_FOO; `rsafe settings` lists all"):
        load_settings({"RSAFE_FOO": "x"})


def test_other_peoples_variables_are_ignored() -> None:
    assert load_settings({"PATH": "/bin", "RSAFE_TEST_DATA": "/data", "KAFKA_GROUP": "x"}) == Settings()


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("RSAFE_HEALTH__PORT", "70000", "expected integer ≥ 0 ≤ 65535"),
        ("RSAFE_GUARD__ENGINE", "gpt", "expected vllm or remote or scripted"),
        ("RSAFE_GUARD__MAX_MODEL_LEN", "long", "expected integer ≥ 1 or null"),
        ("RSAFE_STREAM__DRAIN_S", "0", "expected number > 0"),
        ("RSAFE_STREAM__DRAIN_S", "inf", "expected number > 0"),
        ("RSAFE_CACHE__TTL_S", "soon", "expected integer ≥ 0"),
        ("RSAFE_KAFKA__BOOTSTRAP_SERVERS", "", "expected string, not empty"),
    ],
)
def test_a_bad_value_names_the_variable_and_what_was_expected(
    variable: str, value: str, expected: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({variable: value})
    assert str(caught.value) == f"{variable}: {expected}"


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"ENGINE": "remote"}, "expected addresses such as http://host:8000, comma-separated, with"),
        ({"ENGINE": "remote", "ENDPOINTS": " , "}, "expected addresses such as"),
        ({"ENGINE": "remote", "ENDPOINTS": "host:8000"}, "expected addresses such as http://host:8000"),
        ({"ENGINE": "remote", "ENDPOINTS": "http://u:hunter2@h"}, "expected addresses without user and pass"),
        ({"ENDPOINTS": "http://host:8000"}, "expected nothing unless RSAFE_GUARD__ENGINE=remote"),
        ({"ENGINE": "scripted", "ENDPOINTS": "http://host:8000"}, "expected nothing unless"),
    ],
)
def test_servers_are_named_with_the_engine_that_asks_them(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=r"^RSAFE_GUARD__ENDPOINTS: ") as caught:
        load_settings({f"RSAFE_GUARD__{name}": value for name, value in environment.items()})
    assert sentence in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_key_of_the_servers_is_a_secret_that_fits_into_a_request(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("hunter2\n")
    settings = load_settings({"RSAFE_GUARD__ENDPOINT_API_KEY_FILE": str(file)})
    assert settings.guard.endpoint_api_key.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings)
    with pytest.raises(SettingsError, match="RSAFE_GUARD__ENDPOINT_API_KEY: expected printable") as caught:
        load_settings({"RSAFE_GUARD__ENDPOINT_API_KEY": "hunter2\nX: y"})
    assert "hunter2" not in str(caught.value)


def test_settings_that_do_not_fit_together_are_refused() -> None:
    short = {"RSAFE_KAFKA__MAX_POLL_INTERVAL_MS": "30000"}
    with pytest.raises(SettingsError) as caught:
        load_settings(short)
    assert str(caught.value) == (
        "RSAFE_KAFKA__MAX_POLL_INTERVAL_MS: expected at least RSAFE_KAFKA__SESSION_TIMEOUT_MS, which is 45000"
    )
    load_settings(short | {"RSAFE_KAFKA__GROUP_PROTOCOL": "consumer", "RSAFE_STREAM__DRAIN_S": "10"})


@pytest.mark.parametrize(
    ("fits", "change", "sentence"),
    [
        (
            {"RSAFE_GUARD__CHECKPOINT_KEYS": "release.pub,"},
            {"RSAFE_GUARD__CHECKPOINT_KEYS": ","},
            "RSAFE_GUARD__CHECKPOINT_KEYS: expected names of files, comma-separated, or nothing at all",
        ),
        (
            {"RSAFE_GUARD__CHECKPOINT_KEYS": ""},
            {"RSAFE_GUARD__CHECKPOINT_KEYS": " "},
            "RSAFE_GUARD__CHECKPOINT_KEYS: expected names of files, comma-separated, or nothing at all",
        ),
        (
            {"RSAFE_GUARD__HANG_TIMEOUT_MS": "8000", "RSAFE_GUARD__CALL_TIMEOUT_MS": "10000"},
            {"RSAFE_GUARD__CALL_TIMEOUT_MS": "9999"},
            "RSAFE_GUARD__CALL_TIMEOUT_MS: expected at least RSAFE_GUARD__HANG_TIMEOUT_MS and 2000 more, "
            "which is 10000",
        ),
        (
            {"RSAFE_KAFKA__MAX_POLL_INTERVAL_MS": "60000", "RSAFE_STREAM__DRAIN_S": "30"},
            {"RSAFE_STREAM__DRAIN_S": "30.1"},
            "RSAFE_STREAM__DRAIN_S: expected at most half of RSAFE_KAFKA__MAX_POLL_INTERVAL_MS, which "
            "is 30 s",
        ),
        (
            {"RSAFE_GUARD__MAX_MODEL_LEN": "200", "RSAFE_GUARD__TEXT_WINDOW_OVERLAP_TOKENS": "99"},
            {"RSAFE_GUARD__TEXT_WINDOW_OVERLAP_TOKENS": "100"},
            "RSAFE_GUARD__TEXT_WINDOW_OVERLAP_TOKENS: expected less than half of RSAFE_GUARD__MAX_MODEL_LEN, "
            "which is 200",
        ),
    ],
)
def test_values_of_which_one_must_hold_the_other_are_refused(
    fits: dict[str, str], change: dict[str, str], sentence: str
) -> None:
    load_settings(fits)
    with pytest.raises(SettingsError) as caught:
        load_settings(fits | change)
    assert str(caught.value) == sentence


def test_a_short_model_needs_no_other_overlap_than_the_default() -> None:
    short = {"RSAFE_GUARD__MAX_MODEL_LEN": "200"}
    load_settings(short)
    load_settings(
        short | {"RSAFE_GUARD__TEXT_WINDOW_OVERLAP_TOKENS": "100", "RSAFE_GUARD__MAX_TEXT_WINDOWS": "1"}
    )


@pytest.mark.parametrize("side", ["least", "most"])
@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_librdkafka_takes_the_bounds_of_what_is_accepted(side: str, delivery: str, protocol: str) -> None:
    bounds = {
        "least": {"session_timeout_ms": 1000, "max_poll_interval_ms": 1000, "delivery_timeout_ms": 1000},
        "most": {"session_timeout_ms": 3_600_000, "max_poll_interval_ms": 86_400_000},
    }[side] | {"linger_ms": {"least": 900, "most": 0}[side], "group_protocol": protocol}
    kafka = KafkaSettings.model_validate(bounds | {"bootstrap_servers": "127.0.0.1:1", "delivery": delivery})
    Consumer(consumer_options(kafka)).close()
    if delivery == "at-least-once":
        Producer(producer_options(kafka, None) | {"delivery.timeout.ms": kafka.delivery_timeout_ms})
    else:
        Producer(transaction_options(kafka, "t", None))


def test_a_bad_secret_is_not_repeated_in_the_error(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("secrets:\n  content_key: [hunter2]\n")
    with pytest.raises(SettingsError) as caught:
        load_settings({"RSAFE_SETTINGS_FILE": str(file)})
    assert "RSAFE_SECRETS__CONTENT_KEY" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_environment_is_stronger_than_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("kafka:\n  group_id: from-file\n  client_id: from-file\n")
    settings = load_settings({"RSAFE_SETTINGS_FILE": str(file), "RSAFE_KAFKA__GROUP_ID": "from-environment"})
    assert (settings.kafka.group_id, settings.kafka.client_id) == ("from-environment", "from-file")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("redis: {}\nkafka: 3\n", "settings.yaml: kafka: expected a group of settings"),
        ("- kafka\n", "settings.yaml: expected groups of settings"),
        ("kafka: {group: x}\n", "unknown setting kafka.group; did you mean kafka.group_id?"),
        ("kafak: {group_id: x}\n", "unknown setting kafak; did you mean kafka?"),
        ("kafka:\n  group_id: [\n", "settings.yaml:3: expected the node content"),
        ("kafka: {group_id: 2026-99-99}\n", "settings.yaml: expected YAML in UTF-8 (ValueError)"),
        ("[" * 5000, "settings.yaml: expected YAML in UTF-8 (RecursionError)"),
        ("kafka: \a\n", "settings.yaml: expected YAML in UTF-8 (ReaderError)"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(content)
    with pytest.raises(SettingsError) as caught:
        load_settings({"RSAFE_SETTINGS_FILE": str(file)})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_secret_and_its_file_are_not_both_taken(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("redis://a")
    for names in (("", "_FILE"), ("_FILE", "")):
        environment = {f"RSAFE_REDIS__URL{name}": str(file) for name in names}
        with pytest.raises(SettingsError, match="RSAFE_REDIS__URL and RSAFE_REDIS__URL_FILE are both set"):
            load_settings(environment)


def test_a_secret_is_read_from_the_file_that_is_named(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("s3cret\n")
    settings = load_settings({"RSAFE_SECRETS__CONTENT_KEY_FILE": str(file)})
    assert settings.secrets.content_key.get_secret_value() == "s3cret"


def test_an_empty_secret_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("\n")
    with pytest.raises(SettingsError, match=r"RSAFE_KAFKA__SASL_PASSWORD_FILE: the file .* is empty"):
        load_settings({"RSAFE_KAFKA__SASL_PASSWORD_FILE": str(file)})


@pytest.mark.parametrize("field", [field for field in setting_fields() if field.secret], ids=str)
def test_no_secret_stands_in_the_settings_file(tmp_path: Path, field: SettingField) -> None:
    file = tmp_path / "settings.yaml"
    group, name = field.path
    file.write_text(f"{group}: {{{name}: hunter2}}")
    with pytest.raises(SettingsError) as caught:
        load_settings({"RSAFE_SETTINGS_FILE": str(file)})
    assert str(caught.value) == (
        f"RSAFE_SETTINGS_FILE: {group}.{name}: a secret does not stand in the settings file; expected "
        f"{field.variable}, or {field.variable}_FILE with the name of a file"
    )


def test_the_files_of_secrets_are_known_by_their_settings() -> None:
    environment = {
        "RSAFE_KAFKA__SASL_PASSWORD_FILE": "/password",
        "RSAFE_REDIS__URL": "redis://x",
        "RSAFE_KAFKA__GROUP_ID": "g",
    }
    expected = {("kafka", "sasl_password"): ("RSAFE_KAFKA__SASL_PASSWORD_FILE", "/password")}
    assert secret_files(environment) == expected


def test_an_absent_secret_file_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="RSAFE_REDIS__URL_FILE: cannot read the file /absent"):
        load_settings({"RSAFE_REDIS__URL_FILE": "/absent"})


def test_only_secrets_may_come_from_files() -> None:
    with pytest.raises(SettingsError, match="RSAFE_KAFKA__GROUP_ID_FILE"):
        load_settings({"RSAFE_KAFKA__GROUP_ID_FILE": "/x"})


def test_every_setting_is_described_and_typed() -> None:
    for field in setting_fields():
        assert field.description.endswith("."), field.variable
        assert field.type, field.variable


@given(st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ_", min_size=1, max_size=30))
def test_any_unknown_name_is_refused(suffix: str) -> None:
    variable = PREFIX + suffix
    known = {field.variable for field in setting_fields()} | {"RSAFE_TEST_DATA", "RSAFE_SETTINGS_FILE"}
    if variable not in known:
        with pytest.raises(SettingsError):
            load_settings({variable: "1"})


def test_messages_break_the_guard_only_where_the_environment_says_the_word() -> None:
    word = {"RSAFE_TEST_HOOKS": "messages-may-break-the-guard"}
    assert not fault_hooks({})
    assert not fault_hooks({"RSAFE_TEST_HOOKS": ""})
    assert fault_hooks(word)
    assert load_settings(word) == Settings()
    with pytest.raises(SettingsError, match="for tests only"):
        fault_hooks({"RSAFE_TEST_HOOKS": "1"})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"TOPOLOGY": "cluster"}, "RSAFE_REDIS__URL: expected hosts with RSAFE_REDIS__TOPOLOGY=cluster"),
        (
            {"TOPOLOGY": "sentinel", "URL": "redis://a"},
            "RSAFE_REDIS__SENTINEL_SERVICE: expected a name with RSAFE_REDIS__TOPOLOGY=sentinel",
        ),
        (
            {"URL": "redis://a", "SENTINEL_SERVICE": "verdicts"},
            "RSAFE_REDIS__SENTINEL_SERVICE: expected nothing unless RSAFE_REDIS__TOPOLOGY=sentinel",
        ),
        (
            {"TOPOLOGY": "cluster", "URL": "redis://a", "SENTINEL_PASSWORD": "x"},
            "RSAFE_REDIS__SENTINEL_PASSWORD: expected nothing unless RSAFE_REDIS__TOPOLOGY=sentinel",
        ),
        ({"TOPOLOGY": "ring"}, "RSAFE_REDIS__TOPOLOGY: expected standalone or cluster or sentinel"),
    ],
)
def test_settings_of_redis_that_do_not_fit_together_are_refused(
    changes: dict[str, str], sentence: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({f"RSAFE_REDIS__{name}": value for name, value in changes.items()})
    assert str(refused.value) == sentence


def test_sentinels_are_taken_with_their_service() -> None:
    settings = load_settings(
        {
            "RSAFE_REDIS__TOPOLOGY": "sentinel",
            "RSAFE_REDIS__URL": "redis://a,b",
            "RSAFE_REDIS__SENTINEL_SERVICE": "verdicts",
            "RSAFE_REDIS__SENTINEL_PASSWORD": "x",
        }
    )
    assert settings.redis.sentinel_service == "verdicts"


def test_policies_of_files_and_of_the_topic_are_not_mixed() -> None:
    with pytest.raises(SettingsError, match="RSAFE_POLICIES__PATH: expected none where") as refused:
        load_settings({"RSAFE_POLICIES__SOURCE": "topic", "RSAFE_POLICIES__PATH": "/etc/policies"})
    assert "rsafe policy publish" in str(refused.value)
    assert load_settings({"RSAFE_POLICIES__SOURCE": "topic"}).policies.source == "topic"
