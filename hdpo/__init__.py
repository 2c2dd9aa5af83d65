"""HDPO: Hybrid Distillation Policy Optimization (arXiv 2603.23871), `L = L_GRPO + λ · L_JSD`.

Where to begin: `hdpo.method`, the paper from top to bottom; `hdpo.method.step` is Algorithm 1 on one screen. Then who
draws (`sampling`), the model (`model`), problems and prompts (`data`), verdicts (`grading`), intervals (`evidence`), run
folders (`record`), jobs (`work`) and the terminal (`cli`). A wing uses what stands below it, never what stands above.

Axes: `P` prompts, `G` rollouts per prompt (the paper's K), `B` = P·G sequences, `L` padded length, `T` completion
tokens, `N` completion positions of a micro-batch laid flat, `V` vocabulary, `K` top-k. Symbols: x prompt, y* ground
truth, x ⊕ y* the privileged prompt, ȳ a privileged rollout, λ the weight of the distillation term.
From Python: `hdpo.scan`, `train`, `evaluate`, `compare`, `load_run`, which `hdpo.api` tells of.
Importing `hdpo`, config, records, run folders, jobs, problems or stats imports neither torch nor transformers.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

SEMANTICS = 1
"""What a run computes from its settings. Raised only when `tests/method/golden.json` changes: the same settings then give
other numbers, and runs of before and after are not compared."""

_DOORS = dict.fromkeys(("LoadedRun", "compare", "evaluate", "load_run", "scan", "train"), "hdpo.api")
_DOORS |= dict.fromkeys(("BadInput", "Busy", "HdpoError", "Stopped"), "hdpo.errors") | {"Problem": "hdpo.records"}


def __getattr__(name: str) -> Any:
    """What a person uses, imported when it is asked for first (PEP 562)."""
    if name in _DOORS:
        return getattr(import_module(_DOORS[name]), name)
    raise AttributeError(f"module 'hdpo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_DOORS]
