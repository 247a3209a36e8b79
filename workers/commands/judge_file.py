"""`rsafe judge --file`: a file of messages, a result a line."""

from __future__ import annotations

import asyncio
import hmac
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import click
import msgspec
from rich.console import Console

from guard.calibration import Scales
from guard.errors import EngineDead
from guard.profiles.profile import Profile
from guard.serving.judge import Judge
from schemas.decision import GuardUsed
from schemas.identifiers import Mode, Role
from workers.commands.judge_start import EXIT_UNJUDGED, named_policy, results_alone_on_stdout, started
from workers.errors import StartError, UsageError
from workers.judging import content_key, guards_used, make_judge, stored_checkpoint, stored_scales
from workers.lines.answer import Answering, LinePolicies, Result
from workers.lines.read import Line, LineSplitter, Source, read_line
from workers.lines.results import Results, Tally, go_on, open_results
from workers.lines.run import answer_lines
from workers.moderation.read_event import EventLimits
from workers.policies import PolicySet
from workers.progress import ProgressLine
from workers.published_policies import loaded_policies
from workers.settings import Settings
from workers.stream.budget import GuardBudget
from workers.terminal import harmless

# Beside the codes of `workers.errors`: lines that could not be read.
EXIT_NOT_READ: Final = 1
# Lines read ahead of the oldest that waits, for each one that may be at the guard: rationales differ in
# length by about so much, and the guard is kept busy meanwhile.
_AHEAD: Final = 4
# How often the progress is written where nothing moves, in seconds: a file may take hours.
_PLAIN_S: Final = 10.0
_LINES: Final = b"rsafe judge --file lines 1"
_DIGITS: Final = 16


class FileOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    file: Path
    """`-`: standard input."""
    output: Path | None
    policy: str | None
    mode: Mode | None
    role: Role
    stop_on_error: bool

    @property
    def name(self) -> str:
        """The input, for people."""
        return "standard input" if str(self.file) == "-" else str(self.file)


def judge_file(settings: Settings, options: FileOptions) -> int:
    """Write a result for each line; the exit code. Raises `WorkerError` and `GuardError`."""
    checkpoint = stored_checkpoint(settings.guard)
    scales = stored_scales(settings.guard, checkpoint)
    policies = _policies(settings, options, scales, checkpoint.profile)
    guard = make_judge(settings.guard, checkpoint, scales, content_key(settings.secrets))
    guards = guards_used(guard, scales)
    key = hmac.digest(content_key(settings.secrets), _LINES, "sha256")
    run = run_digest(key, settings, options, policies, guards)
    limits = EventLimits(**settings.limits.model_dump())
    tally = Tally()
    with results_alone_on_stdout() as stdout, _input(options) as descriptor:
        source = Source(descriptor, LineSplitter(key, limits.event_bytes), options.name)
        with _output(options, stdout) as stream:
            answering = Answering(
                guard,
                policies,
                GuardBudget(calls=settings.guard.max_concurrency, tokens=settings.stream.in_flight_tokens),
                read=partial(read_line, limits=limits, role=options.role),
                rationale=settings.decisions.rationale,
                guards=guards,
                run=run,
            )
            job = _Job(options, source, stream, tally, descriptor)
            job.whole(guard, answering, run, ahead=_AHEAD * settings.guard.max_concurrency)
    if tally.errors:
        return EXIT_NOT_READ
    return EXIT_UNJUDGED if tally.unjudged else 0


def _policies(settings: Settings, options: FileOptions, scales: Scales, profile: Profile) -> LinePolicies:
    if options.policy is not None:
        only = named_policy(settings, options.policy)
        return LinePolicies(PolicySet({}, {}, None), scales, only=only, mode=options.mode, profile=profile)
    return LinePolicies(loaded_policies(settings), scales, only=None, mode=options.mode, profile=profile)


def run_digest(
    key: bytes,
    settings: Settings,
    options: FileOptions,
    policies: LinePolicies,
    guards: dict[Mode, GuardUsed],
) -> str:
    """A keyed digest of all but the line that decides what its result says."""
    content = {
        "guards": guards,
        "policies": sorted(policies.hashes.items()),
        "chosen": None if options.policy else [settings.policies.default, settings.policies.unknown],
        "role": options.role,
        "rationale": settings.decisions.rationale,
        "limits": settings.limits.model_dump(),
    }
    return hmac.digest(key, msgspec.json.encode(content, order="deterministic"), "sha256").hex()[:_DIGITS]


