"""Whether a checkpoint is still the one that was verified; asked each time an engine is about to load it."""

from __future__ import annotations

from guard.checkpoint import Checkpoint, checkpoint_digest, checkpoint_files
from guard.errors import CheckpointError

# Size in bytes, time of the last change in nanoseconds, and number of the file.
_Trace = tuple[int, int, int]


class Seal:
    """Remembers how the files of a checkpoint look from outside. Raises `CheckpointError` when it cannot."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._traces = self._look()

    def check(self) -> None:
        """Passes while the content is what the checkpoint's digest says.

        Files are read only if any of them looks different. Raises `CheckpointError` when the folder is gone
        or holds something else.
        """
        traces = self._look()
        if traces == self._traces:
            return
        found = checkpoint_digest(self._checkpoint.path)
        if found != self._checkpoint.checkpoint_digest:
            raise CheckpointError(
                f"{self._checkpoint.path}: changed since it was opened; its digest is {found}, and "
                f"{self._checkpoint.checkpoint_digest} was verified"
            )
        self._traces = traces

    def _look(self) -> dict[str, _Trace]:
        folder, traces = self._checkpoint.path, dict[str, _Trace]()
        for name in checkpoint_files(folder):
            try:
                status = (folder / name).stat()
            except OSError as error:
                raise CheckpointError(f"cannot read {folder / name}: {error}") from error
            traces[name] = (status.st_size, status.st_mtime_ns, status.st_ino)
        return traces
