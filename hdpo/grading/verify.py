"""Completion + gold answer → verdict: math-verify in processes of our own that can be killed.

What the answer is, `boxes` says; where it is the gold as text, or both are plain integers, that is the verdict at once.
Everything else goes to child processes (`python -m hdpo.grading.judge`, never a fork), and what they found is
remembered by answer and gold, errors too: a hang costs its time once. A child limits its own CPU time and ends with an
error or by the kernel's hand; the parent's clock is a far second limit, for a child that does nothing at all.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
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
from hdpo.grading.boxes import answer_in
from hdpo.processes import end_group
from hdpo.records import Outcome

START_S = 300.0  # a child imports sympy first: about 1 s alone, a minute on a very crowded machine
CACHED_VERDICTS = 8192
_PLAIN_INTEGER = r"(?:0|-?[1-9][0-9]{0,14})"
_INTEGER = re.compile(_PLAIN_INTEGER)
_NUMBER_GOLD = re.compile(_PLAIN_INTEGER + r"(?:\.[0-9]{1,15})?")

Request = dict[str, str]
Reply = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What the verifier found. answer: as it was written, "" where there was none. gold: "" where it cannot be graded against."""

    outcome: Outcome
    answer: str
    gold: str


def outcome_of(verdict: Verdict, truncated: bool) -> Outcome:
    """A truncated rollout is TRUNCATED, whatever stands in it: a box before the cut was not its last word."""
    return Outcome.TRUNCATED if truncated else verdict.outcome


def fast_verdict(answer: str | None, gold: str) -> Verdict | None:
    """The verdict where it needs no child, for a gold that is ok; None where it does.

    >>> fast_verdict("42", "42").outcome.value, fast_verdict(None, "42").outcome.value, fast_verdict("84/2", "42")
    ('correct', 'no answer found', None)
    """
    if answer is None:
        return Verdict(Outcome.NO_ANSWER, "", gold)
    if answer == gold.strip():
        return Verdict(Outcome.CORRECT, answer, gold)
    if _INTEGER.fullmatch(gold) and _INTEGER.fullmatch(answer):
        return Verdict(Outcome.WRONG, answer, gold)
    return None


class VerifierPool:
    """Child processes that verify; started at first need, closed with the pool. For one thread at a time.

    workers: children at most. cpu_s: seconds of CPU time that one item may use. wall_s: seconds after which a child is
    killed that gave no sign.
    """

    def __init__(self, workers: int = 1, cpu_s: float = 3.0, wall_s: float = 120.0) -> None:
        self.workers = workers
        self.cpu_s = cpu_s
        self.wall_s = wall_s
        self._children: list[_Child] = []
        self._mail: queue.Queue[tuple[_Child, str]] = queue.Queue()
        self._verdicts: OrderedDict[tuple[str | None, str], Verdict] = OrderedDict()
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
        """Verdicts for (completion text, gold) pairs, in their order. Each distinct answer to a gold is judged once.

        GRADER_ERROR where the gold is not ok (ask `gold_ok` before), and where the child found no verdict within its
        time or crashed. Raises HdpoError where no child can start.
        """
        golds = list(dict.fromkeys(gold for _, gold in items))
        fine = dict(zip(golds, self.gold_ok(golds), strict=True))
        pairs = [(answer_in(completion), gold) for completion, gold in items]
        known: dict[tuple[str | None, str], Verdict] = {}
        unknown: list[tuple[str, str]] = []
        for answer, gold in dict.fromkeys(pairs):
            verdict = self._recall(answer, gold) if fine[gold] else Verdict(Outcome.GRADER_ERROR, answer or "", "")
            if verdict is None:
                unknown.append((answer or "", gold))
            else:
                known[answer, gold] = verdict
        replies = self._ask([{"answer": answer, "gold": gold} for answer, gold in unknown])
        for (answer, gold), reply in zip(unknown, replies, strict=True):
            known[answer, gold] = verdict = Verdict(
                Outcome(reply["outcome"] if reply else Outcome.GRADER_ERROR), answer, gold
            )
            if reply is not None:
                self._verdicts[answer, gold] = verdict
        while len(self._verdicts) > CACHED_VERDICTS:
            self._verdicts.popitem(last=False)
        return [known[pair] for pair in pairs]

    def gold_ok(self, golds: Sequence[str]) -> list[bool]:
        """Whether each gold can be graded against. A problem whose gold cannot leaves every count, visibly."""
        unknown = [
            gold for gold in dict.fromkeys(golds) if gold not in self._golds and not _NUMBER_GOLD.fullmatch(gold)
        ]
        for gold, reply in zip(unknown, self._ask([{"gold": gold} for gold in unknown]), strict=True):
            if reply is not None:
                self._golds[gold] = bool(reply["ok"])
        return [bool(_NUMBER_GOLD.fullmatch(gold)) or self._golds.get(gold, False) for gold in golds]

    def _recall(self, answer: str | None, gold: str) -> Verdict | None:
        verdict = fast_verdict(answer, gold)
        if verdict is None and (answer, gold) in self._verdicts:
            self._verdicts.move_to_end((answer, gold))
            verdict = self._verdicts[answer, gold]
        return verdict

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
                child.deadline = time.monotonic() + self.wall_s
                child.send(request)
        starting = sum(not child.ready for child in self._children)
        while starting < len(waiting) and len(self._children) < self.workers:
            self._children.append(_start(self.cpu_s, self._mail))
            starting += 1

    def _take(self, child: _Child, line: str, replies: list[Reply | None]) -> None:
        """A line from a child: its reply, its sign of readiness, or "" when it died."""
        if line and child.item is not None:
            replies[child.item] = json.loads(line)
        elif child.item is not None and child.ran_out_of_time():
            replies[child.item] = {"ok": False, "outcome": Outcome.GRADER_ERROR.value}
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

    def ran_out_of_time(self) -> bool:
        """Of a child that ended: whether the kernel ended it, for its CPU time."""
        return sys.platform != "win32" and self.process.wait() == -signal.SIGXCPU

    def last_words(self) -> str:
        self.errors.seek(0)
        return self.errors.read().decode("utf-8", "replace").strip()[-300:]


def _start(
    cpu_s: float, mail: queue.Queue[tuple[_Child, str]], program: Sequence[str] = ("-m", "hdpo.grading.judge")
) -> _Child:
    """A child and the thread that brings its lines to `mail`; an empty line means that it ended."""
    package_root = str(HOME)
    inherited = [path for path in [os.environ.get("PYTHONPATH")] if path]
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
    process = subprocess.Popen(
        [sys.executable, *program, str(cpu_s)],
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
