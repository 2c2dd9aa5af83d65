"""`python -m tests.fuzz WHAT`: makes nasty input from a seed, reads it in this process, and holds the readers to their word.

Each input is made from its seed and its number alone, so `--first N --count 1` makes one of them again. Exit code 1, and
a line each, where a property broke.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.fuzz import folders, models, problems

# What is fuzzed: a function of a generator and an empty folder that returns what came of it in a word or two, and raises
# where a property is broken.
WHAT: dict[str, tuple[int, Callable[[Random, Path], str]]] = {
    "problems": (9000, problems.one),
    "folders": (900, folders.one),
    "models": (100, models.one),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int)
    parser.add_argument("--first", type=int, default=0)
    args = parser.parse_args()
    usual, one = WHAT[args.what]
    count, started = args.count or usual, time.perf_counter()
    came: Counter[str] = Counter()
    broken = 0
    for number in range(args.first, args.first + count):
        with tempfile.TemporaryDirectory() as folder:
            try:
                came[one(Random(f"{args.seed}/{number}"), Path(folder))] += 1
            except Exception as error:  # every other end than the two allowed ones is what is looked for
                broken += 1
                where = traceback.extract_tb(error.__traceback__)[-1]
                print(
                    f"broken: --first {number}: {type(error).__name__}: {str(error)[:300]} ({where.name}, {where.lineno})"
                )
    for what, n in sorted(came.items()):
        print(f"{n:6,}  {what}")
    print(f"{args.what}, seed {args.seed}: {count:,} made, {broken} broken, {time.perf_counter() - started:.0f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
