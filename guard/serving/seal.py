"""Whether a checkpoint is still the one that was verified; asked each time an engine is about to load it."""

from __future__ import annotations

from guard.checkpoint import Checkpoint, checkpoint_digest, file_traces
from guard.errors import CheckpointError


class Seal:
    """Remembers how the files of a checkpoint looked from outside before they were read and verified."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._traces = checkpoint.traces

    def check(self) -> None:
        """Passes while the content is what the checkpoint's digest says.

        Files are read only if any of them looks different. Raises `CheckpointError` when the folder is gone
        or holds something else.
        """
        traces = file_traces(self._checkpoint.path)
        if traces == self._traces:
            return
        found = checkpoint_digest(self._checkpoint.path)
        if found != self._checkpoint.checkpoint_digest:
            raise CheckpointError(
                f"{self._checkpoint.path}: changed since it was opened; its digest is {found}, and "
                f"{self._checkpoint.checkpoint_digest} was verified"
            )
        self._traces = traces
