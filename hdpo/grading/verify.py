"""Completion + gold answer → verdict: math-verify in processes of our own that can be killed.

Settings (README of math-verify, "rewards"): gold first, boxed answers first, no answer without an anchor, strict LaTeX
on the prediction's side. Where gold and the only box are plain integers the verdict is read off at once; a test holds
that path equal to math-verify. Everything else goes to child processes (`python -m hdpo.grading.judge`, never a fork):
math-verify's own time-out is an alarm signal, which works in a main thread alone and does not end every hang, so the
parent kills the child too. A hang or a crash costs that one item its verdict, no other.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO, Any

from hdpo.assets import HOME
from hdpo.errors import HdpoError
from hdpo.processes import end_group
from hdpo.records import Outcome

START_S = 300.0  # a child imports sympy first: about 1 s alone, a minute on a very crowded machine
CACHED_VERDICTS = 8192
_PLAIN_INTEGER = r"(?:0|-?[1-9][0-9]{0,14})"
_INTEGER_GOLD = re.compile(_PLAIN_INTEGER)
_NUMBER_GOLD = re.compile(_PLAIN_INTEGER + r"(?:\.[0-9]{1,15})?")
_INTEGER_BOX = re.compile(r"\\boxed\{(" + _PLAIN_INTEGER + r")\}")
# What can make math-verify read something else than the one box: other boxes, a percent sign behind its formula,
# and the phrase "final answer is … I hope", which has the same priority as a box.
_BESIDE_THE_BOX = re.compile(r"\\fbox|%|percent|pct|I hope", re.IGNORECASE)
# Without these no box, no formula and no bracketed expression can stand in a text.
_LATEX_MARKS = re.compile(r"[\\$\[]")

Request = dict[str, str]
Reply = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What the verifier found. answer and gold are as extracted, "" where nothing was; gold is "" if unparsable too."""

    outcome: Outcome
    answer: str
    gold: str


def outcome_of(verdict: Verdict, truncated: bool) -> Outcome:
    """A truncated rollout is TRUNCATED, whatever stands in it: a box before the cut was not its last word."""
    return Outcome.TRUNCATED if truncated else verdict.outcome


def fast_verdict(completion: str, gold: str) -> Verdict | None:
    """The verdict where it needs no parser, equal to math-verify's; None where it does.

    >>> fast_verdict("6*7=42 \\\\boxed{42}", "42").outcome.value, fast_verdict("It is 42.", "42").outcome.value
    ('correct', 'no answer found')
    >>> fast_verdict("\\\\boxed{\\\\frac{84}{2}}", "42") is None
    True
    """
    if _NUMBER_GOLD.fullmatch(gold) and not _LATEX_MARKS.search(completion):
        return Verdict(Outcome.NO_ANSWER, "", gold)
    if not _INTEGER_GOLD.fullmatch(gold) or completion.count("\\boxed") != 1 or _BESIDE_THE_BOX.search(completion):
        return None
    box = _INTEGER_BOX.search(completion)
    if box is None:
        return None
    return Verdict(Outcome.CORRECT if box[1] == gold else Outcome.WRONG, box[1], gold)


