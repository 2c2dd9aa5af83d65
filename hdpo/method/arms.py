"""What an arm swaps in Algorithm 1: which groups are distilled (line 3), on which traces and under which context the teacher
reads them (lines 4 and 5), and with which weight (line 7). By which divergence, `losses` says.

Pure functions of one step's groups. An arm has no name here: it is a config, told in `assets/arms.toml`.
"""

from collections.abc import Sequence

from hdpo.config import Distilled, Information, ObjectiveConfig, Reads, Traces, Weight
from hdpo.method.groups import Collector, accepted, distillable
from hdpo.method.objective import DistillItem
from hdpo.model.batching import Trace
from hdpo.records import Doubt, Group, Rollout


def terms(how: ObjectiveConfig, step: int) -> tuple[bool, bool]:
    """Whether L_GRPO and L_JSD are descended at this step, counted from 1. λ = 0 is GRPO, whatever else is set.

    >>> first = ObjectiveConfig(weight=Weight.FIRST, first_steps=20)
    >>> terms(first, 20), terms(first, 21), terms(ObjectiveConfig(), 1), terms(ObjectiveConfig(lambda_=0.0), 1)
    ((False, True), (True, False), (True, True), (True, False))
    """
    if how.lambda_ == 0:
        return True, False
    return (True, True) if how.weight is not Weight.FIRST else (step > how.first_steps, step <= how.first_steps)


def distilled(groups: Sequence[Group], how: ObjectiveConfig) -> list[Group]:
    """The cliffs, or every group that was sampled and graded without doubt."""
    if how.distilled is Distilled.CLIFFS:
        return distillable(groups)
    return [g for g in groups if g.rollouts and g.gradable and g.doubt is not Doubt.GRADER]


def shown(groups: Sequence[Group], chosen: Sequence[Group], how: ObjectiveConfig) -> Sequence[Group]:
    """The groups whose privileged rollouts are drawn: those that are distilled; all where their gap is the weight; none where
    the traces are the student's own."""
    if how.traces is Traces.OWN:
        return []
    return [g for g in groups if g.rollouts and g.gradable] if how.weight is Weight.GAP and chosen else chosen


def items(
    collector: Collector, chosen: Sequence[Group], peeked: Sequence[Group], how: ObjectiveConfig
) -> list[DistillItem]:
    """The traces of the chosen groups, each behind the student's prompt and the one that the teacher reads it under. One that
    does not fit there is left out."""
    student = {g.problem.id: g.prompt_ids for g in chosen}
    kept: list[Rollout] = [r for g, r in accepted(peeked) if g.problem.id in student]
    teacher = {g.problem.id: g.prompt_ids for g in peeked}
    if how.traces is Traces.OWN:
        kept = [r for g in chosen for r in g.rollouts if r.reward == 0.0]
    again = how.traces is Traces.OWN or how.teacher_reads is Reads.OTHER  # no top-k was kept under that prompt
    if again:
        other = Information.WRONG_OTHER if how.teacher_reads is Reads.OTHER else None
        teacher = {g.problem.id: collector.privileged_ids(g.problem, other) for g in chosen}
        kept = [r for r in kept if len(teacher[r.problem_id]) + len(r.token_ids) <= collector.policy.context]
    both = [(Trace(student[r.problem_id], r.token_ids), Trace(teacher[r.problem_id], r.token_ids), r) for r in kept]
    return [DistillItem(s, t, None if again else r.topk, r.logprobs) for s, t, r in both]


def weight(how: ObjectiveConfig, groups: Sequence[Group], peeked: Sequence[Group]) -> float:
    """λ at a step that distils: as it is set, or times the gap, and 0 from where that has closed on."""
    return how.lambda_ * (max(0.0, gap(groups, peeked)) if how.weight is Weight.GAP else 1.0)


def gap(groups: Sequence[Group], peeked: Sequence[Group]) -> float:
    """Privileged pass rate less the plain one, on the problems that were peeked at; 0 where none was."""
    ids = {g.problem.id for g in peeked if g.rollouts}
    plain = [r for g in groups if g.problem.id in ids for r in g.rewards if r is not None]
    told = [r for g in peeked for r in g.rewards if r is not None]
    return sum(told) / len(told) - sum(plain) / len(plain) if told and plain else 0.0
