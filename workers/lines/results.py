"""Where results go, and what an earlier run left there.

A file of results holds one line for each line of the input, in the same order, from the first on. So a run
that ended early is gone on with behind what it left. A last line that was torn is dropped; everything else
has to belong to the same input and the same run, or the file is left alone.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from workers.errors import UsageError
from workers.lines.answer import Result, Status
from workers.lines.read import Line, Source

# How often what was written is made to survive a crash of the machine, in seconds.
_SYNC_S: Final = 1.0
# A result has some hundred bytes for each step and category, and a rationale; far over that it is none.
_MAX_RESULT_BYTES: Final = 16_777_216
# What every result begins with: only what looks like one is dropped as torn.
_BEGINNING: Final = b'{"line":'


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed of a result that an earlier run wrote."""

    line: int
    status: Status
    input: str
    run: str
    action: str | None = None
    reason: str | None = None


class Tally:
    """How many lines ended how."""

    def __init__(self) -> None:
        self.judged: Counter[str] = Counter()
        """By action."""
        self.unjudged: Counter[str] = Counter()
        """By reason."""
        self.not_applicable = self.errors = 0

    def add(self, result: Result | Earlier) -> None:
        match result.status:
            case "judged":
                self.judged[str(result.action)] += 1
            case "unjudged":
                self.unjudged[str(result.reason)] += 1
            case "not_applicable":
                self.not_applicable += 1
            case "error":
                self.errors += 1

    @property
    def lines(self) -> int:
        """All of them."""
        return self.judged.total() + self.unjudged.total() + self.not_applicable + self.errors


class Results:
    """Takes results in order, each written at once. `path` is the file's, None for standard output."""

    def __init__(
        self,
        stream: BinaryIO,
        tally: Tally,
        path: Path | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream, self._path, self._clock = stream, path, clock
        self._name = "standard output" if path is None else f"--output: {path}"
        self._encoder = msgspec.json.Encoder()
        self._synced_s = clock()
        self.tally = tally

    def write(self, result: Result) -> None:
        """Raises `UsageError`, or `BrokenPipeError` when nobody reads any more."""
        try:
            self._stream.write(self._encoder.encode(result) + b"\n")
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UsageError(f"{self._name}: {error.strerror}") from error
        self.tally.add(result)
        if self._clock() - self._synced_s >= _SYNC_S:
            self.sync()

    def sync(self) -> None:
        """What was written survives a crash of the machine from now on. Raises `UsageError`."""
        self._synced_s = self._clock()
        if self._path is None:
            return
        try:
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise UsageError(f"{self._name}: {error.strerror}") from error


def open_results(path: Path) -> BinaryIO:
    """The file, made where there is none, for this run alone. Raises `UsageError`."""
    if path.exists() and not path.is_file():
        raise UsageError(f"--output: {path}: expected a file")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise UsageError(f"--output: {path}: {error.strerror}") from error
    stream = os.fdopen(descriptor, "r+b")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.close()
        raise UsageError(f"--output: {path}: expected a file that no other run writes") from error
    return stream


def go_on(stream: BinaryIO, path: Path, source: Source, run: str, tally: Tally) -> deque[Line]:
    """Pass over the lines whose results are there, and stand behind the last of them.

    `tally` gets those results. Returns lines that were read from the source and have none yet. Raises
    `UsageError`, and changes nothing, where a result is another line's or another run's.
    """
    lines: deque[Line] = deque()
    name = source.name
    kept = 0
    for number, (row, end) in enumerate(_earlier(stream, path), start=1):
        if not lines:
            lines.extend(source.more())
        if not lines:
            raise UsageError(f"--output: {path}:{number}: the result of a line that {name} does not have")
        line = lines.popleft()
        if (row.line, row.input) != (line.number, line.mac):
            raise UsageError(
                f"--output: {path}:{number}: the result of another line than {name}:{line.number}; expected "
                "the same input, or a file of its own for each"
            )
        if row.run != run:
            raise UsageError(
                f"--output: {path}:{number}: written with another policy, checkpoint, mode or setting; "
                "expected the same, or a file of its own for each"
            )
        tally.add(row)
        kept = end
    stream.seek(kept)
    stream.truncate()
    return lines


def _earlier(stream: BinaryIO, path: Path) -> Iterator[tuple[Earlier, int]]:
    """The whole results in a file, and where each ends."""
    decoder, end, number = msgspec.json.Decoder(Earlier), 0, 0
    stream.seek(0)
    while raw := stream.readline(_MAX_RESULT_BYTES):
        number += 1
        whole = raw.endswith(b"\n")
        # A machine that crashed may have made the file longer before it wrote into it: zeros.
        torn = raw.rstrip(b"\0")
        if not whole and (torn.startswith(_BEGINNING) or _BEGINNING.startswith(torn)):
            return
        try:
            row = decoder.decode(raw) if whole else None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            row = None
        if row is None:
            raise UsageError(f"--output: {path}:{number}: expected a result of `rsafe judge --file`")
        end += len(raw)
        yield row, end
