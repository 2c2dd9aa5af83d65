"""Jobs and the processes that take them, and what libraries are told before those import them."""

import os


def prepare_libraries() -> None:
    """Before torch is imported: idle threads sleep, and no library draws a bar between ours.

    The environment, so that nothing is imported for it; what is set already stands.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
