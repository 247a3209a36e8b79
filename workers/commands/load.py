"""`rsafe load`: a load like a client's onto the events topic, and what became of it."""

from __future__ import annotations

import re
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console

from schemas.identifiers import FieldError
from workers.adapters.kafka_options import client_options
from workers.adapters.load_topics import EventSender, OutcomeReader
from workers.errors import UsageError, WorkerError
from workers.load.drive import Pace
from workers.load.figures import LoadReport
from workers.load.lengths import read_lengths
from workers.load.picture import check_picture, draw
from workers.load.plan import LoadPlan, Traffic
from workers.load.run import Clocks, Run
from workers.load.words import Progress, lines
from workers.moderation.outcome import Rejection
from workers.moderation.read_event import EventLimits, decode_event
from workers.settings import Settings, load_settings

MAX: Final = "max"
DEFAULT_DURATION_S: Final = 60.0
DEFAULT_WARM_UP_S: Final = 5.0
# At the rate `max`, where a time says nothing of how much is sent.
DEFAULT_COUNT: Final = 100_000
_RUN: Final = re.compile(r"[a-z0-9]{1,16}")


class OutcomesMissing(WorkerError):
    """Some events had no outcome."""


class Rate(click.ParamType[float | None]):
    """Events a second, or `max`, which is None."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        """Raises `click.BadParameter` saying what was expected."""
        if value == MAX or value is None:
            return None
        try:
            rate = float(value)
        except ValueError:
            rate = 0.0
        if not 0 < rate <= 1_000_000:
            self.fail("expected events a second, more than 0, or `max`", param, ctx)
        return rate


@click.command()
@click.option("--rate", type=Rate(), default="100", show_default=True, help="Events a second, or `max`.")
@click.option("--duration", type=click.FloatRange(0, min_open=True), help="Seconds measured. Default: `60`.")
@click.option("--count", type=click.IntRange(1), help="Events measured, instead. At `max`: `100000`.")
@click.option("--warm-up", type=click.FloatRange(0), help="Seconds before, at a rate. Default: `5`.")
@click.option(
    "--hits",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of events that ask what was asked before in this run; the texts of the others are new.",
)
@click.option(
    "--pool", type=click.IntRange(1), default=1000, show_default=True, help="Texts that are asked before."
)
@click.option(
    "--conversations", type=click.IntRange(1), default=1000, show_default=True, help="How many there are."
)
@click.option(
    "--zipf",
    type=click.FloatRange(0, 10),
    default=1.0,
    show_default=True,
    help="Skew between conversations: the exponent of Zipf's law; 0 makes them equally busy.",
)
@click.option("--tenant", "tenants", multiple=True, help="May be given several times. Default: `load-test`.")
@click.option("--policy", help="Id that the events name; default: the worker chooses.")
@click.option(
    "--lengths",
    default="lognormal:60:0.8",
    show_default=True,
    help="Characters of a text: lognormal:MEDIAN:SIGMA, uniform:A:B, fixed:N, or a file, with a number or "
    "a JSON text, object or event a line.",
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Same seed, same load.")
@click.option("--run", "name", help="Name of the run, in event ids and texts; default: drawn.")
@click.option(
    "--drain-timeout",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds without an outcome, after the last event, before the rest counts as missing.",
)
@click.option("--json", "json_file", type=click.Path(dir_okay=False), help="Write the figures as JSON.")
@click.option("--picture", type=click.Path(dir_okay=False), help="Draw them: a file .png or .svg.")
def load(
    rate: float | None,
    duration: float | None,
    count: int | None,
    warm_up: float | None,
    drain_timeout: float,
    json_file: str | None,
    picture: str | None,
    **wanted: Any,
) -> None:
    """Send events like a client, follow their decisions and dead letters, and say how long they took.

    An open loop: each event has its time, from the rate, and its latency counts from then, whatever came
    back and however late it was sent. `--rate max` is closed only by the producer's queue, and its figure is
    throughput. Events go to RSAFE_KAFKA__EVENTS_TOPIC with made-up texts: use topics, or a tenant, of their
    own. Exits with 1 when events had no outcome.
    """
    if duration is not None and count is not None:
        raise click.UsageError("expected --duration or --count, not both")
    if rate is None and warm_up is not None:
        raise click.UsageError(
            "expected no --warm-up at the rate `max`, which leaves out a tenth of the outcomes"
        )
    settings = load_settings()
    plan = _plan(settings, **wanted)
    pace = _pace(rate, duration, count, warm_up)
    files = _files(json_file, picture)
    report = _run(settings, Traffic(plan), pace, drain_timeout)
    for line in lines(report):
        click.echo(line)
    _write(report, *files)
    if report.interrupted:
        raise KeyboardInterrupt
    if report.missing:
        nothing = (
            "; nothing was measured, since not all of the pool was judged" if report.pool.missing else ""
        )
        raise OutcomesMissing(
            f"{report.missing} events had no outcome within {drain_timeout:g} s of the last{nothing}"
        )


def _plan(
    settings: Settings,
    *,
    name: str | None,
    seed: int,
    hits: float,
    pool: int,
    conversations: int,
    zipf: float,
    tenants: tuple[str, ...],
    policy: str | None,
    lengths: str,
) -> LoadPlan:
    tenants = tenants or ("load-test",)
    if len(set(tenants)) < len(tenants):
        raise UsageError("--tenant: expected different names")
    if conversations < len(tenants):
        raise UsageError(f"--conversations: expected at least one for each of {len(tenants)} tenants")
    if hits and pool < len(tenants):
        raise UsageError(f"--pool: expected at least a text for each of {len(tenants)} tenants")
    if name is not None and not _RUN.fullmatch(name):
        raise UsageError("--run: expected 1 to 16 letters a to z and digits")
    return LoadPlan(
        run=name or secrets.token_hex(4),
        seed=seed,
        hits=hits,
        pool=pool if hits else 0,
        conversations=conversations,
        zipf=zipf,
        tenants=tenants,
        policy=policy,
        lengths=read_lengths(lengths),
        longest_text=settings.limits.text_chars,
        sent_at=datetime.now(UTC),
    )


def _pace(rate: float | None, duration: float | None, count: int | None, warm_up: float | None) -> Pace:
    if count is None and duration is None:
        count, duration = (DEFAULT_COUNT, None) if rate is None else (None, DEFAULT_DURATION_S)
    if warm_up is None:
        warm_up = 0.0 if rate is None else DEFAULT_WARM_UP_S
    return Pace(rate=rate, warm_up_s=warm_up, count=count, duration_s=duration)


def _files(json_file: str | None, picture: str | None) -> tuple[Path | None, Path | None]:
    """Whatever would fail after the run fails before it."""
    json_path, picture_path = (None if name is None else Path(name) for name in (json_file, picture))
    if picture_path is not None:
        check_picture(picture_path)
    for option, path in (("--json", json_path), ("--picture", picture_path)):
        if path is not None and not path.parent.is_dir():
            raise UsageError(f"{option}: there is no folder {path.parent}")
    return json_path, picture_path


def _run(settings: Settings, traffic: Traffic, pace: Pace, drain_timeout: float) -> LoadReport:
    kafka = settings.kafka
    _check_event(traffic, settings)
    options, timeout_s = client_options(kafka), kafka.start_timeout_s
    sender = EventSender(
        options, kafka.events_topic, timeout_s=timeout_s, delivery_timeout_ms=kafka.delivery_timeout_ms
    )
    reader = OutcomeReader(options, kafka.decisions_topic, kafka.dead_letters_topic, timeout_s=timeout_s)
    try:
        with Progress(Console(stderr=True), time.monotonic) as progress:
            progress.say(_sentence(traffic.plan, pace, kafka.events_topic))
            return Run(
                traffic,
                pace,
                sender,
                reader,
                drain_timeout_s=drain_timeout,
                progress=progress,
                clocks=Clocks(time.monotonic, time.sleep),
            ).whole()
    finally:
        reader.close()


def _sentence(plan: LoadPlan, pace: Pace, topic: str) -> str:
    rate = (
        "as fast as the producer's queue takes them (the figure is throughput)"
        if pace.rate is None
        else f"{pace.rate:g} events/s"
    )
    pool = f"{plan.pool:,} texts first, then " if plan.pool else ""
    return f"run {plan.run} onto {topic}: {pool}{rate}"


def _check_event(traffic: Traffic, settings: Settings) -> None:
    """Raises `UsageError` when the worker would refuse the events."""
    try:
        _, value = next(traffic.events())
    except FieldError as error:
        raise UsageError(f"the events would be refused: $.{error.path[0]}: {error}") from error
    found = decode_event(value, EventLimits(**settings.limits.model_dump()))
    if isinstance(found, Rejection):
        raise UsageError(f"the events would be refused: {found.field}: {found.sentence}")


def _write(report: LoadReport, json_path: Path | None, picture_path: Path | None) -> None:
    if json_path is not None:
        text = msgspec.json.format(msgspec.json.encode(report), indent=1)
        try:
            json_path.write_bytes(text + b"\n")
        except OSError as error:
            raise UsageError(f"--json: {json_path}: {error.strerror}") from error
    if picture_path is not None:
        draw(report, picture_path)
