"""What runs in the process of vLLM, beside it.

vLLM imports this module in its core process before it loads the model, because `EndWithParent` is mixed into
its worker. From then on the process ends when the program that started it is gone: the core of vLLM 0.32 does
not watch for that itself, and a worker that is killed, at whatever moment, must not leave a model behind.
"""

from __future__ import annotations

import multiprocessing
import os
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
    threading.Thread(target=_end_with_parent, name="EndWithParent", daemon=True).start()
