"""Build the bundled problem sets and the bundled model, each from a seed, written aside and then renamed."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from hdpo.organism.corpus import Mix
from hdpo.organism.tasks import FAMILIES, LEVELS, Task, draw_task
from hdpo.records import Problem

if TYPE_CHECKING:
    from transformers import Qwen2ForCausalLM, Qwen2Tokenizer

    from hdpo.organism.pretrain import Point, Schedule

# How often each level occurs. Levels 4 and 5 are the cliffs: 40 % of the steep mix, 6 % of the gentle one.
MIXES = {"steep": (1.0, 1.0, 1.0, 1.0, 1.0), "gentle": (1.0, 1.0, 1.0, 0.1, 0.1)}
SPLITS = {"validation": 240, "test": 240, "train": 400}
SHORT = {"validation": "val", "test": "test", "train": "train"}
DISJOINT_FROM = 3  # level
TRIES = 2_000  # draws after which the texts of a family's level count as used up
PROBLEMS_SEED = 0  # the corpus of every model leaves out what this seed holds out, whatever the model's own seed
PARTIAL_EVERY = 4_000_000  # tokens


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
            split: [_problem(task, f"{mix}-{SHORT[split]}-{i:04d}") for i, task in enumerate(tasks, 1)]
            for split, tasks in _held_apart(replacing, drawn).items()
        }
    return sets


def _held_apart(rng: Random, splits: dict[str, list[Task]]) -> dict[str, list[Task]]:
    """The same with a new text of that family and level wherever one stands in an earlier split: validation stays whole."""
    known = {task.text for tasks in splits.values() for task in tasks}
    earlier: set[str] = set()
    apart: dict[str, list[Task]] = {}
    for split, tasks in splits.items():
        apart[split] = []
        for task in tasks:
            kept = _unused(rng, task.family, task.level, known) if task.text in earlier else task
            known.add(kept.text)
            apart[split].append(kept)
        earlier |= {task.text for task in apart[split]}
    return apart


def _unused(rng: Random, family: str, level: int, known: set[str]) -> Task:
    """A task whose text is not known; a story where all are (the gentle mix asks for 69 of 64 products)."""
    for _ in range(TRIES):
        task = draw_task(rng, family, level)
        if task.text not in known:
            return task
    return _unused(rng, "word", level, known)


def _draw_split(rng: Random, count: int, weights: tuple[float, ...], taken: set[str]) -> list[Task]:
    """`count` tasks with new texts; texts of level 3 and up are added to `taken`."""
    tasks: list[Task] = []
    own: set[str] = set()
    for level, of_level in zip(LEVELS, shares(count, weights), strict=True):
        for family, wanted in zip(FAMILIES, shares(of_level, (1.0,) * len(FAMILIES)), strict=True):
            while wanted:
                task = draw_task(rng, family, level)
                if task.text in own or task.text in taken:
                    continue
                own.add(task.text)
                tasks.append(task)
                wanted -= 1
    taken |= {t.text for t in tasks if t.level >= DISJOINT_FROM}
    rng.shuffle(tasks)
    return tasks


def _problem(task: Task, name: str) -> Problem:
    return Problem(name, task.text, task.solutions[0], task.answer, task.family, task.level)


def held_out_texts(sets: dict[str, dict[str, list[Problem]]]) -> frozenset[str]:
    """The validation and test texts of level 3 and up, which no training ever sees."""
    return frozenset(
        p.text
        for splits in sets.values()
        for split in ("validation", "test")
        for p in splits[split]
        if p.level is not None and p.level >= DISJOINT_FROM
    )


def write_problems(out: Path) -> list[Path]:
    """`out`/MIX/SPLIT.jsonl for every mix and split, one problem a line."""
    written = []
    for mix, splits in problem_sets().items():
        (out / mix).mkdir(parents=True, exist_ok=True)
        for split, problems in splits.items():
            path = out / mix / f"{split}.jsonl"
            aside = path.with_suffix(".writing")
            lines = [json.dumps(asdict(p), ensure_ascii=False) for p in problems]
            aside.write_text("\n".join(lines) + "\n", encoding="utf-8")
            os.replace(aside, path)
            written.append(path)
    return written


def build(out: Path, schedule: Schedule, mix: Mix, partial: Path | None = None) -> None:
    """Make tokenizer and model and put them, with `build.json`, into the folder `out`.

    The unfinished model is put into `partial`, if given, every PARTIAL_EVERY tokens.
    """
    from hdpo.organism.pretrain import build_model, pretrain
    from hdpo.organism.tokenizer import build_tokenizer

    tokenizer = build_tokenizer()
    model = build_model(tokenizer, schedule.seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens in the vocabulary")
    phases, held_out = [(schedule, mix), settle(schedule, mix)], held_out_texts(problem_sets())
    curves: list[list[Point]] = []
    saved = 0

    def on_point(point: Point) -> None:
        nonlocal saved
        curves[-1].append(point)
        print(
            f"step {point.step}  tokens {point.tokens:,}  loss {point.loss:.4f} nats  {point.tokens_per_s:,.0f} tok/s",
            flush=True,
        )
        if partial is not None and point.tokens // PARTIAL_EVERY > saved:
            saved = point.tokens // PARTIAL_EVERY
            save(partial, model, tokenizer, _provenance(phases, curves))

    for phase in phases:
        curves.append([])
        pretrain(model, tokenizer, *phase, held_out, on_point)
    save(out, model, tokenizer, _provenance(phases, curves))


def settle(schedule: Schedule, mix: Mix) -> tuple[Schedule, Mix]:
    """The second, short phase: most unprivileged students of levels 4 and 5 are met midway, so that the model learns how
    rarely they go on there too."""
    tokens = schedule.tokens // 7
    return replace(schedule, tokens=tokens, seed=schedule.seed + 1, peak_lr=1e-3), replace(mix, drill=0.0, midway=0.7)


def _provenance(phases: Sequence[tuple[Schedule, Mix]], curves: Sequence[Sequence[Point]]) -> dict[str, object]:
    """What `build.json` holds; each curve is thinned to about 100 points."""
    return {
        "phases": [
            {"schedule": asdict(schedule), "mix": asdict(mix), "curve": [asdict(point) for point in thinned(curve)]}
            for (schedule, mix), curve in zip(phases, curves, strict=False)
        ],
        "problems_seed": PROBLEMS_SEED,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "transformers", "tokenizers")},
    }


def thinned(curve: Sequence[Point]) -> list[Point]:
    """About 100 of its points, the last among them."""
    kept = list(curve[:: max(1, len(curve) // 100)])
    return kept if curve[-1] in kept else [*kept, curve[-1]]


def save(out: Path, model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, provenance: dict[str, object]) -> None:
    """Write the model folder aside, then put it in the place of `out`."""
    aside, old = out.with_name(out.name + ".writing"), out.with_name(out.name + ".old")
    for leftover in (aside, old):
        shutil.rmtree(leftover, ignore_errors=True)
    model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    (aside / "build.json").write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")
    if out.exists():
        out.rename(old)
    aside.rename(out)
    shutil.rmtree(old, ignore_errors=True)
