"""Completion + gold answer → verdict: math-verify in processes of our own that can be killed.

What the answer is, `boxes` says; where it is the gold as text, or both are plain integers, that is the verdict at once.
Everything else goes to child processes (`python -m hdpo.grading.judge`, never a fork), and what they found is
remembered by answer and gold, errors too: a hang costs its time once. A child limits its own CPU time and ends with an
error or by the kernel's hand; the parent's clock is a far second limit, for a child that does nothing at all.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Self

from hdpo.assets import HOME
from hdpo.errors import BadInput, HdpoError
from hdpo.grading import AS_TEXT, NO_VERDICT, NOWHERE, Reply, Request
from hdpo.grading.boxes import answer_in
from hdpo.grading.graders import MATH, grader_of
from hdpo.processes import end_group
from hdpo.records import Outcome

START_S = 300.0  # a child imports sympy first: about 1 s alone, a minute on a very crowded machine
CACHED_VERDICTS = 8192
_PLAIN_INTEGER = r"(?:0|-?[1-9][0-9]{0,14})"
_INTEGER = re.compile(_PLAIN_INTEGER)
_NUMBER_GOLD = re.compile(_PLAIN_INTEGER + r"(?:\.[0-9]{1,15})?")


@dataclass(frozen=True)
class Verdict:
    """What the verifier found. answer: as it was written, "" where there was none. rule: which decided, in words."""

    outcome: Outcome
    answer: str
    rule: str = field(default="", compare=False)


def outcome_of(verdict: Verdict, truncated: bool) -> Outcome:
    """A truncated rollout is TRUNCATED, whatever stands in it: a box before the cut was not its last word."""
    return Outcome.TRUNCATED if truncated else verdict.outcome


def fast_verdict(answer: str | None, gold: str) -> Verdict | None:
    """The verdict where it needs no child, for a gold that is ok; None where it does.

    >>> fast_verdict("42", "42").outcome.value, fast_verdict(None, "42").outcome.value, fast_verdict("84/2", "42")
    ('correct', 'no answer found', None)
    """
    if answer is None:
        return Verdict(Outcome.NO_ANSWER, "", NOWHERE)
    if answer == gold.strip():
        return Verdict(Outcome.CORRECT, answer, AS_TEXT)
    if _INTEGER.fullmatch(gold) and _INTEGER.fullmatch(answer):
        return Verdict(Outcome.WRONG, answer, "two whole numbers")
    return None


def says(answer: str, gold: str) -> bool:
    """Whether the gold stands in the answer, as text and by itself: the verdict `wrong` is in doubt then.

    >>> says("x = 5 or 7", "5"), says("15", "5"), says("3/5", "5"), says("-5", "5"), says("2.5", "5"), says("(b).", "B")
    (True, False, False, False, False, True)
    """
    alone = rf"(?<![\w/^*+-])(?<!\d[.,]){re.escape(gold.strip())}(?!\w|[.,]\d|[/^*+-])"
    return re.search(alone, answer, re.IGNORECASE) is not None


class VerifierPool:
    """Child processes that verify; started at first need, closed with the pool. For one thread at a time.

    workers: children at most. cpu_s: seconds of CPU time that one item may use. wall_s: seconds after which a child is
    killed that gave no sign. grader: which (`graders`). Raises BadInput for one that is none.
    """

    def __init__(self, workers: int = 1, cpu_s: float = 3.0, wall_s: float = 120.0, grader: str = MATH) -> None:
        self.workers, self.cpu_s, self.wall_s, self.grader = workers, cpu_s, wall_s, grader_of(grader)
        self._children: list[_Child] = []  # that are idle
        self._busy: set[_Child] = set()
        self._verdicts: dict[tuple[str | None, str], Verdict] = {}  # the oldest first
        self._golds: dict[str, bool] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the children. The pool can be used again; it then starts new ones."""
        for child in (*self._children, *self._busy):
            child.kill()
        self._children.clear()

    def grade(self, items: Sequence[tuple[str, str]], problems: Sequence[str] = ()) -> list[Verdict]:
        """Verdicts for (completion text, gold) pairs, in their order. Each distinct answer to a gold is judged once.
        problems: the text of each one's problem, which a person's own grader is given.

        GRADER_ERROR where the gold is not ok (ask `gold_ok` before), and where the child found no verdict within its
        time or crashed. Raises HdpoError where no child can start.
        """
        if self.grader.kind != MATH:
            return self._grade_otherwise(items, problems or [""] * len(items))
        golds = list(dict.fromkeys(gold for _, gold in items))
        fine = dict(zip(golds, self.gold_ok(golds), strict=True))
        pairs = [(answer_in(completion), gold) for completion, gold in items]
        known: dict[tuple[str | None, str], Verdict] = {}
        for answer, gold in pairs:
            at_once = fast_verdict(answer, gold) if fine[gold] else Verdict(Outcome.GRADER_ERROR, answer or "")
            if verdict := at_once or self._verdicts.get((answer, gold)):
                known[answer, gold] = verdict
        unknown = [(answer or "", gold) for answer, gold in dict.fromkeys(pairs) if (answer, gold) not in known]
        replies = self._ask([{"answer": answer, "gold": gold} for answer, gold in unknown])
        for (answer, gold), reply in zip(unknown, replies, strict=True):
            given = reply or NO_VERDICT
            known[answer, gold] = Verdict(Outcome(given["outcome"]), answer, given.get("rule", ""))
            if reply:
                self._verdicts[answer, gold] = known[answer, gold]
        while len(self._verdicts) > CACHED_VERDICTS:
            del self._verdicts[next(iter(self._verdicts))]
        return [known[pair] for pair in pairs]

    def _grade_otherwise(self, items: Sequence[tuple[str, str]], problems: Sequence[str]) -> list[Verdict]:
        """By a grader that sees the whole completion. Raises BadInput where it is a person's own, and fails."""
        asked = [(text, gold, problem) for (text, gold), problem in zip(items, problems, strict=True)]
        each = list(dict.fromkeys(asked))
        replies = self._ask([{"completion": t, "gold": g, "problem": p} for t, g, p in each])
        known = {}
        for item, reply in zip(each, replies, strict=True):
            if reply and "error" in reply:
                raise BadInput(reply["error"])
            given = reply or NO_VERDICT
            known[item] = Verdict(Outcome(given["outcome"]), given.get("answer", ""), given.get("rule", ""))
        return [known[item] for item in asked]

    def gold_ok(self, golds: Sequence[str]) -> list[bool]:
        """Whether each gold can be graded against. A problem whose gold cannot leaves every count, visibly."""
        plain = {g for g in golds if self.grader.kind == MATH and _NUMBER_GOLD.fullmatch(g)}
        unknown = [g for g in dict.fromkeys(golds) if g not in self._golds and g not in plain]
        for gold, reply in zip(unknown, self._ask([{"gold": gold} for gold in unknown]), strict=True):
            if reply:
                self._golds[gold] = bool(reply.get("ok", True))  # a grader that fails says so of a completion
        return [gold in plain or self._golds.get(gold, False) for gold in golds]

    def parses(self, texts: Sequence[str]) -> list[str]:
        """How each text, a gold or an answer, is parsed where math-verify grades."""
        replies = self._ask([{"parse": text} for text in texts])
        return [r.get("parsed", "no parse") if r else "no parse" for r in replies]

    @property
    def _program(self) -> tuple[str, ...]:
        if self.grader.kind == MATH:
            return "-m", "hdpo.grading.judge"
        return "-m", "hdpo.grading.graders", json.dumps(asdict(self.grader))

    def _ask(self, requests: Sequence[Request]) -> list[Reply | None]:
        """One reply a request; None where its child hung or crashed."""
        with ThreadPoolExecutor(self.workers) as threads:
            try:
                return list(threads.map(self._reply, requests))
            except BaseException:
                self.close()  # an interrupt waits for no reply
                raise

    def _reply(self, request: Request) -> Reply | None:
        """Of an idle child, or of a new one where there is none. Runs in several threads."""
        child = None
        while child is None or not child.lives():  # one that died idle: no item is to blame
            try:
                child = self._children.pop()
            except IndexError:
                child = _Child(self.cpu_s, self._program)
        self._busy.add(child)
        reply = child.reply(request, self.wall_s)
        self._busy.discard(child)
        if child.lives():
            self._children.append(child)
        return reply


