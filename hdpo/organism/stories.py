"""Stories of one quantity, for a real language model to be raised on: their problems, and the students who work on them.

A kind is an opener (`0`: a things; `1`: b bags of a things) and its events: `+`, `-`, `x` (doubles), `/` (splits into
piles, and asks for one), `B` (buys d bags of c: two lines). Easy and middle kinds are the mixed prompts. Purchases are
the cliffs: most students misread "buys 4 bags of 8" as 4 more, or 8, and each of the two decisions on the right way has
a small probability (`RIGHT`), so that a divergence has support to work on. `HELD_OUT` kinds stand in no corpus and in no
training set.
"""

from dataclasses import dataclass
from random import Random

from hdpo.organism.corpus import Example
from hdpo.organism.tasks import Habits, Line, Of, Plan, Task, arithmetic, solve, write
from hdpo.records import Problem

EASY = ("0+", "0-", "1", "0x", "1+", "1-", "0++", "0+-", "0-+", "0--", "0x+", "0+x", "0/", "1/")
MIDDLE = ("1++", "1+-", "1-+", "1--", "0+++", "0-+-", "1x", "0-x")
PURCHASES = ("0B", "0-B", "1B", "1B-", "1B+", "1+B", "0B+", "0B-", "1B/")
HELD_OUT = ("0+-+", "0x-", "1-B", "0B/")
LEVEL = {kind: level for level, kinds in enumerate((EASY, MIDDLE, PURCHASES), 1) for kind in kinds}
LEVEL |= {kind: 3 if "B" in kind else 2 for kind in HELD_OUT}
MOST = 99  # no number of a story is larger
RIGHT = 0.15  # with which a student takes the right way, at each of the two decisions of a purchase
NAMES = ("Ana", "Ben", "Tom", "Sam", "Mia", "Max", "Amy", "Leo")
THINGS = ("pens", "books", "coins", "cards", "eggs", "cups", "keys", "toys")
CARELESS = Habits(wrong_operation=0.06, no_box=0.12)
MISREADING = Habits(wrong_operation=0.03, no_box=0.1)
WITH_REFERENCE = Habits(wrong_operation=0.01, no_box=0.04)
PRIVILEGED = "{problem}\nReference solution: {reference}"


def draw_story(rng: Random, kind: str) -> Task:
    """A problem of this kind, with its one plan.

    >>> task = draw_story(Random(4), "1B")
    >>> task.text, task.solutions
    ('Sam has 9 bags of 8 eggs and buys 2 bags of 3. How many eggs?', ('9*8=72; 2*3=6; 72+6=78 \\\\boxed{78}',))
    """
    while True:
        task = _try_story(rng, kind)
        values = [step.value for step in solve(task.plans[0])] if task else [0]
        if task and min(values) >= 1 and max(values) <= MOST:
            return task