class _Job:
    def __init__(
        self, options: FileOptions, source: Source, stream: BinaryIO, tally: Tally, descriptor: int
    ) -> None:
        self._options, self._source, self._stream = options, source, stream
        self._tally, self._bytes = tally, os.fstat(descriptor).st_size
        self._results = Results(stream, tally, options.output)

    def whole(self, guard: Judge, answering: Answering, run: str, *, ahead: int) -> None:
        """To the end of the input, or until it is interrupted."""
        lines = self._unanswered(run)
        kept = self._tally.lines
        if kept:
            click.echo(f"{kept:,} lines have their results already", err=True)
        begun_s = time.monotonic()
        try:
            if lines:
                with ProgressLine(Console(stderr=True), time.monotonic, plain_s=_PLAIN_S) as progress:
                    asyncio.run(self._judge(guard, answering, lines, progress, ahead))
        except EngineDead as error:
            raise StartError(f"the guard ended: {error}; {self._told()}") from error
        except KeyboardInterrupt:
            click.echo(self._told(), err=True)
            raise
        except BrokenPipeError:  # `| head` has seen enough
            return
        finally:
            self._results.sync()
        rate = (self._tally.lines - kept) / max(time.monotonic() - begun_s, 1e-9)
        click.echo(f"{summary(self._tally)}; {rate:,.1f} lines/s", err=True)

    def _unanswered(self, run: str) -> deque[Line]:
        """The first lines without a result; none: there is no such line."""
        output, lines = self._options.output, deque[Line]()
        if output is not None:
            lines = go_on(self._stream, output, self._source, run, self._tally)
        return lines or deque(self._source.more())

    async def _judge(
        self, guard: Judge, answering: Answering, lines: deque[Line], progress: ProgressLine, ahead: int
    ) -> None:
        before = self._tally.lines

        def write(line: Line, result: Result) -> None:
            nonlocal before
            if result.status == "error" and self._options.stop_on_error:
                place = f"{self._options.name}:{result.line}: {result.field}"
                raise UsageError(f"{place}: {result.expected} ({result.reason})")
            self._results.write(result)
            passed = progress.passed_s()
            if passed is not None:
                rate, before = (self._tally.lines - before) / passed, self._tally.lines
                share = f" ({line.end / self._bytes:.0%})" if self._bytes else ""
                progress.show(f"{summary(self._tally)}{share}; {rate:,.1f} lines/s")

        async with started(guard):
            await answer_lines(lines, self._source, answering, write, ahead=ahead)

    def _told(self) -> str:
        """What there is when a run ends early."""
        if self._options.output is None:
            return f"{self._tally.lines:,} lines have their results"
        return (
            f"{self._options.output} has the results of {self._tally.lines:,} lines, "
            "and the same command goes on behind them"
        )


def summary(tally: Tally) -> str:
    """How the lines ended, in one line."""
    parts = [f"{tally.lines:,} lines", f"{tally.judged.total():,} judged{_each(tally.judged)}"]
    if tally.unjudged:
        parts.append(f"{tally.unjudged.total():,} unjudged{_each(tally.unjudged)}")
    if tally.not_applicable:
        parts.append(f"{tally.not_applicable:,} not applicable")
    if tally.errors:
        parts.append(f"{tally.errors:,} not read")
    return ", ".join(parts)


def _each(counts: dict[str, int]) -> str:
    told = ", ".join(f"{harmless(what)} {count:,}" for what, count in sorted(counts.items()))
    return f" ({told})" if told else ""


@contextmanager
def _input(options: FileOptions) -> Iterator[int]:
    if str(options.file) == "-":
        yield sys.stdin.fileno()
        return
    try:
        descriptor = os.open(options.file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"{options.name}: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _output(options: FileOptions, stdout: int) -> Iterator[BinaryIO]:
    output = options.output
    if output is None:
        stream = os.fdopen(os.dup(stdout), "wb")
        try:
            yield stream
        finally:
            with suppress(BrokenPipeError):  # what is left of a result that nobody reads
                stream.close()
        return
    if output.exists() and options.name != "standard input" and output.samefile(options.file):
        raise UsageError(f"--output: {output}: expected another file than --file")
    with open_results(output) as kept:
        yield kept
