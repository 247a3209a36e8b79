"""What runs in the process of vLLM, beside it.

vLLM imports this module in its core process before it loads the model, because `EndWithParent` is mixed into
its worker. From then on the process ends when the program that started it is gone: the core of vLLM 0.32 does
not watch for that itself, and a worker that is killed, at whatever moment, must not leave a model behind.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from typing import Final

# The name that vLLM gives to the process of its core.
_CORE: Final = "EngineCore"


class EndWithParent:
    """Mixed into vLLM's worker for the sake of this module; adds nothing."""


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


if multiprocessing.current_process().name.startswith(_CORE):
    if threading.current_thread() is threading.main_thread():
        # For the worker, whose log level they change; a whole unit may be told, and their default is to end.
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="EndWithParent", daemon=True).start()
