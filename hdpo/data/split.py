"""Which side a problem is on: one text or two, train or validation, and advice where a side stays empty.

Two texts are the same where they are equal in Unicode's composed form (NFC), spaces aside: x² is not x2, and f(X) not
F(x). A seeded hash of that text tells train and validation apart, so that a problem lands on the same side in every file,
order and copy.
"""

import hashlib
import math
import unicodedata
from collections import Counter
from dataclasses import dataclass, field

from hdpo.config import ProblemConfig
from hdpo.errors import brief
from hdpo.records import Problem


def normalise(text: str) -> str:
    """What two texts have in common where they are one problem.

    >>> normalise("  What  is\\n3²? "), normalise("E\u0301 = e") == "\u00c9 = e"
    ('What is 3²?', True)
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def text_hash(text: str) -> str:
    """Of a problem text, for an id."""
    return hashlib.blake2b(normalise(text).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def number_of(text: str) -> int:
    """64 bits that stand for a text as it is; a fixed digest, and not Python's own, which differs from run to run."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def key_of(text: str) -> int:
    """Stands for a problem text."""
    return number_of(normalise(text))


def place_of(text: str, seed: int) -> float:
    """Where a problem text stands between 0 and 1; below the validation share lies validation, whatever file it is in.

    >>> place_of("What is 1+1?", 42) == place_of(" What is  1+1? ", 42) < 1
    True
    """
    return number_of(f"{seed}\n{normalise(text)}") / 2**64


@dataclass
class Choice:
    """Which problems of a set are wanted; it remembers what it saw, for advice where none was.

    hashed: the hash divides the set, which has no split of its own. held_out: keys of texts that validation holds.
    """

    data: ProblemConfig
    split: str
    hashed: bool
    sources: tuple[str, ...]
    held_out: set[int] = field(default_factory=set)
    found: Counter[str] = field(default_factory=Counter)
    lowest: float = 1.0
    highest: float = 0.0

    def side(self, problem: Problem) -> str:
        """Where it is counted: kept, elsewhere or overlap."""
        self.found[problem.source] += 1
        if self.sources and problem.source not in self.sources:
            return "elsewhere"
        if self.hashed and self.split != "all":
            place = place_of(problem.text, self.data.split_seed)
            self.lowest, self.highest = min(place, self.lowest), max(place, self.highest)
            if (place < self.data.validation_share) != (self.split == "validation"):
                return "elsewhere"
        return "overlap" if self.held_out and key_of(problem.text) in self.held_out else "kept"

    def advice(self, read: int) -> str:
        """The sentence where no problem is left, with a next step that works."""
        none, share = f"None of the {read} problems in {self.data.problems}", self.data.validation_share
        if self.sources and not self.found.keys() & set(self.sources):
            names = ", ".join(f"{brief(name, 40)} ({n:,})" for name, n in self.found.most_common(10))
            return f"{none} comes from {', '.join(self.sources)}; its sources are {names}. Choose of these, or leave --sources out."
        if self.held_out:
            return f"{none} is left to train on: {self.data.validation_problems} holds them all. Give another set for one of the two."
        if self.split == "train":
            way = f"Lower --validation-share to {math.floor(self.highest * 100) / 100:g}, or give"
        else:
            enough = math.floor(self.lowest * 100 + 1) / 100
            way = f"Raise --validation-share to {enough:g}, or give" if enough <= 0.9 else "Give"
        return f"{none} falls into {self.split}: the share held out is {share:g}. {way} --validation-problems FILE."
