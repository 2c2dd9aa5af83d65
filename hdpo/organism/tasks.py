"""Four families of small arithmetic problems at five levels, and the solvers who work on them.

A problem has one or two *plans*: orderings of its lines that a solver may write. Levels 1 to 3 are routine; levels 4
and 5 are longer compositions with two to four decisions to go on. All numbers stay below 200, so that the arithmetic
itself is easy and what decides about success is the plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

LEVELS = (1, 2, 3, 4, 5)
HARD_LEVEL = 4  # from here on the unprivileged students of the corpus stop too early
BOX = " \\boxed{"
STEP_SEPARATOR = "; "


@dataclass(frozen=True)
class Of:
    """The result of an earlier line of the same plan, counted from 0."""

    line: int


class Line(NamedTuple):
    """One line of a plan, `label` + `left operation right=value`."""

    left: int | Of
    operation: str
    right: int | Of
    label: str = ""


class Given(NamedTuple):
    """A line that every solver writes as it stands."""

    text: str
    value: int


class Step(NamedTuple):
    """One line as a solver wrote it, and the number that it arrived at."""

    text: str
    value: int


Plan = tuple[Line | Given, ...]


@dataclass(frozen=True)
class Habits:
    """How a solver fails, as probabilities: a line with the wrong operation, a line off by 1 or 10, a missing box."""

    wrong_operation: float = 0.0
    slip: float = 0.0
    no_box: float = 0.0


CAREFUL = Habits()


@dataclass(frozen=True)
class Task:
    """A drawn problem with its plans, all of which lead to the same answer."""

    family: str
    level: int
    text: str
    plans: tuple[Plan, ...]

    @property
    def solutions(self) -> tuple[str, ...]:
        """The worked solution by each plan, without any flaw."""
        return tuple(write(solve(plan)) for plan in self.plans)

    @property
    def answer(self) -> str:
        return str(solve(self.plans[0])[-1].value)


def arithmetic(left: int, operation: str, right: int) -> int:
    """What a solver gets for one operation; never below 0, quotients rounded (only flawed lines need either).

    >>> arithmetic(9, "-", 4), arithmetic(4, "-", 9), arithmetic(42, "/", 6)
    (5, 0, 7)
    """
    if operation == "+":
        return left + right
    if operation == "-":
        return max(0, left - right)
    if operation == "*":
        return left * right
    return round(left / max(1, right))


MISTAKEN_FOR = {"+": "-", "-": "+", "*": "+", "/": "-"}


def solve(plan: Plan, habits: Habits = CAREFUL, rng: Random | None = None) -> list[Step]:
    """Work through a plan. A flawed line is carried on: later lines use the number that was written.

    `rng` is needed where `habits` has a flaw.

    >>> write(solve((Line(3, "*", 4), Line(Of(0), "+", 5))))
    '3*4=12; 12+5=17 \\\\boxed{17}'
    """
    steps: list[Step] = []
    for line in plan:
        if isinstance(line, Given):
            steps.append(Step(line.text, line.value))
            continue
        left, right = (steps[x.line].value if isinstance(x, Of) else x for x in (line.left, line.right))
        operation = line.operation
        if rng is not None and rng.random() < habits.wrong_operation:
            operation = MISTAKEN_FOR[operation]
        value = arithmetic(left, operation, right)
        if rng is not None and rng.random() < habits.slip:
            value = max(0, value + rng.choice((1, -1, 10)))
        steps.append(Step(f"{line.label}{left}{operation}{right}={value}", value))
    return steps


def write(steps: Sequence[Step], boxed: bool = True) -> str:
    """The solver's text; the box holds the number of the last step."""
    worked = STEP_SEPARATOR.join(step.text for step in steps)
    return f"{worked}{BOX}{steps[-1].value}}}" if boxed else worked


def first_half(steps: Sequence[Step]) -> list[Step]:
    """The first ceil(n/2) of n steps."""
    return list(steps[: math.ceil(len(steps) / 2)])


def _running_sum(terms: Sequence[int]) -> Plan:
    first = Line(terms[0], "+", terms[1])
    return (first, *(Line(Of(i), "+", term) for i, term in enumerate(terms[2:])))


def _sum(rng: Random, level: int) -> tuple[str, tuple[Plan, ...]]:
    """level + 1 terms of 2 to 12, added from the left or from the right."""
    terms = [rng.randint(2, 12) for _ in range(level + 1)]
    plans = [_running_sum(terms)]
    if level > 1:
        plans.append(_running_sum(terms[::-1]))
    return f"What is {' + '.join(map(str, terms))}?", tuple(plans)


def _two_products(first: tuple[int, int], second: tuple[int, int], *rest: Line) -> tuple[Plan, ...]:
    """first product + second product, then `rest` on line 2; the products come in either order."""
    orders = ((first, second), (second, first))
    return tuple((Line(p[0], "*", p[1]), Line(q[0], "*", q[1]), Line(Of(0), "+", Of(1)), *rest) for p, q in orders)


