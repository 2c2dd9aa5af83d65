"""Four families of small arithmetic problems at five levels, and the solvers who work on them.

A problem has one or two *plans*: orderings of its lines that a solver may write. Levels 1 to 3 are routine; levels 4
and 5 are longer compositions, asked in other words: four lines with three decisions to go on, and five with four. All
numbers stay below 200, so that the arithmetic itself is easy and what decides about success is the plan.

Why other words: when both ask "What is 3 * 7 + 12", a model that learns to go on at the upper levels goes on behind the
last line of the lower ones too, and what a large λ gains in coverage there it loses here (measured, see the notebook).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

LEVELS = (1, 2, 3, 4, 5)
HARD_LEVEL = 4  # from here on the unprivileged students of the corpus stop too early
BOX = " \\boxed{"
SEPARATOR = "; "


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


class Step(NamedTuple):
    """One line as a solver wrote it, and the number that it arrived at; in a plan, what every solver writes as it stands."""

    text: str
    value: int


Plan = tuple[Line | Step, ...]


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
    results = {"+": left + right, "-": max(0, left - right), "*": left * right, "/": round(left / max(1, right))}
    return results[operation]


MISTAKEN_FOR = {"+": "-", "-": "+", "*": "+", "/": "-"}


def solve(plan: Plan, habits: Habits = CAREFUL, rng: Random | None = None) -> list[Step]:
    """Work through a plan. A flawed line is carried on: later lines use the number that was written.

    `rng` is needed where `habits` has a flaw.

    >>> write(solve((Line(3, "*", 4), Line(Of(0), "+", 5))))
    '3*4=12; 12+5=17 \\\\boxed{17}'
    """
    steps: list[Step] = []
    for line in plan:
        if isinstance(line, Step):
            steps.append(line)
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
    worked = SEPARATOR.join(step.text for step in steps)
    return f"{worked}{BOX}{steps[-1].value}}}" if boxed else worked


def _running_sum(terms: Sequence[int]) -> Plan:
    first = Line(terms[0], "+", terms[1])
    return (first, *(Line(Of(i), "+", term) for i, term in enumerate(terms[2:])))


def _sum(rng: Random, level: int) -> tuple[str, tuple[Plan, ...]]:
    """level + 1 terms of 2 to 12, added from the left or from the right."""
    terms = [rng.randint(2, 12) for _ in range(level + 1)]
    orders = [terms] if level == 1 else [terms, terms[::-1]]
    plans = tuple(map(_running_sum, orders))
    if level < HARD_LEVEL:
        return f"What is {' + '.join(map(str, terms))}?", plans
    return f"Add {', '.join(map(str, terms[:-1]))} and {terms[-1]}.", plans


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
    text, rest = f"Work out {a} * {b} + {c} * {d} + {e}", [Line(Of(2), "+", e)]
    if level == 5:
        f = rng.randint(2, 12)
        text, rest = f"{text} - {f}", [*rest, Line(Of(3), "-", f)]
    return f"{text}.", _two_products((a, b), (c, d), *rest)


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
    # Lines unlike those of level 3 ("3x=45-9=36"), behind which the model always goes on: no cliff would remain.
    a, b = rng.randint(4, 9), rng.randint(2, 9)
    c = rng.randint(2, a - 2)
    k = a - c
    terms, product = Step(f"{a}x-{c}x={k}x", k), Line(a, "*", b)
    if level == 4:
        right = a * b + k * x
        plan = (terms, product, Line(right, "-", Of(1)), Line(Of(2), "/", k, "x="))
        return f"Find x if {a}(x + {b}) = {c}x + {right}.", (plan,)
    d = rng.randint(2, 12)
    right = a * b + d + k * x
    plan = (terms, product, Line(Of(1), "+", d), Line(right, "-", Of(2)), Line(Of(3), "/", k, "x="))
    return f"Find x if {a}(x + {b}) + {d} = {c}x + {right}.", (plan,)


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
    away = min(away, a * b + c * d - 1)
    text, rest = f"{boxes} and {d} boxes of {c} {things} and gives away {away}", [Line(Of(2), "-", away)]
    if level == 5:
        text, rest = f"{text} and gets {got} more", [*rest, Line(Of(3), "+", got)]
    return f"{text}. How many {things} in the end?", _two_products((b, a), (d, c), *rest)


FAMILIES = {"sum": _sum, "mul": _mul, "linear": _linear, "word": _word}


def draw_task(rng: Random, family: str, level: int) -> Task:
    """One problem of a family and level.

    >>> task = draw_task(Random(1), "mul", 4)
    >>> task.text, task.answer
    ('Work out 4 * 3 + 6 * 3 + 9.', '39')
    """
    return Task(family, level, *FAMILIES[family](rng, level))
