"""The pretraining corpus: the work of many students, drawn without end.

Three kinds of examples. *Drill*: lines of arithmetic, many at first and none at the end. *Unprivileged*: a problem and
the work of a student who is careless on levels 1 to 3 (so those prompts are mixed, at a few decision tokens that
GRPO can sharpen) and who stops too early on levels 4 and 5 (so those prompts are cliffs). *Privileged*: the problem
with a reference in the user turn, at every level, and a whole solution as the response.
"""

import math
from dataclasses import dataclass
from functools import partial
from random import Random

from hdpo.organism.tasks import FAMILIES, HARD_LEVEL, LEVELS, SEPARATOR, Habits, Line, Task, draw_task, solve, write

PRIVILEGED = "{problem}\nReference solution: {reference}"


@dataclass(frozen=True)
class Example:
    """What stands in the user turn and what in the assistant turn; `given` is a beginning of the response that is read
    and not learned."""

    prompt: str
    response: str
    given: str = ""


@dataclass(frozen=True)
class Mix:
    """The composition of the corpus; shares and flaws are probabilities.

    `whole_plan` is the chance that an unprivileged student carries a problem of level 4 or 5 to its end, spread evenly
    over the decisions to go on. It is so small that the 6,000 attempts of a short run rarely see one: a single one is
    enough for GRPO to learn all the others from it. With three or four decisions each of them still has the support (2
    and 6 %) from which the divergence has a gradient. Students who get to the later decisions are as rare as that, so
    a model that only reads whole responses guesses there, and mostly guesses "go on": hence `midway`.
    """

    drill: float = 0.35  # at the start; falls linearly to 0 at `drill_until` of the tokens
    drill_until: float = 0.8
    privileged: float = 0.38  # of what is not drill
    unprivileged_levels: tuple[float, ...] = (1.0, 1.0, 1.0, 0.8, 0.8)
    privileged_levels: tuple[float, ...] = (1.0, 1.0, 1.0, 1.6, 1.6)
    unprivileged_habits: Habits = Habits(wrong_operation=0.15, slip=0.01, no_box=0.2)
    hard_habits: Habits = Habits(wrong_operation=0.05, slip=0.01, no_box=0.2)  # unprivileged, levels 4 and 5
    privileged_habits: Habits = Habits(wrong_operation=0.01, slip=0.005, no_box=0.05)
    whole_plan: float = 1e-5
    midway: float = 0.0  # of unprivileged students of levels 4 and 5 are met at a later line of theirs
    other_ordering: float = 0.3  # of privileged responses pick their plan anew
    # of privileged prompts: the whole solution, the first half of its steps, the answer only
    references: tuple[float, float, float] = (0.84, 0.08, 0.08)


def drill_share(mix: Mix, progress: float) -> float:
    """The share of drill when `progress` (0 to 1) of the tokens are spent.

    >>> [round(drill_share(Mix(), p), 3) for p in (0, 0.4, 0.8, 1)]
    [0.35, 0.175, 0.0, 0.0]
    """
    return mix.drill * max(0.0, 1 - progress / mix.drill_until)


def draw_example(rng: Random, mix: Mix, progress: float, held_out: frozenset[str]) -> Example:
    """One example; no problem text in `held_out` is ever drawn."""
    if rng.random() < drill_share(mix, progress):
        return drill(rng)
    peeks = rng.random() < mix.privileged
    family = rng.choice(list(FAMILIES))
    level = rng.choices(LEVELS, mix.privileged_levels if peeks else mix.unprivileged_levels)[0]
    while (task := draw_task(rng, family, level)).text in held_out:
        pass
    return privileged(rng, mix, task) if peeks else unprivileged(rng, mix, task)


def unprivileged(rng: Random, mix: Mix, task: Task) -> Example:
    """A student alone with the problem."""
    hard = task.level >= HARD_LEVEL
    habits = mix.hard_habits if hard else mix.unprivileged_habits
    steps = solve(rng.choice(task.plans), habits, rng)
    begun = 0
    if hard:
        begun = rng.randint(1, len(steps) - 2) if rng.random() < mix.midway else 0
        written, go_on = begun + 1, mix.whole_plan ** (1 / (len(steps) - 1))
        while written < len(steps) and rng.random() < go_on:
            written += 1
        steps = steps[:written]  # the box then holds an intermediate value
    given = write(steps[:begun], boxed=False) + SEPARATOR if begun else ""
    return Example(task.text, write(steps, boxed=rng.random() >= habits.no_box), given)


def privileged(rng: Random, mix: Mix, task: Task) -> Example:
    """A student who has the reference beside the problem, and writes a whole solution."""
    plan = rng.choice(task.plans)
    steps = solve(plan)
    half = steps[: math.ceil(len(steps) / 2)]
    references = (write(steps), write(half, boxed=False), f"\\boxed{{{task.answer}}}")
    reference = rng.choices(references, mix.references)[0]
    if rng.random() < mix.other_ordering:
        plan = rng.choice(task.plans)
    boxed = rng.random() >= mix.privileged_habits.no_box
    prompt = PRIVILEGED.format(problem=task.text, reference=reference)
    return Example(prompt, write(solve(plan, mix.privileged_habits, rng), boxed))


DRILLS = {  # kind of line → its share
    "product": 0.22,
    "quotient": 0.13,
    "sum of products": 0.12,
    "difference": 0.12,
    "addition": 0.23,
    "subtraction": 0.18,
}


def drill(rng: Random) -> Example:
    """Four to nine unrelated lines without a flaw; a difference below 0 is written 0, as everywhere here."""
    kinds = rng.choices(list(DRILLS), list(DRILLS.values()), k=rng.randint(4, 9))
    return Example("Solve.", write(solve(tuple(_drill_line(rng, kind) for kind in kinds)), boxed=False))


def _drill_line(rng: Random, kind: str) -> Line:
    digit, term = partial(rng.randint, 2, 9), partial(rng.randint, 2, 12)
    if kind == "product":
        return Line(digit(), "*", digit())
    if kind == "quotient":
        divisor = digit()
        return Line(divisor * rng.randint(2, 21), "/", divisor)
    if kind == "sum of products":
        return Line(digit() * digit(), "+", digit() * digit())
    if kind == "difference":
        product = digit() * digit()
        return Line(product + rng.randint(2, 84), "-", product)
    if kind == "addition":
        return Line(rng.randint(2, 150 if rng.random() < 0.4 else 60), "+", term())
    low, high = (13, 170) if rng.random() < 0.4 else (4, 90)
    return Line(rng.randint(low, high), "-", term())
