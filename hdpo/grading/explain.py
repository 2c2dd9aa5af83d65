"""One verdict laid open: how the grader reads gold and answer, the rule that decided, and the verdict."""

from hdpo.grading.boxes import BOX, answer_in
from hdpo.grading.graders import MATH, Grader, choice_in, number_in
from hdpo.grading.normalise import read
from hdpo.grading.verify import VerifierPool


def parse(grader: Grader, text: str) -> str:
    r"""One side, gold or answer, as this grader reads it.

    >>> parse(Grader("math"), r"x = 12\text{ cm}"), parse(Grader("number"), "about 1,200")
    ('12 (named x, in cm), compared by math-verify', '1200')
    """
    if grader.kind in (MATH, "pattern"):
        side = read(text)
        facts = [f"named {side.name}" * bool(side.name), f"in {side.unit}" * bool(side.unit), "per cent" * side.percent]
        said = ", ".join(filter(None, facts))
        return f"{side.text or 'nothing'}{f' ({said})' if said else ''}, compared {side.kind.value}"
    if grader.kind == "number":
        return "no number" if (found := number_in(text)) is None else f"{found:.15g}"
    return (choice_in(text) or "no letter") if grader.kind == "choice" else text.strip()


def explain(pool: VerifierPool, gold: str, answer: str) -> dict[str, str]:
    r"""What the pool's grader makes of an answer: gold, answer (as it was found), both as they are read, rule and verdict.

    answer: a whole completion, or for `math` also what would stand in its box. Raises BadInput where a person's own grader
    fails.
    """
    whole = pool.grader.kind != MATH or answer_in(answer) is not None or BOX.search(answer) or "think>" in answer
    (fine,), (found,) = pool.gold_ok([gold]), pool.grade([(answer if whole else f"\\boxed{{{answer}}}", gold)])
    return {
        "gold": gold,
        "answer": found.answer,
        "gold_read": parse(pool.grader, gold),
        "answer_read": parse(pool.grader, found.answer) if found.answer else "no answer",
        "rule": (found.rule or "no verdict within its time") if fine else "nobody can be right about this gold",
        "verdict": found.outcome.value if fine else "ungradable",
    }
