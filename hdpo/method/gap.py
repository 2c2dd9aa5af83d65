"""The realizability gap: how far the one who may peek is from the one who may not, token by token (Sec. 3).

For one trace and two contexts, from the two full logit vectors at each completion position: the exact
`KL(P_T‖P_S)`, the JSD, Lemma 1's bound and the tighter one, both captured masses, and for a frozen teacher the
model-mismatch term of Proposition 1 (ii), `‖f_φ(c_T) − f_θ(c_T)‖_∞`. Everything in nats, exact sums, no estimator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hdpo.config import TrainConfig
from hdpo.evidence.stats import Estimate, mean_value
from hdpo.method import losses
from hdpo.method.groups import Collector, accepted
from hdpo.model.batching import Trace, micro_batches
from hdpo.model.fit import CHUNK_ELEMENTS
from hdpo.model.policy import Policy, Weights
from hdpo.records import Problem
from hdpo.sampling.draws import DrawKey, Purpose

COLUMNS = (
    "kl_drifting",
    "jsd_drifting",
    "lemma1",
    "range_bound",
    "kl_frozen",
    "mismatch",
    "teacher_mass",
    "student_mass",
)


@dataclass(frozen=True)
class Pair:
    """One completion behind both prompts. on: 'privileged' where the teacher wrote it, 'own' where the student did."""

    problem_id: str
    on: str
    student: Trace
    teacher: Trace


@dataclass(frozen=True)
class TokenGaps:
    """values[column] is (T,), columns as in COLUMNS. tops (if asked for): per side the k most probable tokens, ids
    and probabilities, each (T, k)."""

    values: dict[str, np.ndarray]
    tops: dict[str, tuple[np.ndarray, np.ndarray]]


def token_gaps(
    policy: Policy,
    pairs: Sequence[Pair],
    *,
    topk: int,
    micro_batch_tokens: int,
    tops: int = 0,
    weights: Weights = Weights.CURRENT,
) -> list[TokenGaps]:
    """The gap at every completion token of every pair, for the student (and drifting teacher) with these weights.

    topk sets what the captured masses capture.

    Memory: at most three chunks of CHUNK_ELEMENTS logits at a time, whatever the number of pairs.
    """
    found: dict[int, TokenGaps] = {}
    lengths = [max(len(p.student), len(p.teacher)) for p in pairs]
    with torch.no_grad():
        for chosen in micro_batches(lengths, micro_batch_tokens):
            part = [pairs[i] for i in chosen]
            columns, best = _chunked_columns(policy, part, topk, tops, weights)
            ends = np.cumsum([len(p.student.completion_ids) for p in part])
            for i, hi, lo in zip(chosen, ends, [0, *ends[:-1]], strict=True):
                cut = slice(int(lo), int(hi))
                sides = {side: (ids[cut], probs[cut]) for side, (ids, probs) in best.items()}
                found[i] = TokenGaps({name: v[cut] for name, v in columns.items()}, sides)
    return [found[i] for i in range(len(pairs))]


def _chunked_columns(
    policy: Policy, pairs: Sequence[Pair], topk: int, tops: int, weights: Weights
) -> tuple[dict[str, np.ndarray], dict[str, tuple[np.ndarray, np.ndarray]]]:
    behind = policy.batch([p.teacher for p in pairs])
    student = policy.hidden(policy.batch([p.student for p in pairs]), weights)
    drifting = policy.hidden(behind, weights)
    frozen = policy.hidden(behind, Weights.INITIAL)
    size = max(1, CHUNK_ELEMENTS // policy.vocabulary)
    rows, best = [], []
    for s, d, f in zip(student.split(size), drifting.split(size), frozen.split(size), strict=True):
        logits = policy.logits(s), policy.logits(d), policy.logits(f)
        rows.append(_columns(*logits, min(topk, policy.vocabulary)))
        if tops:
            best.append([x.softmax(-1).topk(min(tops, policy.vocabulary), -1) for x in logits[:2]])
    columns = {n: torch.cat([r[:, j] for r in rows]).cpu().numpy() for j, n in enumerate(COLUMNS)}
    sides = {
        side: tuple(torch.cat([b[j][part] for b in best]).cpu().numpy() for part in (1, 0))
        for j, side in enumerate(("student", "teacher"))
        if best
    }
    return columns, sides  # type: ignore[return-value]


def _columns(student: torch.Tensor, drifting: torch.Tensor, frozen: torch.Tensor, k: int) -> torch.Tensor:
    """(n, V) raw logits of the student, and of the teacher under current and initial weights → (n, 8) as COLUMNS."""
    s, d, f = student.log_softmax(-1), drifting.log_softmax(-1), frozen.log_softmax(-1)
    delta = student - drifting
    top, ids = d.topk(k, -1)
    return torch.stack(
        [
            losses.forward_kl(d, s),
            losses.jsd_full(d, s),
            losses.lemma1_bound(delta),
            losses.range_bound(delta),
            losses.forward_kl(f, s),
            (frozen - drifting).abs().amax(-1),
            losses.captured_mass(top),
            losses.captured_mass(s.gather(-1, ids)),
        ],
        -1,
    )


def draw_probe(collector: Collector, cliffs: Sequence[Problem], config: TrainConfig) -> list[Pair]:
    """The fixed probe set: of each held-out cliff one privileged trace (the first accepted of 8; none, no trace) and
    one own trace, drawn once from the initial model with keys of their own."""
    key = DrawKey(config.seed, Purpose.PROBE)
    own = collector.collect(cliffs, 1, key, weights=Weights.INITIAL)
    peeked = collector.collect(cliffs, 8, key, privileged=True, weights=Weights.INITIAL)
    pairs = []
    for o, p in zip(own, peeked, strict=True):
        prompts = o.prompt_ids, p.prompt_ids
        good = [r for _, r in accepted([p])][:1]
        for on, rollouts in (("privileged", good), ("own", o.rollouts if p.fits else ())):
            pairs += [
                Pair(o.problem.id, on, Trace(prompts[0], r.token_ids), Trace(prompts[1], r.token_ids)) for r in rollouts
            ]
    return pairs


def probe_rows(policy: Policy, pairs: Sequence[Pair], gaps: Sequence[TokenGaps]) -> list[dict[str, object]]:
    """One row a token, for the run's `gap` table."""
    rows: list[dict[str, object]] = []
    for i, (pair, gap) in enumerate(zip(pairs, gaps, strict=True)):
        for t, token in enumerate(pair.student.completion_ids):
            facts = {"trace": i, "on": pair.on, "problem_id": pair.problem_id, "position": t, "token_id": token}
            values = {c: float(gap.values[c][t]) for c in COLUMNS}
            rows.append({**facts, "token": policy.tokenizer.decode([token]), **values})
    return rows


def probe_means(pairs: Sequence[Pair], gaps: Sequence[TokenGaps], on: str) -> dict[str, object]:
    """Per-token means over the traces of one kind, in nats; intervals with the trace as the unit."""
    chosen = [g for p, g in zip(pairs, gaps, strict=True) if p.on == on]
    means: dict[str, object] = {
        "on": on,
        "n_traces": len(chosen),
        "n_tokens": sum(len(g.values["mismatch"]) for g in chosen),
    }
    for c in COLUMNS:
        e: Estimate = mean_value([float(g.values[c].mean()) for g in chosen])
        # one trace has no interval, and JSON no infinity
        means[c] = {
            "value": e.value,
            **({"low": e.low, "high": e.high} if len(chosen) > 1 else {"low": None, "high": None}),
        }
    return means
