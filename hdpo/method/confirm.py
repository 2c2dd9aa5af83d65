"""Is it a cliff? Fresh rollouts of a scan's cliffs, until a confidence sequence decides on each (`hdpo.evidence.cliffs`).

The scan's own 0 of K chose the prompt, so it does not count here. Every batch has draws of its own, under a number that
no batch of this scan had before, and stands on the disk before the next is drawn: to confirm again goes on.
"""

from collections.abc import Callable, Sequence

from hdpo.errors import BadInput
from hdpo.evidence.cliffs import Cause, Cliff, Decision, triage
from hdpo.method.groups import Collector
from hdpo.method.identity import fingerprint
from hdpo.record.fingerprint import differences, spoken
from hdpo.record.folder import Run, RunWriter
from hdpo.records import Outcome, Problem
from hdpo.sampling.draws import DrawKey, Purpose
from hdpo.sampling.protocol import Draw

BATCH = 16  # rollouts of one prompt between two looks
AT_ONCE = 8  # prompts whose batches are drawn together: those of the widest posterior


def confirm(
    run: Run, collector: Collector, ids: Sequence[str], limit: int, below: float, tell: Callable[[list[Cliff]], None]
) -> None:
    """Draw until each of these cliffs is decided or has `limit` fresh rollouts, those of earlier calls among them.

    tell(the cliffs as they stand) may raise Stopped. Raises BadInput where what would draw now is not what was scanned.
    """
    config, problems = run.load_config(), {r["id"]: Problem(**r) for r in run.table("problems", 0)}
    if changed := differences(run.fingerprint, fingerprint(config, collector.policy, list(problems.values())))[0]:
        found = f"expected what was scanned, found that {spoken(changed)} changed since"
        raise BadInput(f"confirm: {found}. Put that back, or scan again.")
    while True:
        cliffs = cliffs_of(run, ids, below)
        tell(list(cliffs.values()))
        left = [i for i, c in cliffs.items() if c.decision is Decision.OPEN and c.drawn < limit]
        if not left:
            return
        widest = sorted(left, key=lambda i: cliffs[i].spread, reverse=True)[:AT_ONCE]
        n, number = (
            min(BATCH, *(limit - cliffs[i].drawn for i in widest)),
            1 + max((r["step"] for r in run.looks()), default=0),
        )
        draw = Draw(n, DrawKey(config.seed, Purpose.CONFIRM, number))
        for g in collector.collect([problems[i] for i in widest], draw):
            outcomes = [r.outcome for r in g.rollouts]
            counts = {"n": sum(o.is_graded for o in outcomes), "correct": outcomes.count(Outcome.CORRECT)}
            RunWriter(run.path, 1).look(number, problem_id=g.problem.id, drawn=n, **counts)


def cliffs_of(run: Run, ids: Sequence[str], below: float) -> dict[str, Cliff]:
    """These prompts of a scan, or all that can be confirmed, as they stand. Raises BadInput for one that is none of them."""
    if run.kind != "scan":
        raise BadInput(f"scan: expected a run of kind scan, found {run.id} of kind {run.kind}. Name a scan.")
    cliffs = triage(run.metrics("scan_group"), run.looks(), below).cliffs
    known = {i: c for i, c in cliffs.items() if c.cause is not Cause.UNGRADABLE}
    if unknown := [i for i in ids if i not in known]:
        words = f"expected prompts of {run.id} with no correct rollout, found {', '.join(unknown)}"
        raise BadInput(f"problem: {words}. The first ones are {', '.join(list(known)[:5]) or 'none'}.")
    return {i: known[i] for i in ids or known}
