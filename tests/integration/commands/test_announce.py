"""`rsafe checkpoint announce` against a real broker."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from click.testing import CliRunner, Result
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from guard.checkpoint import open_checkpoint
from schemas.release import Release
from workers.adapters.embedded_addresses import Addresses
from workers.adapters.kafka_options import client_options
from workers.adapters.topics_io import Record, read_records
from workers.commands.checkpoint import checkpoint
from workers.commands.topics import topics
from workers.commands.train import announce_checkpoint
from workers.errors import StartError
from workers.settings import KafkaSettings

TIMEOUT_S = 30.0


@pytest.fixture
def topic(local_stack: Addresses, fresh_name: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RSAFE_KAFKA__BOOTSTRAP_SERVERS", local_stack.bootstrap_servers)
    names = {stem: fresh_name(stem) for stem in ("events", "decisions", "dead_letters", "reviews")}
    names["checkpoints"] = fresh_name("checkpoints")
    for stem, name in names.items():
        monkeypatch.setenv(f"RSAFE_KAFKA__{stem.upper()}_TOPIC", name)
    return names["checkpoints"]


def announce(*arguments: str) -> Result:
    return CliRunner().invoke(checkpoint, ["announce", "tiny", *arguments], catch_exceptions=False)


def records(local_stack: Addresses, topic: str) -> list[Record]:
    options = client_options(KafkaSettings(bootstrap_servers=local_stack.bootstrap_servers))
    batches = read_records(options, topic, start="beginning", follow=False, timeout_s=TIMEOUT_S)
    return [record for batch in batches for record in batch]


def test_releases_stand_under_the_name_on_a_compacted_topic(local_stack: Addresses, topic: str) -> None:
    with pytest.raises(StartError, match=f"there is no topic {topic}; `rsafe topics create`"):
        announce()
    assert CliRunner().invoke(topics, ["create"], catch_exceptions=False).exit_code == 0
    assert announce("--location", "s3://models/tiny").exit_code == 0
    assert announce_checkpoint(open_checkpoint("tiny").path).startswith(f"{topic}: rsafe-tiny ")
    first, second = records(local_stack, topic)
    releases = [msgspec.json.decode(one.value or b"", type=Release) for one in (first, second)]
    assert first.key == second.key == b"rsafe-tiny"
    assert first.partition == second.partition
    assert releases[0].release_id == releases[1].release_id
    assert releases[0].checkpoint_digest == open_checkpoint("tiny").checkpoint_digest
    assert [one.location for one in releases] == ["s3://models/tiny", None]
    headers = dict(first.headers)
    assert headers["ce_id"] == releases[0].release_id.encode()
    assert headers["ce_type"] == b"rsafe.checkpoint.release.v1"
    with AdminClient({"bootstrap.servers": local_stack.bootstrap_servers}) as admin:
        resource = ConfigResource(ResourceType.TOPIC, topic)
        configuration = admin.describe_configs([resource])[resource].result(TIMEOUT_S)
    assert configuration["cleanup.policy"].value == "compact"
