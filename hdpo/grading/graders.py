"""Graders by name, and the child process of all but `math`: `python -m hdpo.grading.graders SPEC CPU_SECONDS`.

`math` is math-verify (`judge`). The others: `exact`, `number` or `number:0.01` (a relative tolerance), `choice` (a letter),
`pattern:REGEX` (its last match is the answer, compared as `math` does), and `FILE.py:FUNCTION`, called with completion, gold
and problem: it returns 0 or 1, or a score that counts from 1 on, or from X on with `FILE.py:FUNCTION>=X`. Completions are
hostile text and a function is somebody's own: both are met in a process that can be killed. What goes wrong in such a
function ends the run with its line, and is never a reward.
"""

import ast
import importlib.util
import json
import math
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hdpo.errors import BadInput, first_line
from hdpo.grading import AS_TEXT, NO_VERDICT, NOWHERE, Reply
from hdpo.grading.boxes import answer_in
from hdpo.gym import PREFIX as GYM
from hdpo.gym import scorer
from hdpo.records import Outcome

MATH = "math"
TOLERANCE = 1e-9  # of `number`, relative
NAMES = "math, exact, number, number:TOLERANCE, choice, pattern:REGEX or FILE.py:FUNCTION"
_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_LETTER = re.compile(r"\(?\b([A-H])\b\)?")
_CHOSEN = re.compile(r"(?i:answer)(?:\s+is)?\s*:?\s*\(?([A-H])\b")


@dataclass(frozen=True)
class Grader:
    """kind: math, exact, number, choice, pattern or own. value: a tolerance or threshold; text: a pattern, or a function's name;
    file: where it stands."""

    kind: str
    value: float = 0.0
    text: str = ""
    file: str = ""


def grader_of(spec: str) -> Grader:
    """
    >>> grader_of("number:0.01"), grader_of("pattern:#### (.+)").text
    (Grader(kind='number', value=0.01, text='', file=''), '#### (.+)')

    Raises BadInput for what is none of them, and for a file without that function; the file is read, not run.
    """
    kind, _, rest = spec.partition(":")
    if spec in (MATH, "exact", "choice"):
        return Grader(spec)
    if kind == "number" and (value := _float(rest or str(TOLERANCE))) is not None and value >= 0:
        return Grader(kind, value)
    if kind == "pattern" and rest:
        try:
            groups = re.compile(rest).groups
        except re.error as e:
            raise BadInput(f"grader: expected a regular expression, found '{e}' in {rest!r}. Mend it.") from e
        if groups > 1:
            raise BadInput(f"grader: expected at most one group, the answer, found {groups}. Write the others (?:…).")
        return Grader(kind, text=rest)
    if spec.startswith(GYM):
        return Grader("gym", 1.0, spec)
    if own := re.fullmatch(r"(.+\.py):(\w+)(?:>=([\d.eE+-]+))?", spec):
        least = _float(own[3] or "1")
        path = Path(own[1]).expanduser()
        if least is not None and _function_in(path, own[2]):
            return Grader("own", least, own[2], str(path.resolve()))
    raise BadInput(f"grader: expected {NAMES}, found {spec!r}. Choose one of them.")


def whole(spec: str) -> str:
    """The same from any folder: a person's own with the whole path of its file."""
    grader = grader_of(spec)
    return f"{grader.file}:{spec.rpartition(':')[2]}" if grader.file else spec


def _function_in(path: Path, name: str) -> bool:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError) as e:
        raise BadInput(f"grader: expected Python in {path.name}, found '{first_line(e)}'. Check the file.") from e
    names = [n.name for n in tree.body if isinstance(n, ast.FunctionDef)]
    if name not in names:
        known = ", ".join(names) or "none"
        raise BadInput(f"grader: expected a function {name} in {path.name}, found {known}. Name one of the file.")
    return True


def _float(text: str) -> float | None:
    try:
        return x if math.isfinite(x := float(text)) else None
    except ValueError:
        return None


def number_in(text: str | None) -> float | None:
    """The last number of a text.

    >>> number_in("1,234.50 pens"), number_in("none"), number_in("-3 or 4e2")
    (1234.5, None, 400.0)
    """
    found = _NUMBER.findall(text or "")
    return _float(found[-1].replace(",", "")) if found else None


def choice_in(text: str | None) -> str | None:
    """The letter that a text ends on: the one called the answer, else the last that stands alone.

    >>> choice_in("A is wrong. The answer is (B)."), choice_in("C"), choice_in("so D, I think"), choice_in("none")
    ('B', 'C', 'D', None)
    """
    found = _CHOSEN.findall(text or "") or _LETTER.findall(text or "")
    return str(found[-1]) if found else None


