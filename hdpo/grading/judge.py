"""The verifier's child process: math-verify in a main thread, where its alarm works (see `verify`, the parent's side).

Speaks JSON lines on stdin and stdout, one reply a request, and ends when stdin closes.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from typing import Any, Literal

from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify
from math_verify.errors import TimeoutException

from hdpo.records import Outcome

MEMORY_BYTES = 4 << 30  # a power tower that is evaluated fills any memory within seconds

# The prediction's side, for rewards (math-verify's README): the last box or nothing, and no repair of broken LaTeX.
STRICT = LatexExtractionConfig(
    try_extract_without_anchor=False,
    boxed_match_priority=0,
    normalization_config=NormalizationConfig(
        units=True, malformed_operators=False, nits=False, boxed="all", equations=False
    ),
)
LENIENT = LatexExtractionConfig()  # for golds alone: data sets write \frac12

# fallback_mode: the text as found comes after what it parsed to. extraction_mode: the first match counts, no other.
MODES: tuple[Literal["first_match"], Literal["first_match"]] = ("first_match", "first_match")

Request = dict[str, str]
Reply = dict[str, Any]


def serve(timeout_s: float) -> None:
    """Answers requests until stdin closes."""
    wire = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not reach the wire
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    # Whole seconds, and well under the parent's limit where that allows: then a hang costs no restart.
    alarm_s = max(1, int(0.6 * timeout_s))
    judge({"completion": "\\boxed{x}", "gold": "x"}, alarm_s)  # builds its tables before the first item
    print(json.dumps({"ready": True}), file=wire, flush=True)
    for line in sys.stdin:
        if sys.platform != "win32":
            # If the parent was killed during a hang nobody is left to end this process: then the kernel does.
            signal.setitimer(signal.ITIMER_PROF, 2 * timeout_s + 5)
        print(json.dumps(judge(json.loads(line), alarm_s)), file=wire, flush=True)


def judge(request: Request, alarm_s: int) -> Reply:
    """The reply to one request: {"ok"} for a gold alone, {"outcome", "answer", "gold"} for a completion."""
    gold: list[Any] = []
    answer: list[Any] = []
    try:
        gold = _parse_gold(request["gold"], alarm_s)
        if "completion" not in request:
            return {"ok": bool(gold)}
        if not gold:
            return _reply(Outcome.GRADER_ERROR, [], [])
        answer = parse(request["completion"], [STRICT], *MODES, alarm_s, raise_on_error=True)
        if not answer:
            return _reply(Outcome.NO_ANSWER, [], gold)
        right = verify(gold, answer, timeout_seconds=alarm_s, raise_on_error=True)
        return _reply(Outcome.CORRECT if right else Outcome.WRONG, answer, gold)
    except (Exception, TimeoutException):  # sympy raises anything: whatever it is, there is no verdict
        return {**_reply(Outcome.GRADER_ERROR, answer, gold), "ok": False}


def _reply(outcome: Outcome, answer: list[Any], gold: list[Any]) -> Reply:
    # Only the text as it was found: to print a hostile expression can take for ever.
    texts = [next((part for part in parsed if isinstance(part, str)), "") for parsed in (answer, gold)]
    return {"outcome": outcome.value, "answer": texts[0], "gold": texts[1]}


@functools.lru_cache(maxsize=1024)
def _parse_gold(gold: str, alarm_s: int) -> list[Any]:
    r"""The gold as math-verify parses it, [] where it cannot. Strict first; then leniently, as data sets write \frac12."""
    for text, config in ((f"\\boxed{{{gold}}}", STRICT), (f"${gold}$", LENIENT)):
        parsed = parse(text, [config], *MODES, alarm_s, raise_on_error=True)
        if any(not isinstance(part, str) for part in parsed):
            return list(parsed)
    return []


if __name__ == "__main__":
    serve(float(sys.argv[1]))
