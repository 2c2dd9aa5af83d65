"""The verifier's child process: math-verify behind the tables of `normalise` (see `verify`, the parent's side).

Speaks JSON lines on stdin and stdout, one reply a request, and ends when stdin closes. An item may use so many seconds
of CPU time, not of the clock: a busy machine changes no verdict.
"""

import functools
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify
from sympy import Add, Basic, Eq, Expr, FiniteSet, Float, Mul, Pow, Rational, Tuple, binomial, exp, factorial

from hdpo.grading import NO_VERDICT, Reply, Request
from hdpo.grading.normalise import Kind, Reading, read
from hdpo.records import Outcome

MEMORY_BYTES = 4 << 30  # an expression that is written out may fill any memory within seconds
MOST_BITS = 1 << 18  # of a number that is computed; a tower of powers has more
PLACES, SHARE = Rational(1, 2 * 10**6), Rational(1, 10**5)  # how far a decimal may be from the number it stands for
DIGITS = 30  # that irrational numbers are compared to

AS_READ = NormalizationConfig(units=False, malformed_operators=False, nits=False, boxed="all", equations=False)
BOX = LatexExtractionConfig(try_extract_without_anchor=False, boxed_match_priority=0, normalization_config=AS_READ)


Answer = Callable[[Request], Reply]


class OutOfTime(BaseException):
    """No Exception: sympy catches those."""


def serve(cpu_s: float, make: Callable[[], Answer] = lambda: judge) -> None:
    """Answers requests until stdin closes, by what `make` makes."""
    wire = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not reach the wire
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    answer = make()
    answer({"answer": "\\frac{x}{2}", "gold": "x"})  # builds its tables before the first item
    print(json.dumps({"ready": True}), file=wire, flush=True)
    for line in sys.stdin:
        print(json.dumps(within(cpu_s, json.loads(line), answer)), file=wire, flush=True)


def within(cpu_s: float, request: Request, answer: Answer) -> Reply:
    """The reply to one request, or that there was none within cpu_s seconds of CPU time."""
    if sys.platform == "win32":  # has no such timer: the parent's clock has to do
        return answer(request)
    import resource

    def ring(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    # Python hears the timer between two of its own steps alone: in a long one, the kernel ends this process.
    end, most = math.ceil(time.process_time() + 2 * cpu_s) + 1, resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (end if most == resource.RLIM_INFINITY else min(end, most), most))
    signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        return answer(request)
    except OutOfTime:
        return NO_VERDICT
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def judge(request: Request) -> Reply:
    """The reply to one request: {"ok"} for a gold alone; {"outcome", "rule"} for an answer beside a gold that is ok;
    {"parsed"} for a text to be parsed."""
    try:
        if "parse" in request:
            return {"parsed": parse_words(read(request["parse"]))}
        gold = read(request["gold"])
        if "answer" not in request:
            return {"ok": gradable(gold)}
        right, rule = same(gold, read(request["answer"]))
        return {"outcome": (Outcome.CORRECT if right else Outcome.WRONG).value, "rule": rule}
    except Exception:  # sympy raises anything: whatever it is, there is no verdict
        return NO_VERDICT


def gradable(gold: Reading) -> bool:
    """Whether a verdict on an answer is possible: the gold can be read, and compared with a plain number."""
    if gold.kind is not Kind.MATH:
        return gold.kind is not Kind.NOTHING
    if _parsed(gold.text) is None:
        return False
    same(gold, Reading("1", Kind.MATH))
    return True


def parse_words(side: Reading) -> str:
    return f"{_parsed(side.text) if side.kind is Kind.MATH else side.text} ({side.kind.value})"


