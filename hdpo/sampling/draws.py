"""Where chance comes from: a uniform for every token, keyed by what the token is, never by the order of work.

Two runs that differ in λ share their draws, and batching, order, rank and compaction change none.
"""

from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b

import numpy as np


class Purpose(str, Enum):
    STUDENT = "student"
    PRIVILEGED = "privileged"
    EVALUATION = "evaluation"
    PROBE = "probe"
    SCAN = "scan"
    CONFIRM = "confirm"
    INTERACTIVE = "interactive"
    DATA = "data"


@dataclass(frozen=True)
class DrawKey:
    """Seed, purpose and step; problem, rollout and position are added where the draw is made."""

    seed: int
    purpose: Purpose
    step: int = 0


def generator(key: DrawKey, *names: object) -> np.random.Generator:
    """A counter-based generator (Philox) of this key and these names alone."""
    text = "\x1f".join(map(str, (key.seed, key.purpose.value, key.step, *names)))
    digest = blake2b(text.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def uniforms(key: DrawKey, problem_id: str, rollout: int, n: int) -> np.ndarray:
    """(n,) float64 in [0, 1), one a position; a shorter draw is the beginning of a longer one.

    >>> k = DrawKey(0, Purpose.STUDENT, 3)
    >>> bool((uniforms(k, "a", 1, 4) == uniforms(k, "a", 1, 9)[:4]).all())
    True
    """
    return generator(key, problem_id, rollout).random(n)


def epoch_order(seed: int, epoch: int, n: int) -> np.ndarray:
    """(n,) the order in which epoch `epoch` visits n problems."""
    return generator(DrawKey(seed, Purpose.DATA, epoch)).permutation(n)
