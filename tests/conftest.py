"""What all tests share: services, fresh names, and how hypothesis searches."""

from __future__ import annotations

import itertools
import os
import signal
import uuid
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from workers.adapters.embedded import LocalStack
from workers.adapters.embedded_addresses import Addresses
from workers.errors import StartError

pytest_plugins = ["tests.fixtures_vllm", "tests.fixtures_vllm_server", "tests.fixtures_redis"]

# The same examples on every machine, and no failure because a shared core was slow.
settings.register_profile(
    "ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("home", deadline=None)


def in_ci() -> bool:
    """Whether a missing part is a failure."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


settings.load_profile("ci" if in_ci() else "home")

# A shell starts what it sends to the background with SIGINT ignored, and that is handed on to every child:
# tests that interrupt a command would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def require(condition: object, reason: str) -> None:
    """Skip the test with the reason when a part it needs is absent; in CI that is a failure."""
    if condition:
        return
    if in_ci():
        pytest.fail(f"needed in CI: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def local_stack() -> Iterator[Addresses]:
    """A real Kafka and a real Redis: those that the environment names, else our own for this session."""
    existing = Addresses(
        os.environ.get("RSAFE_KAFKA__BOOTSTRAP_SERVERS", ""), os.environ.get("RSAFE_REDIS__URL", "")
    )
    stack = LocalStack(ephemeral=True, existing=existing)
    try:
        stack.start()
    except StartError as error:
        require(False, str(error))
    try:
        yield stack.addresses
    finally:
        stack.stop()


@pytest.fixture(scope="session")
def fresh_name() -> Callable[[str], str]:
    """Makes names (topics, groups, key prefixes) that no other test and no earlier run has used."""
    run, numbers = uuid.uuid4().hex[:8], itertools.count()
    return lambda stem: f"{stem}-{run}-{next(numbers)}"
