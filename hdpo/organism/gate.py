"""What a base must show before it ships: mixed prompts and cliffs, a peek that heals them, and *support*: on cliffs the
student gives each token of the reference a probability from which a divergence has a gradient. A base without it gave a null.
"""

from collections.abc import Sequence
from math import exp

from hdpo.config import ScanConfig
from hdpo.evidence import stats
from hdpo.evidence.stats import Estimate
from hdpo.grading.verify import VerifierPool
from hdpo.method.by_hand import log_probs
from hdpo.method.evaluate import prepare
from hdpo.method.groups import accepted
from hdpo.model.batching import Trace
from hdpo.records import GroupKind, Problem
from hdpo.sampling.draws import DrawKey, Purpose
from hdpo.sampling.protocol import Draw

LEAST = 1e-3  # probability of a token that counts as support


def gate(config: ScanConfig, problems: Sequence[Problem], samples: int, peeks: int) -> dict[str, Estimate]:
    """samples rollouts a prompt, peeks privileged ones a cliff. Shares of prompts have an exact interval; the privileged pass
    rate has the cliff as its unit."""
    with VerifierPool() as verifier:
        collector = prepare(config, problems, verifier)
        groups = collector.collect(problems, Draw(samples, DrawKey(0, Purpose.SCAN)))
        cliffs = [g.problem for g in groups if g.kind is GroupKind.CLIFF]
        peeked = collector.collect(cliffs, Draw(peeks, DrawKey(0, Purpose.PRIVILEGED)), privileged=True)
    policy, end = collector.policy, collector.policy.tokenizer.eos_token_id
    least = []
    for p in cliffs:
        solution = policy.tokenizer(p.solution, add_special_tokens=False).input_ids
        least.append(exp(min(log_probs(policy, Trace(collector.student_ids(p), (*solution, end))))))
    rates = [len(accepted([g])) / len(g.rollouts) for g in peeked]
    passed = [(len(g.rollouts), sum(r.outcome.is_correct for r in g.rollouts)) for g in groups]
    return {
        "pass@1": stats.mean_pass_at_k(passed, 1),
        f"mixed prompts (1 to {samples - 1} of {samples})": stats.share([g.kind is GroupKind.MIXED for g in groups]),
        f"cliff prompts (0 of {samples})": stats.share([g.kind is GroupKind.CLIFF for g in groups]),
        "privileged pass rate on cliffs": stats.mean_value(rates),
        f"cliffs with one accepted of {peeks}": stats.share([r > 0 for r in rates]),
        f"cliffs whose every reference token has {LEAST:.1%} or more": stats.share([p >= LEAST for p in least]),
    }


def table(found: dict[str, Estimate]) -> list[str]:
    """As Markdown, a line a row."""
    rows = [f"| {name} | {e.value:.3f} | {e.low:.3f} to {e.high:.3f} | {e.n_prompts} |" for name, e in found.items()]
    return ["| | measured | 95 % interval | n |", "|---|---|---|---|", *rows]