def judge(grader: Grader, request: dict[str, str], own: Callable[..., Any] | None = None) -> Reply:
    """{"ok"} for a gold alone; {"outcome", "answer", "rule"} for a completion; {"error"} where a person's own function fails."""
    gold, completion = request["gold"].strip(), request.get("completion")
    if completion is None:
        return {"ok": bool(gold) and _gold_ok(grader, gold)}
    if own and grader.file:
        return _by_own(own, grader, request)
    answer = _answer(grader, completion.rpartition("</think>")[2])
    if answer is None or answer == "":
        return {"outcome": Outcome.NO_ANSWER.value, "answer": "", "rule": NOWHERE}
    try:
        by_task = own and (own(answer, request["problem"]) >= grader.value, "the task's own scorer")
        right, rule = by_task or _same(grader, gold, answer)
    except Exception:  # a task's scorer on hostile text: no verdict, and no reward
        return {**NO_VERDICT, "answer": answer}
    return {"outcome": (Outcome.CORRECT if right else Outcome.WRONG).value, "answer": answer, "rule": rule}


def _gold_ok(grader: Grader, gold: str) -> bool:
    if grader.kind == "number":
        return number_in(gold) is not None
    if grader.kind == "choice":
        return choice_in(gold) is not None
    if grader.kind == "pattern":
        from hdpo.grading.judge import judge as by_math

        return bool(by_math({"gold": gold}).get("ok"))
    return True


def _answer(grader: Grader, text: str) -> str | None:
    if grader.kind == "pattern":
        found = list(re.finditer(grader.text, text))
        return (found[-1][found[-1].re.groups] or "").strip() if found else None
    boxed = answer_in(text)
    if grader.kind == "gym":
        tagged = re.findall(r"<answer>(.*?)</answer>", text, re.DOTALL)
        return tagged[-1].strip() if tagged else boxed
    if grader.kind == "exact":
        return boxed if boxed is not None else text.strip()
    said = text if boxed is None else boxed
    if grader.kind == "choice":
        return choice_in(said)
    value = number_in(said)
    return None if value is None else f"{value:.15g}"


def _same(grader: Grader, gold: str, answer: str) -> tuple[bool, str]:
    if grader.kind == "number":
        g, a = number_in(gold), number_in(answer)
        near = g is not None and a is not None and abs(g - a) <= grader.value * max(abs(g), 1e-12)
        return near, f"within {grader.value:g} of the gold, relatively"
    if grader.kind == "choice":
        return choice_in(gold) == answer, "the letters"
    if grader.kind == "pattern" and gold != answer:
        from hdpo.grading.judge import judge as by_math

        reply = by_math({"gold": gold, "answer": answer})
        return reply["outcome"] == Outcome.CORRECT.value, reply.get("rule", "no verdict was found")
    return gold == answer, AS_TEXT


def _by_own(own: Callable[..., Any], grader: Grader, request: dict[str, str]) -> Reply:
    try:
        score = own(request["completion"], request["gold"], request["problem"])
    except Exception as e:  # somebody's own code fails in any way
        return failed(grader, e)
    if not (isinstance(score, bool | int | float) and math.isfinite(score)):
        found = f"expected 0, 1 or a score, found {score!r}"[:200]
        return {"error": f"grader: {grader.text} in {Path(grader.file).name}: {found}. Return a number."}
    right = float(score) >= grader.value
    facts = {"answer": f"score {float(score):g}", "rule": f"right from {grader.value:g} on"}
    return {"outcome": (Outcome.CORRECT if right else Outcome.WRONG).value, **facts}


def failed(grader: Grader, e: Exception) -> Reply:
    name = Path(grader.file).name
    lines = [f.lineno for f in traceback.extract_tb(e.__traceback__) if f.filename == grader.file]
    at = f"line {lines[-1]} of {name}" if lines else name
    return {"error": f"grader: {at}: {type(e).__name__}: {first_line(e)}. Mend {grader.text}."}


def answers(grader: Grader) -> Callable[[dict[str, str]], Reply]:
    """What the child answers with; a person's file is run here, and a task's problems are made."""
    if grader.kind == "gym":
        return partial(judge, grader, own=scorer(grader.text))
    if not grader.file:
        return partial(judge, grader)
    try:
        spec = importlib.util.spec_from_file_location("grader", grader.file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return partial(judge, grader, own=getattr(module, grader.text))
    except Exception as e:
        reply = failed(grader, e)
        return lambda request: reply


if __name__ == "__main__":
    from hdpo.grading.judge import serve

    chosen = Grader(**json.loads(sys.argv[1]))
    serve(float(sys.argv[2]), lambda: answers(chosen))
