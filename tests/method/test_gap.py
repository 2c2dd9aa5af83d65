"""The gap against sums written out by hand, and the probe set that does not move."""

import math

import numpy as np
import pytest
import torch

from hdpo.config import TrainConfig, replace_knobs
from hdpo.method import gap as module
from hdpo.method.gap import COLUMNS, Lens, Pair, draw_probe, probe_means, probe_rows, token_gaps
from hdpo.model.batching import Trace
from hdpo.model.policy import Weights
from tests.engine import PROBLEMS, ScriptedSampler, collector_of, log_probs, random_policy

LN2 = math.log(2)


@pytest.fixture(scope="module")
def policy():
    return random_policy()


def pairs_of(policy):
    collector = collector_of(policy)
    done = [tuple(range(20, 20 + t)) for t in (4, 7, 3)]
    return [
        Pair(p.id, on, Trace(collector.student_ids(p), c), Trace(collector.privileged_ids(p), c))
        for p, c, on in zip(PROBLEMS, done, ("own", "privileged", "own"), strict=False)
    ]


def test_every_column_equals_the_sum_written_out(policy) -> None:
    pairs = pairs_of(policy)
    gaps = token_gaps(policy, pairs, Lens(topk=16, tops=3))
    for pair, found in zip(pairs, gaps, strict=True):
        t, s = log_probs(policy, pair.teacher), log_probs(policy, pair.student)
        f = log_probs(policy, pair.teacher, weights=Weights.INITIAL)
        m = torch.logaddexp(t, s) - LN2
        kl = (t.exp() * (t - s)).sum(-1)
        expected = {
            "kl": kl,
            "kl_frozen": (f.exp() * (f - s)).sum(-1),
            "jsd": 0.5 * (t.exp() * (t - m)).sum(-1) + 0.5 * (s.exp() * (s - m)).sum(-1),
            "teacher_mass": t.topk(16, -1).values.exp().sum(-1),
            "student_mass": s.gather(-1, t.topk(16, -1).indices).exp().sum(-1),
        }
        for name, values in expected.items():
            assert np.allclose(found.values[name], values, atol=1e-3), name
        assert (found.values["kl"] <= found.values["range_bound"] + 1e-3).all()
        assert (found.values["range_bound"] <= found.values["lemma1"] + 1e-3).all()
        assert np.allclose(found.tops["teacher"][1], t.topk(3, -1).values.exp(), atol=1e-3)


def test_micro_batches_and_chunks_change_nothing(policy, monkeypatch) -> None:
    pairs = pairs_of(policy)
    whole = token_gaps(policy, pairs, Lens(topk=16))
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", policy.vocabulary * 2)
    split = token_gaps(policy, pairs, Lens(topk=16, micro_batch_tokens=40))
    for a, b in zip(whole, split, strict=True):
        assert all(np.allclose(a.values[c], b.values[c], atol=1e-3) for c in COLUMNS)


def test_the_mismatch_is_zero_until_training_moves() -> None:
    still, moved = random_policy(trained=False), random_policy()
    assert all((g.values["mismatch"] == 0).all() for g in token_gaps(still, pairs_of(still), Lens(topk=8)))
    assert all((g.values["mismatch"] > 0).all() for g in token_gaps(moved, pairs_of(moved), Lens(topk=8)))


def test_the_same_context_on_both_sides_has_no_gap(policy) -> None:
    same = [Pair(p.problem_id, p.on, p.student, p.student) for p in pairs_of(policy)]
    for g in token_gaps(policy, same, Lens(topk=8)):
        assert np.allclose(g.values["kl"], 0, atol=1e-6) and (g.values["lemma1"] == 0).all()


def test_the_probe_takes_the_first_accepted_trace_and_one_own(policy) -> None:
    def script(prompt, g):
        answer = str(2 * int(prompt.problem_id[1:]) + 1)
        return (f"\\boxed{{{answer}}}", False) if g == 2 and prompt.problem_id != "p3" else ("\\boxed{0}", False)

    collector = collector_of(policy, ScriptedSampler(policy, script))
    pairs = draw_probe(collector, PROBLEMS[:2], replace_knobs(TrainConfig(), {"seed": 1}))
    assert [(p.problem_id, p.on) for p in pairs] == [("p2", "privileged"), ("p2", "own"), ("p3", "own")]
    assert pairs[0].student.completion_ids == pairs[0].teacher.completion_ids
    assert len(pairs[0].teacher.prompt_ids) > len(pairs[0].student.prompt_ids)
    gaps = token_gaps(policy, pairs, Lens(topk=8))
    rows = probe_rows(policy, pairs, gaps)
    assert [r["token_id"] for r in rows if r["trace"] == 0] == list(pairs[0].student.completion_ids)
    means = probe_means(pairs, gaps, "own")
    traces = [np.mean([r["kl_drifting"] for r in rows if r["trace"] == t]) for t in (1, 2)]
    assert means["n_traces"] == 2 and means["kl_drifting"]["value"] == pytest.approx(np.mean(traces))


def test_a_masked_vocabulary_leaves_no_nan_and_no_infinity(policy, monkeypatch) -> None:
    real = policy.logits

    def masked(hidden):
        logits = real(hidden).clone()
        logits[..., 100:] = -torch.inf  # what a grammar or a banned list leaves: k reaches beyond it
        return logits

    monkeypatch.setattr(policy, "logits", masked)
    pairs = pairs_of(policy)
    gaps = token_gaps(policy, pairs, Lens(topk=128))
    assert all(np.isfinite(g.values[c]).all() and (g.values[c] >= 0).all() for g in gaps for c in COLUMNS)
    assert np.isfinite(probe_means(pairs, gaps, "own")["lemma1"]["value"])


def test_what_is_infinite_has_no_mean(policy) -> None:
    (gap,) = token_gaps(policy, pairs_of(policy)[:1], Lens())
    gap.values["kl"][0] = np.inf
    means = probe_means(pairs_of(policy)[:1], [gap], "own")
    assert means["kl_drifting"] == {"value": None, "low": None, "high": None} and means["jsd_drifting"]["value"] >= 0