class _Child:
    """One child process, ready for requests. Raises HdpoError where it cannot start."""

    def __init__(self, cpu_s: float, program: Sequence[str]) -> None:
        path = os.pathsep.join(filter(None, (str(HOME), os.environ.get("PYTHONPATH"))))
        with tempfile.TemporaryFile() as errors:
            self.process = subprocess.Popen(
                [sys.executable, *program, str(cpu_s)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                start_new_session=True,  # its own group, so that a kill reaches all of it
                # A fixed hash seed: the order of sympy's sets, so what it tries first, is the same in all children.
                env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"},
            )
            if not self._line(START_S):
                errors.seek(0)
                words = errors.read().decode("utf-8", "replace").strip()[-300:] or "none"
                found = f"did not start within {START_S:.0f} s or died while starting; its last words: {words}"
                raise HdpoError(f"A verifier process {found}. Check that math-verify is installed and memory is left.")

    def lives(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """Ends the process and whatever it started, at once."""
        end_group(self.process, ask=False)

    def reply(self, request: Request, wall_s: float) -> Reply | None:
        """None where it crashed, or gave none within so many seconds; it has ended then."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it just died, and gives no line
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        if line := self._line(wall_s):
            return json.loads(line)
        if sys.platform != "win32" and self.process.returncode == -signal.SIGXCPU:  # the kernel's: it was the item
            return NO_VERDICT
        return None

    def _line(self, within_s: float) -> str:
        """What it says next; "" where that takes longer or it ended, and it has ended then."""
        assert self.process.stdout is not None
        clock = threading.Timer(within_s, self.kill)
        clock.start()
        line = self.process.stdout.readline()
        clock.cancel()
        if not line:
            self.kill()
        return line