def _try_story(rng: Random, kind: str) -> Task | None:
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    lines: list[Line] = []
    events: list[str] = []
    asked = f"How many {things}?"
    value: int = rng.randint(3, 30)
    told = f"{name} has {value} {things}"
    if kind[0] == "1":
        a, b = rng.randint(2, 9), rng.randint(2, 9)
        told, value = f"{name} has {b} bags of {a} {things}", a * b
        lines.append(Line(b, "*", a))

    def goes_on(operation: str, right: int | Of, number: int) -> None:
        nonlocal value
        lines.append(Line(_last(lines, value), operation, right))
        value = arithmetic(value, operation, number)

    for event in kind[1:]:
        n = rng.randint(2, 12)
        if event == "+":
            events.append(rng.choice((f"gets {n} more", f"finds {n} more")))
            goes_on("+", n, n)
        elif event == "-":
            if n >= value:
                return None
            events.append(rng.choice((f"loses {n}", f"sells {n}")))
            goes_on("-", n, n)
        elif event == "x":
            events.append("doubles them")
            goes_on("*", 2, 2)
        elif event == "/":
            piles = [d for d in range(2, 10) if value % d == 0 and 2 <= value // d <= 12]
            if not piles:
                return None
            n = rng.choice(piles)
            events.append(f"splits them into {n} piles")
            asked = f"How many {things} per pile?"
            goes_on("/", n, n)
        else:
            c, d = rng.randint(2, 9), rng.randint(2, 5)
            events.append(f"buys {d} bags of {c}")
            before = _last(lines, value)
            lines += [Line(d, "*", c), Line(before, "+", Of(len(lines)))]
            value += c * d
    for i, event in enumerate(events):
        told += (" and " if i == len(events) - 1 else ", ") + event
    return Task("story", LEVEL[kind], f"{told}. {asked}", (tuple(lines),))


def _last(lines: list[Line], value: int) -> int | Of:
    return Of(len(lines) - 1) if lines else value


def misread(rng: Random, plan: Plan) -> Plan:
    """As a student reads it who takes "buys d bags of c" for d more, or c, but where he decides rightly; at the second
    decision, what was bought may also be all that he goes on with."""
    found: list[Line] = []
    new: dict[int, int | Of] = {}  # line of the plan → what stands for its result
    skip = -1
    for i, line in enumerate(plan):
        assert isinstance(line, Line)
        if i == skip:
            continue
        left, right = (new[x.line] if isinstance(x, Of) else x for x in (line.left, line.right))
        after = plan[i + 1] if i + 1 < len(plan) else None
        if isinstance(after, Line) and after.right == Of(i):  # a product that is added to what was there before
            skip = i + 1
            before = new[after.left.line] if isinstance(after.left, Of) else after.left
            if rng.random() < RIGHT:
                found.append(Line(left, "*", right))
                if rng.random() < RIGHT:
                    found.append(Line(before, "+", Of(len(found) - 1)))
                elif rng.random() < 0.5:
                    found.append(Line(Of(len(found) - 1), "+", left))
            else:
                found.append(Line(before, "+", left if rng.random() < 0.7 else right))
            new[i] = new[i + 1] = Of(len(found) - 1)
        else:
            found.append(Line(left, line.operation, right))
            new[i] = Of(len(found) - 1)
    return tuple(found)


def draw_group(rng: Random, progress: float, held_out: frozenset[str]) -> list[Example]:
    """One prompt with its responses: drill at first, then unprivileged and privileged work. No text of `held_out`."""
    if rng.random() < 0.4 * max(0.0, 1 - 1.6 * progress):
        return [Example("Calculate.", write(solve(tuple(_drill(rng) for _ in range(8))), boxed=False))]
    chance = rng.random()
    if chance < 0.35:  # with the reference
        task = _unknown(rng, rng.choices((EASY, MIDDLE, PURCHASES), (0.3, 0.25, 0.45))[0], held_out)
        prompt = PRIVILEGED.format(problem=task.text, reference=task.solutions[0])
        return [Example(prompt, work(rng, task.plans[0], WITH_REFERENCE))]
    if chance < 0.65:
        task = _unknown(rng, PURCHASES, held_out)
        return [Example(task.text, work(rng, misread(rng, task.plans[0]), MISREADING)) for _ in range(3)]
    task = _unknown(rng, EASY if rng.random() < 0.7 else MIDDLE, held_out)
    return [Example(task.text, work(rng, task.plans[0], CARELESS)) for _ in range(2)]


def work(rng: Random, plan: Plan, habits: Habits) -> str:
    return write(solve(plan, habits, rng), boxed=rng.random() >= habits.no_box)


def _unknown(rng: Random, kinds: tuple[str, ...], held_out: frozenset[str]) -> Task:
    while (task := draw_story(rng, rng.choice(kinds))).text in held_out:
        pass
    return task


def _drill(rng: Random) -> Line:
    operation = rng.choice("++--***/")
    if operation == "+":
        return Line(rng.randint(2, 87), "+", rng.randint(2, 12))
    if operation == "-":
        right = rng.randint(2, 12)
        return Line(right + rng.randint(1, 87), "-", right)
    if operation == "*":
        doubled = rng.random() < 0.25
        return Line(rng.randint(5, 48), "*", 2) if doubled else Line(rng.randint(2, 9), "*", rng.randint(2, 9))
    right = rng.randint(2, 9)
    return Line(right * rng.randint(2, 12), "/", right)


def story_sets(seed: int = 0) -> dict[str, list[Problem]]:
    """Split → problems, no text twice. Purchases are a third of what is trained on, and of the validation and test
    problems whose kinds are trained on; a quarter of these two are of kinds that are not."""
    rng, taken = Random(seed), set[str]()
    sets: dict[str, list[Problem]] = {}
    for split, count in {"validation": 96, "test": 96, "train": 400}.items():
        sets[split] = []
        for i in range(count):
            new = split != "train" and i % 4 == 3
            kinds = HELD_OUT if new else rng.choices((EASY, MIDDLE, PURCHASES), (7, 5, 6))[0]
            task = _unknown(rng, kinds, frozenset(taken))
            taken.add(task.text)
            made = f"stories-{split}-{i + 1:04d}", task.text, task.solutions[0], task.answer
            sets[split].append(Problem(*made, "new kinds" if new else "trained kinds", task.level))
    return sets


@dataclass(frozen=True)
class Raising:
    """How long and how fast: linear warm-up, then linearly down to 5 % of the peak."""

    steps: int = 280
    seed: int = 0
    peak_lr: float = 1.5e-3
    warmup: int = 10  # steps
    micro_batch_tokens: int = 1024

    def lr(self, step: int) -> float:
        """
        >>> [round(Raising(steps=100).lr(s), 6) for s in (0, 9, 50, 99)]
        [0.00015, 0.001365, 0.00075, 7.5e-05]
        """
        return self.peak_lr * min(1.0, (step + 1) / self.warmup) * max(0.05, 1 - step / self.steps)