def _mul(rng: Random, level: int) -> tuple[str, tuple[Plan, ...]]:
    """Products of 2 to 9, from level 2 with terms to add or subtract, from level 4 two products."""
    a, b, c, d = (rng.randint(2, 9) for _ in range(4))
    e = rng.randint(2, 12)
    product, plus = Line(a, "*", b), Line(Of(0), "+", e)
    if level == 1:
        return f"What is {a} * {b}?", ((product,),)
    if level == 2:
        return f"What is {a} * {b} + {e}?", ((product, plus),)
    if level == 3:
        f = rng.randint(2, min(12, a * b + e - 1))
        return f"What is {a} * {b} + {e} - {f}?", ((product, plus, Line(Of(1), "-", f)),)
    if level == 4:
        return f"What is {a} * {b} + {c} * {d}?", _two_products((a, b), (c, d))
    return f"What is {a} * {b} + {c} * {d} + {e}?", _two_products((a, b), (c, d), Line(Of(2), "+", e))


def _linear(rng: Random, level: int) -> tuple[str, tuple[Plan, ...]]:
    """Linear equations in x with the solution 2 to 12; one plan each."""
    x, a, b = rng.randint(2, 12), rng.randint(2, 9), rng.randint(2, 12)
    if level == 1:
        return f"Solve x + {b} = {x + b}.", ((Line(x + b, "-", b, "x="),),)
    if level == 2:
        return f"Solve {a}x = {a * x}.", ((Line(a * x, "/", a, "x="),),)
    if level == 3:
        right = a * x + b
        plan: Plan = (Line(right, "-", b, f"{a}x="), Line(Of(0), "/", a, "x="))
        return f"Solve {a}x + {b} = {right}.", (plan,)
    if level == 4:
        a = rng.randint(4, 9)
        c = rng.randint(2, a - 2)
        k, right = a - c, a * x + b - c * x
        # not "3x=45-9=36": after a line of level 3 the model goes on as it always does there, and no cliff remains
        plan = (Line(right, "-", b), Given(f"{a}x-{c}x={k}x", k), Line(Of(0), "/", k, "x="))
        return f"Solve {a}x + {b} = {c}x + {right}.", (plan,)
    b = rng.randint(2, 9)
    c = rng.randint(2, min(12, 199 - a * (x + b)))
    right = a * (x + b) + c
    plan = (Line(right, "-", c, f"{a}(x+{b})="), Line(Of(0), "/", a, f"x+{b}="), Line(Of(1), "-", b, "x="))
    return f"Solve {a}(x + {b}) + {c} = {right}.", (plan,)


NAMES = ("Ana", "Ben", "Cal", "Dee", "Eli", "Fay")
THINGS = ("apples", "books", "coins", "pens", "cards")


def _word(rng: Random, level: int) -> tuple[str, tuple[Plan, ...]]:
    """Someone has things, in boxes from level 3, gives some away and gets some."""
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    a, b, c, d = (rng.randint(2, 9) for _ in range(4))
    away, got = rng.randint(2, 12), rng.randint(2, 12)
    asked = f"How many {things} now?"
    if level == 1:
        had = rng.randint(2, 30)
        return f"{name} has {had} {things} and gets {got} more. {asked}", ((Line(had, "+", got),),)
    if level == 2:
        had = rng.randint(away + 1, 40)
        return f"{name} has {had} {things} and gives away {away}. {asked}", ((Line(had, "-", away),),)
    boxes = f"{name} has {b} boxes of {a} {things}"
    if level == 3:
        return f"{boxes}. {asked}", ((Line(b, "*", a),),)
    if level == 4:
        away = min(away, a * b)
        away_first: Plan = (Line(b, "*", a), Line(Of(0), "-", away), Line(Of(1), "+", got))
        got_first: Plan = (Line(b, "*", a), Line(Of(0), "+", got), Line(Of(1), "-", away))
        return f"{boxes}, gives away {away} and gets {got} more. {asked}", (away_first, got_first)
    away = min(away, a * b + c * d - 1)
    text = f"{boxes} and {d} boxes of {c} {things} and gives away {away}. {asked}"
    return text, _two_products((b, a), (d, c), Line(Of(2), "-", away))


FAMILIES: dict[str, Callable[[Random, int], tuple[str, tuple[Plan, ...]]]] = {
    "sum": _sum,
    "mul": _mul,
    "linear": _linear,
    "word": _word,
}


def draw_task(rng: Random, family: str, level: int) -> Task:
    """One problem of a family and level.

    >>> task = draw_task(Random(1), "mul", 4)
    >>> task.text, task.answer
    ('What is 4 * 3 + 6 * 3?', '30')
    """
    text, plans = FAMILIES[family](rng, level)
    return Task(family, level, text, plans)
