"""Build the bundled problem sets from a seed."""

import json
from dataclasses import asdict
from pathlib import Path
from random import Random

from hdpo.organism.stories import story_sets
from hdpo.organism.tasks import FAMILIES, LEVELS, Task, draw_task
from hdpo.record.files import write_aside
from hdpo.records import Problem

# How often each level occurs. Levels 4 and 5 are the cliffs: 40 % of the steep mix, 6 % of the gentle one.
MIXES = {"steep": (1.0, 1.0, 1.0, 1.0, 1.0), "gentle": (1.0, 1.0, 1.0, 0.1, 0.1)}
SPLITS = {"validation": 240, "test": 240, "train": 400}
SHORT = {"validation": "val", "test": "test", "train": "train"}
DISJOINT_FROM = 3  # level
TRIES = 2_000  # draws after which the texts of a family's level count as used up
PROBLEMS_SEED = 0  # the corpus of every model leaves out what this seed holds out, whatever the model's own seed


def shares(count: int, weights: tuple[float, ...]) -> list[int]:
    """Whole numbers that add up to `count` in proportion to `weights`, by largest remainder.

    >>> shares(240, MIXES["gentle"]), shares(9, (1.0, 1.0, 1.0, 1.0))
    ([75, 75, 75, 8, 7], [3, 2, 2, 2])
    """
    exact = [count * w / sum(weights) for w in weights]
    whole = [int(x) for x in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: whole[i] - exact[i])
    for i in by_remainder[: count - sum(whole)]:
        whole[i] += 1
    return whole


def problem_sets(seed: int = PROBLEMS_SEED) -> dict[str, dict[str, list[Problem]]]:
    """Mix → split → problems, balanced over families within each level.

    No text occurs twice within a mix, in whatever splits, and from level 3 up none in two splits of either mix. Levels 1
    and 2 are drawn freely, since their spaces are tiny (64 products, 88 equations ax = b), and then held apart.
    """
    rng, replacing = Random(seed), Random(seed + 1)
    taken: set[str] = set()
    sets: dict[str, dict[str, list[Problem]]] = {}
    for mix, weights in MIXES.items():
        drawn = {split: _draw_split(rng, count, weights, taken) for split, count in SPLITS.items()}
        sets[mix] = {
            split: [
                Problem(f"{mix}-{SHORT[split]}-{i:04d}", t.text, t.solutions[0], t.answer, t.family, t.level)
                for i, t in enumerate(tasks, 1)
            ]
            for split, tasks in _held_apart(replacing, drawn).items()
        }
    return sets


def _held_apart(rng: Random, splits: dict[str, list[Task]]) -> dict[str, list[Task]]:
    """The same with a new text of that family and level wherever one stands in an earlier split: validation stays whole."""
    known = {task.text for tasks in splits.values() for task in tasks}
    earlier: set[str] = set()
    apart: dict[str, list[Task]] = {}
    for split, tasks in splits.items():
        apart[split] = [_unused(rng, t.family, t.level, known) if t.text in earlier else t for t in tasks]
        earlier |= {task.text for task in apart[split]}
    return apart


def _unused(rng: Random, family: str, level: int, known: set[str]) -> Task:
    """A task whose text is not known, and joins what is; a story where all are (the gentle mix asks for 69 of 64
    products)."""
    for _ in range(TRIES):
        task = draw_task(rng, family, level)
        if task.text not in known:
            known.add(task.text)
            return task
    return _unused(rng, "word", level, known)


def _draw_split(rng: Random, count: int, weights: tuple[float, ...], taken: set[str]) -> list[Task]:
    """`count` tasks with new texts; texts of level 3 and up are added to `taken`."""
    tasks: list[Task] = []
    known = taken.copy()
    for level, of_level in zip(LEVELS, shares(count, weights), strict=True):
        for family, wanted in zip(FAMILIES, shares(of_level, (1.0,) * len(FAMILIES)), strict=True):
            tasks += [_unused(rng, family, level, known) for _ in range(wanted)]
    taken |= {t.text for t in tasks if t.level >= DISJOINT_FROM}
    rng.shuffle(tasks)
    return tasks


def held_out_texts(sets: dict[str, dict[str, list[Problem]]]) -> frozenset[str]:
    """The validation and test texts of level 3 and up, which no training ever sees."""
    held_out = (p for splits in sets.values() for split in ("validation", "test") for p in splits[split])
    return frozenset(p.text for p in held_out if (p.level or 0) >= DISJOINT_FROM)


def write_problems(out: Path) -> list[Path]:
    """`out`/MIX/SPLIT.jsonl for every mix and split, one problem a line."""
    written = []
    for mix, splits in {**problem_sets(), "stories": story_sets()}.items():
        (out / mix).mkdir(parents=True, exist_ok=True)
        for split, problems in splits.items():
            written.append(out / mix / f"{split}.jsonl")
            write_aside(written[-1], "".join(json.dumps(asdict(p), ensure_ascii=False) + "\n" for p in problems))
    return written