class VerifierPool:
    """Child processes that verify; started at first need, closed with the pool. For one thread at a time.

    workers: children at most. timeout_s: seconds one item may take before its child is killed and replaced.
    """

    def __init__(self, workers: int = 1, timeout_s: float = 5.0) -> None:
        self.workers = workers
        self.timeout_s = timeout_s
        self._children: list[_Child] = []
        self._mail: queue.Queue[tuple[_Child, str]] = queue.Queue()
        self._verdicts: OrderedDict[bytes, Verdict] = OrderedDict()
        self._golds: dict[str, bool] = {}

    def __enter__(self) -> VerifierPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the children. The pool can be used again; it then starts new ones."""
        for child in self._children:
            child.kill()
        self._children.clear()

    def grade(self, items: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Verdicts for (completion text, gold) pairs, in their order. Each distinct pair is judged once.

        GRADER_ERROR where the child hung, crashed or timed out, and where the gold cannot be parsed (ask `gold_ok`
        before). These are not remembered: the next call tries again. Raises HdpoError where no child can start.
        """
        known: dict[tuple[str, str], Verdict] = {}
        unknown: dict[tuple[str, str], None] = {}
        for item in items:
            verdict = fast_verdict(*item) or self._recall(item)
            if verdict is None:
                unknown[item] = None
            else:
                known[item] = verdict
        replies = self._ask([{"completion": completion, "gold": gold} for completion, gold in unknown])
        for item, reply in zip(unknown, replies, strict=True):
            known[item] = verdict = _as_verdict(reply)
            if verdict.outcome is not Outcome.GRADER_ERROR:
                self._remember(item, verdict)
        return [known[item] for item in items]

    def gold_ok(self, golds: Sequence[str]) -> list[bool]:
        """Whether each gold can be parsed. A problem whose gold cannot leaves every count, visibly."""
        unknown = [
            gold for gold in dict.fromkeys(golds) if gold not in self._golds and not _NUMBER_GOLD.fullmatch(gold)
        ]
        for gold, reply in zip(unknown, self._ask([{"gold": gold} for gold in unknown]), strict=True):
            if reply is not None:
                self._golds[gold] = bool(reply["ok"])
        return [bool(_NUMBER_GOLD.fullmatch(gold)) or self._golds.get(gold, False) for gold in golds]

    def _recall(self, item: tuple[str, str]) -> Verdict | None:
        key = _key(item)
        if key in self._verdicts:
            self._verdicts.move_to_end(key)
        return self._verdicts.get(key)

    def _remember(self, item: tuple[str, str], verdict: Verdict) -> None:
        self._verdicts[_key(item)] = verdict
        if len(self._verdicts) > CACHED_VERDICTS:
            self._verdicts.popitem(last=False)

    def _ask(self, requests: Sequence[Request]) -> list[Reply | None]:
        """One reply a request; None where its child hung or crashed."""
        replies: list[Reply | None] = [None] * len(requests)
        waiting = deque(enumerate(requests))
        while waiting or any(child.item is not None for child in self._children):
            self._hand_out(waiting)
            deadline = min((child.deadline for child in self._children), default=0.0)
            try:
                child, line = self._mail.get(timeout=max(deadline - time.monotonic(), 0.0))
            except queue.Empty:
                self._drop_late()
                continue
            if child in self._children:  # otherwise a last word of one that was dropped
                self._take(child, line, replies)
            if self._mail.empty():  # never drop a child whose reply lies there already
                self._drop_late()
        return replies

    def _hand_out(self, waiting: deque[tuple[int, Request]]) -> None:
        """Work to every idle child, and new children while work is left."""
        for child in [child for child in self._children if child.item is None and child.process.poll() is not None]:
            self._drop(child)  # died idle: no item is to blame
        for child in self._children:
            if waiting and child.ready and child.item is None:
                child.item, request = waiting.popleft()
                child.deadline = time.monotonic() + self.timeout_s
                child.send(request)
        starting = sum(not child.ready for child in self._children)
        while starting < len(waiting) and len(self._children) < self.workers:
            self._children.append(_start(self.timeout_s, self._mail))
            starting += 1

    def _take(self, child: _Child, line: str, replies: list[Reply | None]) -> None:
        """A line from a child: its reply, its sign of readiness, or "" when it died."""
        if line and child.item is not None:
            replies[child.item] = json.loads(line)
        if line:
            child.ready, child.item, child.deadline = True, None, float("inf")
        else:
            self._drop(child)

    def _drop_late(self) -> None:
        for child in [child for child in self._children if child.deadline <= time.monotonic()]:
            self._drop(child)

    def _drop(self, child: _Child) -> None:
        child.kill()
        self._children.remove(child)
        if not child.ready:
            raise HdpoError(
                f"A verifier process did not start within {START_S:.0f} s or died while starting; "
                f"its last words: {child.last_words() or 'none'}. Check that math-verify is installed and memory is left."
            )


@dataclass(eq=False)
class _Child:
    """One child process. item: the place of the request it works on. deadline: monotonic seconds."""

    process: subprocess.Popen[str]
    errors: IO[bytes]
    ready: bool = False
    item: int | None = None
    deadline: float = field(default_factory=lambda: time.monotonic() + START_S)

    def send(self, request: Request) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it just died: its reader says so, and the item is a grader error

    def kill(self) -> None:
        """Ends the process and whatever it started, at once."""
        end_group(self.process, ask=False)

    def last_words(self) -> str:
        self.errors.seek(0)
        return self.errors.read().decode("utf-8", "replace").strip()[-300:]


def _start(timeout_s: float, mail: queue.Queue[tuple[_Child, str]]) -> _Child:
    """A child and the thread that brings its lines to `mail`; an empty line means that it ended."""
    package_root = str(HOME)
    inherited = [path for path in [os.environ.get("PYTHONPATH")] if path]
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
    process = subprocess.Popen(
        [sys.executable, "-m", "hdpo.grading.judge", str(timeout_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        encoding="utf-8",
        start_new_session=True,  # its own group, so that a kill reaches all of it
        # A fixed hash seed: the order of sympy's sets, and so what it tries first, does not change between children.
        env={**os.environ, "PYTHONPATH": os.pathsep.join([package_root, *inherited]), "PYTHONHASHSEED": "0"},
    )
    child = _Child(process, errors)
    threading.Thread(target=_bring_lines, args=(child, mail), daemon=True).start()
    return child


def _bring_lines(child: _Child, mail: queue.Queue[tuple[_Child, str]]) -> None:
    assert child.process.stdout is not None
    for line in child.process.stdout:
        mail.put((child, line))
    mail.put((child, ""))


def _key(item: tuple[str, str]) -> bytes:
    return hashlib.blake2b(json.dumps(item).encode(), digest_size=16).digest()


def _as_verdict(reply: Reply | None) -> Verdict:
    if reply is None:
        return Verdict(Outcome.GRADER_ERROR, "", "")
    return Verdict(Outcome(reply["outcome"]), reply["answer"], reply["gold"])
