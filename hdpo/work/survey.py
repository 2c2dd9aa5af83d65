"""What a problem set is, before anything runs: columns, counts, golds, lengths, and what y* will be.

A set is read once and no problem is held but those drawn, so that 300,000 rows take the memory of a small one. Golds and
lengths are those of the problems drawn, by a seeded draw among all; of a set of up to SAMPLE problems that is all of them.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import accumulate
from typing import Any

from hdpo.config import Information, ModelConfig, PromptConfig, ScanConfig
from hdpo.data.columns import NAMES, offer
from hdpo.data.problems import TOLD, divided, first_rows, told
from hdpo.data.prompts import fits, privileged_messages, reference, render, student_messages
from hdpo.data.sets import called
from hdpo.errors import BadInput, brief
from hdpo.grading.boxes import answer_in
from hdpo.grading.graders import MATH
from hdpo.grading.verify import VerifierPool
from hdpo.model.find import at_hand, facts
from hdpo.records import Problem

SAMPLE = 2000  # problems whose golds and lengths are looked at
CHARACTERS = 10**7  # of the problems whose tokens are counted: some ten seconds
SHOWN = 3  # problems shown
TRIED = 50  # problems of which the grader judges y* itself
LOOKED_AT = 100  # rows by which the columns are known
ENOUGH = 50  # held-out problems, below which few effects show

Facts = dict[str, Any]


def survey(config: ScanConfig, report: Callable[[int], None] = lambda read: None) -> Facts:
    """As JSON can hold it: `problems`, `columns` (all of them; `fields`, ours → theirs), `shown`, `counts` (which
    `hdpo.data.problems.told` reads), `sides` (split → problems), `grader`, `lengths` (tokens), `told` (sentences) and
    `warnings`. report: is told how many rows were read, and may raise to end it.

    Raises BadInput for a set that cannot be read, and a person's own grader that fails on y*.
    """
    data, count, sides = config.data, Counter[str](), Counter[str](train=0, validation=0)
    skipped: list[str] = []
    drawn: list[Problem] = []
    shown: list[Problem] = []
    solved, longest, choice = 0, Problem("", "", "", "", ""), random.Random(data.split_seed)
    for n, (side, problem) in enumerate(divided(data, count, skipped, report)):
        sides[side] += 1
        solved += bool(problem.solution)
        longest = max(longest, problem, key=lambda p: len(p.text) + len(p.solution))
        if n < SAMPLE:
            drawn.append(problem)
        elif (at := choice.randrange(n + 1)) < SAMPLE:
            drawn[at] = problem
        if n < SHOWN:
            shown.append(problem)
    total = sides.total()
    counts: Facts = dict(count) | {"problems": total, "skipped": len(skipped), "unsolved": total - solved}
    counts |= {"duplicates": count["duplicates"], "skipped_first": skipped[:TOLD]}
    found = {
        "problems": called(data.problems),
        **_columns(config),
        "shown": [asdict(p) for p in shown],
        "counts": counts,
        "sides": dict(sides),
        "grader": _graded(data.grader, drawn, config.prompts),
        "lengths": _lengths(config, drawn, longest),
    }
    return found | {"told": sentences(found, config), "warnings": warnings(found, config)}


def _columns(config: ScanConfig) -> Facts:
    """The columns of a set, and which of them became which field."""
    rows = first_rows(config.data, LOOKED_AT)
    columns, by_name = offer(rows)
    fields = config.data.mapping() or by_name
    if "solution" not in fields and any("####" in str(row.get(fields["answer"], "")) for row in rows):
        fields = {**fields, "solution": fields["answer"]}
    return {"columns": list(columns), "fields": {f: fields[f] for f in NAMES if f in fields}}


def _graded(grader: str, drawn: Sequence[Problem], prompts: PromptConfig) -> Facts:
    """How many golds the grader refuses, and of how many problems it accepts y* itself as an answer."""
    with VerifierPool(grader=grader) as pool:
        fine = pool.gold_ok([p.answer for p in drawn])
        bad = [p for p, ok in zip(drawn, fine, strict=True) if not ok]
        both = [(p, _star(p, prompts)) for p, ok in zip(drawn, fine, strict=True) if ok]
        tried = [(p, star) for p, star in both if grader != MATH or answer_in(star) is not None][:TRIED]
        verdicts = pool.grade([(star, p.answer) for p, star in tried], [p.text for p, _ in tried])
    accepted = sum(v.outcome.is_correct for v in verdicts)
    first = [{"id": p.id, "gold": p.answer} for p in bad[:TOLD]]
    facts = {"name": grader, "looked_at": len(drawn), "refused": len(bad), "first": first}
    return facts | {"tried": len(tried), "accepted": accepted}


def _star(problem: Problem, prompts: PromptConfig) -> str:
    """y*, whole: the worked solution, or the answer in a box where there is none."""
    alone = not problem.solution or prompts.information is Information.ANSWER
    return reference(problem, Information.ANSWER if alone else Information.SOLUTION)


def _lengths(config: ScanConfig, drawn: Sequence[Problem], longest: Problem) -> Facts:
    """Prompt tokens of both prompts, and how many leave no room; {"unknown": a sentence} where nobody can count yet."""
    try:
        tokenizer, context = _tokenizer(config.model)
    except BadInput as e:
        return {"unknown": str(e)}
    new, prompts = config.sampling.max_new_tokens, config.prompts
    sizes = accumulate(len(p.text) + len(p.solution) for p in drawn)
    drawn = [p for p, size in zip(drawn, sizes, strict=True) if size <= CHARACTERS] or drawn[:1]
    several = drawn if longest in drawn else [*drawn, longest]
    sides = {
        "student": [student_messages(p, prompts) for p in several],
        "privileged": [privileged_messages(p, prompts, _star(p, prompts)) for p in several],
    }
    found: Facts = {"looked_at": len(drawn), "context": context, "new": new}
    for side, messages in sides.items():
        lengths = [len(render(tokenizer, m)[1]) for m in messages]
        ranked = sorted(lengths[: len(drawn)])
        found[side] = {
            "median": ranked[len(ranked) // 2],
            "p95": ranked[math.ceil(0.95 * len(ranked)) - 1],
            "longest": max(lengths),
            "too_long": sum(not fits(n, new, context) for n in ranked),
        }
    return found


def _tokenizer(model: ModelConfig) -> tuple[Any, int]:
    """A model's tokenizer and its context in tokens. Raises BadInput where it is not here as a folder yet."""
    place = at_hand(model)
    from hdpo.model.base import load_tokenizer  # torch

    return load_tokenizer(place.folder, model), facts(place).context


