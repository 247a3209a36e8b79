"""The demo, top to bottom: stack, topics, worker, traffic, table, summary, and a clean end on every way."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from rich.console import Console

from workers.adapters.admin import create_topics
from workers.adapters.embedded_server import free_port
from workers.adapters.kafka_options import client_options
from workers.commands.topics import wanted_topics
from workers.demo.board import Board, Summary
from workers.demo.follow import publish_and_watch
from workers.demo.surroundings import Progress, signals_interrupt, stack_of
from workers.demo.traffic import demo_records
from workers.demo.worker_process import WorkerProcess
from workers.errors import StreamStopped
from workers.policies import load_policies
from workers.settings import Settings, load_settings


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """`rate`: events per second; `engine`: of the guard; `folder`: where logs go."""

    events: int
    rate: float
    keep_running: bool
    engine: str
    folder: Path


def run_demo(options: DemoOptions, console: Console) -> None:
    """Run it to its end. Raises a `WorkerError` that says what went wrong; nothing is left running then."""
    policies = load_policies("", "community").by_id
    titles = {name: {c.code: c.title for c in policy.categories} for name, policy in policies.items()}
    records = list(demo_records(policies, count=options.events, now=datetime.now(UTC), run=uuid4().hex[:8]))
    options.folder.mkdir(parents=True, exist_ok=True)
    progress = Progress(console)
    with signals_interrupt(), progress, stack_of(load_settings(), progress.say) as addresses:
        environment = {**addresses.environment(), "RSAFE_GUARD__ENGINE": options.engine}
        settings = load_settings({**os.environ, **environment})
        kafka = client_options(settings.kafka)
        progress.say("creating the topics")
        create_topics(kafka, wanted_topics(settings), timeout_s=settings.kafka.start_timeout_s)
        log = options.folder / "worker.log"
        worker = WorkerProcess(environment=environment, health_port=free_port(), log=log)
        try:
            progress.say(f"starting the worker (log: {log}); loading the guard takes a minute or two")
            worker.start()
            worker.wait_ready(progress.wait)
            progress.say(f"publishing {len(records)} events, {options.rate:g} a second")
            progress.stop()
            summary = publish_and_watch(
                records,
                rate=options.rate,
                kafka=settings.kafka,
                options=kafka,
                titles=titles,
                worker=worker,
                board=Board(console, len(records)),
            )
            _show(console, summary, options)
            if options.keep_running:
                with contextlib.suppress(KeyboardInterrupt):  # the way out that it names
                    _keep_running(console, settings, worker)
        finally:
            worker.stop()


def _show(console: Console, summary: Summary, options: DemoOptions) -> None:
    console.print()
    for line in summary.lines():
        console.print(line, markup=False, highlight=False)
    if options.engine == "scripted":
        console.print("The scripted engine is a stand-in without a model: its verdicts mean nothing.")
    console.print(
        "\nWhere to look next\n"
        "  docs/tutorial/one-event.md        a walk with one event\n"
        "  .venv/bin/rsafe judge TEXT        judge one message, without Kafka\n"
        "  .venv/bin/rsafe policy list       the policies; docs/how-to says how to write one\n"
        "  make demo ARGS=--keep-running     leave everything up to play with",
        markup=False,
        highlight=False,
    )


def _keep_running(console: Console, settings: Settings, worker: WorkerProcess) -> None:
    """Until Ctrl-C (`KeyboardInterrupt`). Raises `StreamStopped` when the worker ends."""
    redis = settings.redis.url.get_secret_value()
    console.print(
        "\nEverything is up until Ctrl-C. In another terminal:\n"
        f"  export RSAFE_KAFKA__BOOTSTRAP_SERVERS={settings.kafka.bootstrap_servers}\n"
        f"  export RSAFE_REDIS__URL={redis}\n"
        "  .venv/bin/rsafe decisions --follow\n"
        f"  curl {worker.url}/metrics",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    while worker.exit_code is None:
        time.sleep(1.0)
    raise StreamStopped(f"the worker ended; {worker.last_lines()}")
