"""The records that travel through the engine: problem → rollout → group.

Axes, here and everywhere: `P` prompts, `G` rollouts per prompt, `B` = P·G sequences, `T` completion tokens,
`V` vocabulary, `K` top-k. Nothing here imports torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Outcome(str, Enum):
    """What became of one rollout. Only CORRECT has reward 1; a GRADER_ERROR has no reward at all."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no answer found"
    TRUNCATED = "truncated"
    GRADER_ERROR = "grader error"

    @property
    def reward(self) -> float | None:
        """1.0, 0.0, or None where no verdict exists."""
        return float(self.is_correct) if self.is_graded else None

    @property
    def is_correct(self) -> bool:
        return self is Outcome.CORRECT

    @property
    def is_graded(self) -> bool:
        """Whether there is a verdict; without one a rollout is no sample."""
        return self is not Outcome.GRADER_ERROR


class GroupKind(str, Enum):
    """The regime of one prompt (Sec. 2.3), and the three ways in which a prompt has no regime."""

    CLIFF = "cliff"
    MIXED = "mixed"
    SOLVED = "solved"
    NO_SIGNAL = "no signal"  # fewer than two gradable rollouts are left
    TOO_LONG = "prompt too long"  # prompt + new tokens exceed the context; never cut
    UNGRADABLE = "gold unparsable"  # leaves every count, visibly

    @property
    def is_measured(self) -> bool:
        """Whether the prompt was sampled and can be graded, so that it counts in an estimate."""
        return self not in (GroupKind.UNGRADABLE, GroupKind.TOO_LONG)


class Doubt(str, Enum):
    """Why a cliff may not be one. Truncation: distilled, counted apart. Grader error: not distilled."""

    NONE = ""
    TRUNCATION = "truncation"
    GRADER = "grader error"


@dataclass(frozen=True)
class Problem:
    """`solution` is the worked ground truth y*, "" where the set has none; `answer` its final answer, for the verifier."""

    id: str
    text: str
    solution: str
    answer: str
    source: str
    level: int | None = None


@dataclass(frozen=True)
class TopK:
    """The K largest raw log-probs (T = 1, before top-p) at each completion position, in nats. ids, logprobs: numpy
    arrays (T, K). `weights` names the weights that computed them; they stand for the teacher while that is its name."""

    ids: object
    logprobs: object
    weights: str


@dataclass(frozen=True)
class Rollout:
    """One sampled completion and its verdict. token_ids end with the end token unless truncated. logprobs are those of
    the sampling distribution at its temperature, nats, one a token. `answer` is what the verifier found, or ""."""

    problem_id: str
    index: int
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    outcome: Outcome
    answer: str = ""
    topk: TopK | None = None

    @property
    def reward(self) -> float | None:
        return self.outcome.reward


@dataclass(frozen=True)
class Group:
    """The rollouts of one prompt. `gradable`: its gold answer can be parsed; `fits`: it fits into the context."""

    problem: Problem
    prompt_ids: tuple[int, ...]
    rollouts: tuple[Rollout, ...]
    fits: bool = True
    gradable: bool = True

    @property
    def rewards(self) -> tuple[float | None, ...]:
        """(G,) rewards; None where the grader failed."""
        return tuple(r.reward for r in self.rollouts)

    @property
    def kind(self) -> GroupKind:
        """
        >>> p = Problem("a", "1+1?", "1+1=2 \\\\boxed{2}", "2", "doc")
        >>> r = [Rollout("a", i, (1,), (0.0,), "", o) for i, o in enumerate([Outcome.WRONG, Outcome.TRUNCATED])]
        >>> Group(p, (1,), tuple(r)).kind.value, Group(p, (1,), tuple(r)).doubt.value
        ('cliff', 'truncation')
        """
        if not self.gradable:
            return GroupKind.UNGRADABLE
        if not self.fits:
            return GroupKind.TOO_LONG
        graded = [r for r in self.rewards if r is not None]
        if len(graded) < 2:
            return GroupKind.NO_SIGNAL
        if sum(graded) == 0:
            return GroupKind.CLIFF
        return GroupKind.SOLVED if sum(graded) == len(graded) else GroupKind.MIXED

    @property
    def doubt(self) -> Doubt:
        """Grader errors weigh more than truncations: with both, the doubt is the grader's."""
        if self.kind is not GroupKind.CLIFF:
            return Doubt.NONE
        outcomes = [r.outcome for r in self.rollouts]
        if not all(o.is_graded for o in outcomes):
            return Doubt.GRADER
        return Doubt.TRUNCATION if Outcome.TRUNCATED in outcomes else Doubt.NONE


def failures(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """What became of those that are neither correct nor wrong."""
    kinds = {"truncated": Outcome.TRUNCATED, "no_answer": Outcome.NO_ANSWER, "grader_errors": Outcome.GRADER_ERROR}
    return {name: outcomes.count(kind) for name, kind in kinds.items()}


def problem_row(group: Group, greedy: Group | None = None) -> dict[str, Any]:
    """What one group says of its problem; a grader error is no sample (n counts the graded)."""
    p, outcomes = group.problem, [r.outcome for r in group.rollouts]
    lengths = [len(r.token_ids) for r in group.rollouts]
    return {
        "problem_id": p.id,
        "level": p.level,
        "source": p.source,
        "kind": group.kind.value,
        "doubt": group.doubt.value,
        "n": sum(o.is_graded for o in outcomes),
        "correct": outcomes.count(Outcome.CORRECT),
        **failures(outcomes),
        "greedy": None if greedy is None or not greedy.rollouts else int(greedy.rollouts[0].outcome.is_correct),
        "length": sum(lengths) / len(lengths) if lengths else None,
    }