def sentences(found: Facts, config: ScanConfig) -> list[str]:
    """What a survey found, for a person."""
    data, c, g, length = config.data, found["counts"], found["grader"], found["lengths"]
    renamed = ", ".join(f"{field} from {column}" for field, column in found["fields"].items() if field != column)
    sides = ", ".join(f"{side} {n:,}" for side, n in found["sides"].items())
    if not (data.problems.startswith("bundled:") or data.validation_problems):
        sides += f" ({100 * data.validation_share:g} % by a hash of the text, seed {data.split_seed})"
    drawn = "" if g["looked_at"] == c["problems"] else f", of {g['looked_at']:,} drawn"
    judged = f"; given y* itself it says right {g['accepted']} times of {g['tried']}" if g["tried"] else ""
    said = [
        f"Columns: {brief(', '.join(found['columns']), 300)}. Read {f'as {renamed}' if renamed else 'by their names'}.",
        f"{told(c)}.",
        f"Sides: {sides}.",
        _star_words(c, config),
        f"Grader {g['name']} refuses {g['refused']:,} golds{drawn}{judged}.",
    ]
    if "unknown" in length:
        return [*said, f"Lengths in tokens are not known yet: {length['unknown']}"]
    for side, prompts in (("student", "Prompts"), ("privileged", "Prompts with y*")):
        s = length[side]
        sizes = f"median {s['median']:,}, 95 % up to {s['p95']:,}, longest {s['longest']:,}"
        few = "" if length["looked_at"] == c["problems"] else f", of {length['looked_at']:,} drawn"
        said += [f"{prompts}{few}: {sizes} tokens."]
    held = f"{length['context']:,} tokens, {length['new']:,} of them for the completion"
    return [*said, f"The context of {config.model.model} holds {held}."]


def _star_words(counts: Facts, config: ScanConfig) -> str:
    """What y* will be."""
    n, unsolved = counts["problems"], counts["unsolved"]
    boxed = r"the final answer alone, as \boxed{…}"
    if config.prompts.information is Information.ANSWER:
        return f"y* is {boxed}, as --information answer asks."
    if unsolved == n:
        needs = "A scan, an evaluation and --lambda 0 need none"
        return f"No problem has a worked solution, so y* can only be {boxed}: --information answer. {needs}."
    some = f"; {unsolved:,} problems have none and leave a training, unless --information answer" if unsolved else ""
    return f"y* is the worked solution{some}."


def warnings(found: Facts, config: ScanConfig) -> list[str]:
    """What of it a person should mend before a run."""
    c, g, length, said = found["counts"], found["grader"], found["lengths"], []
    held_out, bundled = found["sides"]["validation"], config.data.problems.startswith("bundled:")
    if held_out < ENOUGH and not bundled:
        share, way = ENOUGH / c["problems"], "Bring more"
        if share <= 0.5 and not config.data.validation_problems:
            way = f"Raise --validation-share to {math.ceil(share * 100) / 100:g}"
        few = f"{held_out} validation problems: below {ENOUGH} hardly any difference can be told"
        said += [f"{few}. {way}, or give --validation-problems FILE."]
    if g["refused"]:
        first = brief("; ".join(f"{bad['id']}: {bad['gold']}" for bad in g["first"][:3]))
        said += [f"{g['refused']:,} golds nobody can be right about leave every count (first: {first})."]
    if g["accepted"] < g["tried"] / 2:
        said += [
            f"Grader {g['name']} says wrong of most y*: does this set write answers so? Choose another with --grader."
        ]
    without, peek = (length.get(side, {}).get("too_long", 0) for side in ("student", "privileged"))
    if without or peek:
        lost = f"{without:,} prompts, and {peek:,} with y*, leave no room for {length['new']:,} new tokens and are left out"
        said += [f"{lost}. Lower --max-new-tokens, or take a model with a longer context."]
    return said
