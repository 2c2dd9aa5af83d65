"""Named to vLLM as an extension of its worker, and so imported in vLLM's own process: it ends when the trainer does.

A trainer that is killed can tell nobody; without this its engine would stay, with the memory it holds.
"""

from __future__ import annotations

import multiprocessing
import os
import threading


class Leash:
    """What vLLM asks for: a class. All is done by the import."""


def _follow() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


threading.Thread(target=_follow, daemon=True).start()
