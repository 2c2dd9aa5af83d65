"""The realizability gap: how far the one who may peek is from the one who may not, token by token (Sec. 3).

For one trace and two contexts, from the two full logit vectors at each completion position: the exact
`KL(P_T‖P_S)`, the JSD, Lemma 1's bound and the tighter one, both captured masses, and for a frozen teacher the
model-mismatch term of Proposition 1 (ii), `‖f_φ(c_T) − f_θ(c_T)‖_∞`. Everything in nats, exact sums, no estimator.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hdpo.config import TrainConfig
from hdpo.evidence.stats import mean_value
from hdpo.method import losses
from hdpo.method.groups import Collector, accepted
from hdpo.model.batching import Trace, micro_batches
from hdpo.model.fit import CHUNK_ELEMENTS
from hdpo.model.policy import Policy, Weights
from hdpo.records import Problem
from hdpo.sampling.draws import DrawKey, Purpose
from hdpo.sampling.protocol import Draw

COLUMNS = ("kl", "jsd", "lemma1", "range_bound", "teacher_mass", "student_mass", "mismatch", "kl_frozen")
# As the run's tables have called them from the first: there the teacher is the drifting one.
STORED = {"kl": "kl_drifting", "jsd": "jsd_drifting"}


@dataclass(frozen=True)
class Pair:
    """One completion behind both prompts. on: 'privileged' where the teacher wrote it, 'own' where the student did."""

    problem_id: str
    on: str
    student: Trace
    teacher: Trace


@dataclass(frozen=True)
class Lens:
    """How to look. weights: the student's, and the drifting teacher's; teacher: whose gap (INITIAL is the frozen one);
    topk: what the captured masses capture; tops: next tokens listed of each side."""

    weights: Weights = Weights.CURRENT
    teacher: Weights = Weights.CURRENT
    topk: int = 64
    tops: int = 0
    micro_batch_tokens: int = 4096


@dataclass(frozen=True)
class TokenGaps:
    """values[column] is (T,), columns as in COLUMNS. tops (if asked for): per side the k most probable tokens, ids
    and probabilities, each (T, k)."""

    values: dict[str, np.ndarray]
    tops: dict[str, tuple[np.ndarray, np.ndarray]]


def token_gaps(policy: Policy, pairs: Sequence[Pair], lens: Lens) -> list[TokenGaps]:
    """The gap at every completion token of every pair.

    Memory: at most three chunks of CHUNK_ELEMENTS logits at a time, whatever the number of pairs.
    """
    found: dict[int, TokenGaps] = {}
    lengths = [max(len(p.student), len(p.teacher)) for p in pairs]
    with torch.no_grad():
        for chosen in micro_batches(lengths, lens.micro_batch_tokens):
            part = [pairs[i] for i in chosen]
            gaps = _chunked(policy, part, lens)
            ends = np.cumsum([len(p.student.completion_ids) for p in part])
            for i, hi, lo in zip(chosen, ends, [0, *ends[:-1]], strict=True):
                cut = slice(int(lo), int(hi))
                sides = {side: (ids[cut], probs[cut]) for side, (ids, probs) in gaps.tops.items()}
                found[i] = TokenGaps({name: v[cut] for name, v in gaps.values.items()}, sides)
    return [found[i] for i in range(len(pairs))]


def _chunked(policy: Policy, pairs: Sequence[Pair], lens: Lens) -> TokenGaps:
    """All tokens of one micro-batch, one behind the other."""
    alone, behind = policy.batch([p.student for p in pairs]), policy.batch([p.teacher for p in pairs])
    student = policy.hidden(alone, lens.weights)[alone.edges_N]
    now, initial = (policy.hidden(behind, w)[behind.edges_N] for w in (lens.weights, Weights.INITIAL))
    size = max(1, CHUNK_ELEMENTS // policy.vocabulary)
    rows, best = [], []
    for h in zip(student.split(size), now.split(size), initial.split(size), strict=True):
        s, n, f = (policy.logits(x) for x in h)
        t = f if lens.teacher is Weights.INITIAL else n
        rows.append(_columns(s, t, n, f, min(lens.topk, policy.vocabulary)))
        if lens.tops:
            best.append([x.softmax(-1).topk(min(lens.tops, policy.vocabulary), -1) for x in (s, t)])
    columns = torch.cat(rows).T.contiguous().cpu().numpy()
    tops = {}
    for j, side in enumerate(("student", "teacher") if best else ()):
        probs, ids = (torch.cat([b[j][part] for b in best]).cpu().numpy() for part in (0, 1))
        tops[side] = ids, probs
    return TokenGaps(dict(zip(COLUMNS, columns, strict=True)), tops)


def _columns(student: Tensor, teacher: Tensor, now: Tensor, initial: Tensor, k: int) -> Tensor:
    """(n, V) raw logits of the student, of the teacher, and of current and initial weights behind its prompt → (n, 8)
    as COLUMNS. mismatch: of Proposition 1 (ii), between the two weights."""
    s, t, f = student.log_softmax(-1), teacher.log_softmax(-1), initial.log_softmax(-1)
    delta = student - teacher
    top, ids = t.topk(k, -1)
    columns = [  # rounding can leave -1e-7 where both sides agree
        losses.forward_kl(t, s).clamp(min=0.0),
        losses.jsd_full(t, s).clamp(min=0.0),
        losses.lemma1_bound(delta),
        losses.range_bound(delta),
        losses.captured_mass(top),
        losses.captured_mass(s.gather(-1, ids)),
        losses.largest_shift(initial - now),
        losses.forward_kl(f, s).clamp(min=0.0),
    ]
    return torch.stack(columns, -1)


def draw_probe(collector: Collector, cliffs: Sequence[Problem], config: TrainConfig) -> list[Pair]:
    """The fixed probe set: of each held-out cliff one privileged trace (the first accepted of 8; none, no trace) and
    one own trace, drawn once from the initial model with keys of their own."""
    key = DrawKey(config.seed, Purpose.PROBE)
    own = collector.collect(cliffs, Draw(1, key, weights=Weights.INITIAL))
    peeked = collector.collect(cliffs, Draw(8, key, weights=Weights.INITIAL), privileged=True)
    pairs = []
    for o, p in zip(own, peeked, strict=True):
        good = [("privileged", r) for _, r in accepted([p])][:1]
        for on, r in [*good, *(("own", r) for r in o.rollouts if p.fits)]:
            pairs.append(Pair(o.problem.id, on, Trace(o.prompt_ids, r.token_ids), Trace(p.prompt_ids, r.token_ids)))
    return pairs


def probe_rows(policy: Policy, pairs: Sequence[Pair], gaps: Sequence[TokenGaps]) -> list[dict[str, object]]:
    """One row a token, for the run's `gap` table."""
    rows: list[dict[str, object]] = []
    for i, (pair, gap) in enumerate(zip(pairs, gaps, strict=True)):
        for t, token in enumerate(pair.student.completion_ids):
            facts = {"trace": i, "on": pair.on, "problem_id": pair.problem_id, "position": t, "token_id": token}
            values = {STORED.get(c, c): float(gap.values[c][t]) for c in COLUMNS}
            rows.append({**facts, "token": policy.tokenizer.decode([token]), **values})
    return rows


def probe_means(pairs: Sequence[Pair], gaps: Sequence[TokenGaps], on: str) -> dict[str, object]:
    """Per-token means over the traces of one kind, in nats; intervals with the trace as the unit."""
    chosen = [g for p, g in zip(pairs, gaps, strict=True) if p.on == on]
    tokens = sum(len(g.values["mismatch"]) for g in chosen)
    means: dict[str, object] = {"on": on, "n_traces": len(chosen), "n_tokens": tokens}
    for c in COLUMNS:
        values = [float(g.values[c].mean()) for g in chosen]
        e = mean_value(values) if np.isfinite(values).all() else None  # infinite where one side excludes a token
        known = (e.value, e.low, e.high) if e and len(chosen) > 1 else (e.value if e else None, None, None)
        means[STORED.get(c, c)] = dict(zip(("value", "low", "high"), known, strict=True))  # JSON has no infinity
    return means