def same(gold: Reading, answer: Reading) -> tuple[bool, str]:
    """Whether the answer is right, and the rule that said so."""
    if gold.unit and answer.unit and gold.unit != answer.unit:
        return False, "units are not converted"
    if gold.kind is Kind.TEXT or Kind.OPAQUE in (gold.kind, answer.kind):
        return gold.text == answer.text, "compared as written"
    pairs = [(_bare(gold, answer), _bare(answer, gold))]
    if gold.percent != answer.percent:  # 28 % is 0.28, and is called 28
        pairs += [(f"{g}\\%", a) if gold.percent else (g, f"{a}\\%") for g, a in pairs]
    for g, a in pairs:
        right, rule = (True, "read alike") if g == a else _equal(g, a)
        if right:
            break
    return right, rule


def _bare(side: Reading, other: Reading) -> str:
    """x = 5 without its x, unless another equation stands on the other side."""
    another = side.name != other.name and (other.name or "=" in other.text)
    return f"{side.name}={side.text}" if side.name and another else side.text


def _equal(gold: str, answer: str) -> tuple[bool, str]:
    first, second = _parsed(gold), _parsed(answer)
    if first is None or second is None:
        return False, "one of them is no formula"
    if max(_bits(first), _bits(second)) > MOST_BITS:
        return False, "a number too large to be computed equals its own text alone"
    if any(_same_numbers(e.lhs, e.rhs) is False for e in second.atoms(Eq)):
        return False, "the answer's equation is false"  # 2+2=7 is no way to say 7
    if (decided := _same_numbers(first, second)) is not None:
        return decided, "compared as numbers"
    return verify([first], [second], timeout_seconds=None, raise_on_error=True), "compared by math-verify"


@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> Any:
    """The expression, or None where math-verify finds none."""
    boxed = f"\\boxed{{{text}}}"
    found = parse(boxed, [BOX], "no_fallback", "first_match", parsing_timeout=None, raise_on_error=True)
    return found[0] if found else None


def _bits(e: Any) -> float:
    """At most so many bits has the largest number that is computed for this expression."""
    if isinstance(e, Float):
        e = Rational(str(e))
    if isinstance(e, Rational):
        return float(e.p.bit_length() + e.q.bit_length())
    if isinstance(e, Pow | exp):
        base, power = map(_bits, e.as_base_exp())
        return base * 2 ** min(power, 64)
    parts = [_bits(a) for a in getattr(e, "args", ())]
    if isinstance(e, factorial | binomial):
        return parts[0] * 2 ** min(parts[0], 64)
    return sum(parts) if isinstance(e, Add | Mul) else max(parts, default=1.0)


def _same_numbers(gold: Any, answer: Any) -> bool | None:
    """Whether two numbers, or two lists of numbers, are the same: exactly, or as a decimal stands for one. None: ask
    math-verify, which rounds to six places whatever the size."""
    for group in (Tuple, FiniteSet):
        if isinstance(gold, group) and isinstance(answer, group) and len(gold.args) == len(answer.args):
            told = [[_same_numbers(g, a) for a in answer.args] for g in gold.args]
            if any(None in row for row in told):
                return None
            if group is Tuple:
                return all(row[i] for i, row in enumerate(told))
            return all(map(any, told)) and all(map(any, zip(*told, strict=True)))
    g, a = _number(gold), _number(answer)
    if g is None or a is None:
        return None
    rounded = bool(gold.atoms(Float) or answer.atoms(Float))
    if g.is_Rational and a.is_Rational:
        return bool(abs(g - a) <= min(PLACES, SHARE * abs(g)) if rounded else g == a)
    difference, size = abs((g - a).evalf(DIGITS)), abs(g.evalf(DIGITS))
    if not (difference.is_Float or difference.is_zero) or not size.is_Float:
        return None
    return bool(difference <= (min(PLACES, SHARE * size) if rounded else size / 10 ** (DIGITS - 10)))


def _number(e: Any) -> Any:
    """A number's exact value, decimals as they are written; None for anything else."""
    if not isinstance(e, Expr) or e.free_symbols:
        return None
    exact = e.xreplace({f: Rational(str(f)) for f in e.atoms(Float)}).doit()
    return exact if isinstance(exact, Basic) and exact.is_number and exact.is_finite else None


if __name__ == "__main__":
    serve(float(sys.argv[1]))
