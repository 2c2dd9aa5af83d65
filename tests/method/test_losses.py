"""Losses: hand-computed values, limits, where gradients go, and the identities that the theory promises."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hdpo.method import losses
from hdpo.method.losses import LN2

INF = math.inf
UNHURRIED = settings(deadline=None)  # the first call into torch is slow on a busy machine


def logits(vocabulary: int):
    """Strategy: one row of float64 logits, peaked ones included."""
    numbers = st.floats(-30, 30, allow_subnormal=False)
    return st.lists(numbers, min_size=vocabulary, max_size=vocabulary).map(
        lambda row: torch.tensor([row], dtype=torch.float64)
    )


def logp(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities], dtype=torch.float64).log()


# --- clipped surrogate ---


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.0, 2.0, -2.0, -2.0),  # on-policy: the plain policy gradient
        (1.1, 1.0, -1.1, -1.1),  # within the range nothing is cut
        (1.5, 1.0, -1.2, 0.0),  # a good token already raised enough
        (0.5, 1.0, -0.5, -0.5),  # a good token that was lowered is not protected
        (0.5, -1.0, 0.8, 0.0),  # a bad token already lowered enough
        (1.5, -1.0, 1.5, 1.5),  # a bad token that was raised is not protected
        (1.5, 0.0, 0.0, 0.0),  # a cliff: no gradient at any ratio
    ],
)
def test_clipped_surrogate_by_hand(ratio, advantage, loss, gradient):
    new = torch.tensor([math.log(0.4 * ratio)], dtype=torch.float64, requires_grad=True)
    old = torch.tensor([math.log(0.4)], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([advantage], dtype=torch.float64, requires_grad=True)
    found = losses.clipped_surrogate(new, old, weight, clip_eps=0.2)
    found.sum().backward()
    assert found.shape == (1,)
    assert found.item() == pytest.approx(loss)
    assert new.grad.item() == pytest.approx(gradient)  # d ratio / d logp = ratio
    assert old.grad is None and weight.grad is None


# --- JSD_k ---


def test_jsd_topk_by_hand():
    # Teacher (.6, .2) captures .8: (.75, .25) renormalised. Student (.25, .25): half its mass in the tail.
    expected = 0.5 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.25))
    expected += 0.5 * (0.25 * math.log(0.25 / 0.5) + 0.25 * math.log(0.25 / 0.25))
    expected += 0.5 * 0.5 * LN2
    assert losses.jsd_topk(logp(0.6, 0.2), logp(0.25, 0.25)).item() == pytest.approx(expected, abs=1e-12)


@UNHURRIED
@given(teacher=logits(4), student=logits(7))
def test_jsd_topk_is_full_jsd_when_the_teacher_has_no_mass_outside(teacher, student):
    padded = torch.cat([teacher, torch.full((1, 3), -INF, dtype=torch.float64)], dim=-1).log_softmax(-1)
    student = student.log_softmax(-1)
    found = losses.jsd_topk(padded[:, :4], student[:, :4])
    assert torch.allclose(found, losses.jsd_full(padded, student), atol=1e-9)


@UNHURRIED
@given(row=logits(9), k=st.integers(1, 9))
def test_jsd_topk_of_a_distribution_with_itself_is_the_floor(row, k):
    topk = row.log_softmax(-1).topk(k).values
    floor = losses.jsd_floor(losses.captured_mass(topk))
    assert torch.allclose(losses.jsd_topk(topk, topk), floor, atol=1e-9)


@UNHURRIED
@given(teacher=logits(9), student=logits(9), k=st.integers(1, 9))
def test_jsd_topk_stays_within_its_range(teacher, student, k):
    top = teacher.log_softmax(-1).topk(k)
    found = losses.jsd_topk(top.values, student.log_softmax(-1).gather(-1, top.indices)).item()
    assert -1e-9 <= found <= LN2 + 1e-9


def test_jsd_topk_does_not_depend_on_the_teachers_own_tail():
    student = logp(0.3, 0.2)
    assert torch.allclose(
        losses.jsd_topk(logp(0.6, 0.3), student), losses.jsd_topk(logp(0.2, 0.1), student), atol=1e-12
    )


@pytest.mark.parametrize("q", [0.01, 0.3, 0.5, 0.9])
def test_gradient_for_a_one_hot_teacher_is_the_closed_form(q):
    # Vocabulary of two, k = 1, P = (1, 0): -dJSD/dz of the taught token = q(1-q)/2 · ln((1+q)/q).
    z = torch.tensor([[math.log(q / (1 - q)), 0.0]], dtype=torch.float64, requires_grad=True)
    losses.jsd_topk(logp(1.0), z.log_softmax(-1)[:, :1]).sum().backward()
    expected = q * (1 - q) / 2 * math.log((1 + q) / q)
    assert z.grad[0, 0].item() == pytest.approx(-expected, rel=1e-9)
    assert z.grad[0, 1].item() == pytest.approx(expected, rel=1e-9)


def test_gradients_agree_with_finite_differences():
    generator = torch.Generator().manual_seed(3)
    teacher = torch.randn(3, 6, generator=generator, dtype=torch.float64).log_softmax(-1)
    z = torch.randn(3, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    top = teacher.topk(4)
    assert torch.autograd.gradcheck(lambda x: losses.jsd_topk(top.values, x.log_softmax(-1).gather(-1, top.indices)), z)
    for divergence in (losses.jsd_full, losses.forward_kl, losses.reverse_kl):
        assert torch.autograd.gradcheck(lambda x, f=divergence: f(teacher, x.log_softmax(-1)), z)


def test_descending_jsd_topk_pulls_mass_into_the_teachers_top_k():
    # Without the tail term the student could lower the loss by leaving the top-k altogether.
    z = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    losses.jsd_topk(logp(0.5, 0.5), z.log_softmax(-1)[:, :2]).sum().backward()
    assert (z.grad[0, :2] < 0).all() and (z.grad[0, 2:] > 0).all()


# --- every divergence ---

DIVERGENCES = [losses.jsd_topk, losses.jsd_full, losses.forward_kl, losses.reverse_kl]


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_no_gradient_reaches_the_teacher(divergence):
    teacher = torch.randn(5, 8, requires_grad=True)
    student = torch.randn(5, 8, requires_grad=True)
    found = divergence(teacher.log_softmax(-1), student.log_softmax(-1))
    found.sum().backward()
    assert found.shape == (5,)
    assert teacher.grad is None
    assert student.grad.abs().max() > 0


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_without_probability_leave_no_nan(divergence, dtype):
    teacher = torch.tensor([[0.0, -INF, -INF], [0.0, 0.0, -INF], [0.0, 200.0, -200.0]], dtype=dtype)
    student = torch.tensor([[0.0, 1.0, -INF], [3.0, -1.0, -INF], [0.0, -200.0, 200.0]], dtype=dtype, requires_grad=True)
    if divergence is losses.reverse_kl:  # infinite where the teacher excludes what the student allows
        teacher = teacher.detach().where(teacher > -INF, student.detach())
    found = divergence(teacher.log_softmax(-1), student.log_softmax(-1))
    found.sum().backward()
    assert found.dtype == torch.float32
    assert found.isfinite().all() and student.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_a_softmax_that_underflows_at_a_low_temperature_leaves_the_gradient_finite(divergence, dtype):
    """MakazhanAlpamys/Soup#719: a finite loss with a NaN gradient at T = 0.05."""
    generator = torch.Generator().manual_seed(0)
    teacher, student = (torch.randn(4, 32, generator=generator).mul(8).to(dtype) for _ in range(2))
    student.requires_grad_()
    found = divergence((teacher.float() / 0.05).log_softmax(-1), (student.float() / 0.05).log_softmax(-1))
    found.sum().backward()
    assert found.isfinite().all() and student.grad.isfinite().all()


def test_the_tail_of_a_sure_student_multiplies_no_gradient():
    """arcee-ai/DistillKit#45: log(1 - Σ q) of a tail near 0 sends 1e8 backward."""
    student = torch.tensor([[30.0, 0.0, -5.0, -5.0]], requires_grad=True)
    teacher = torch.tensor([[0.6, 0.3]]).log()
    losses.jsd_topk(teacher, student.log_softmax(-1)[:, :2]).sum().backward()
    assert student.grad.isfinite().all() and student.grad.abs().max() < 1.0


def test_teacher_tokens_of_no_probability_count_nothing():
    """huggingface/trl#5594: -inf where a ragged or masked teacher has fewer than k tokens."""
    student = torch.tensor([[1.0, 0.0, -1.0, -INF]], requires_grad=True)
    short, padded = torch.tensor([[0.7, 0.3]]).log(), torch.tensor([[0.7, 0.3, 0.0, 0.0]]).log()
    logq = student.log_softmax(-1)
    for f in (losses.jsd_topk, losses.coarse_kl):
        assert f(padded[:, :3], logq[:, :3]).isfinite().all()
        assert torch.allclose(f(padded[:, [0, 1, 3]], logq[:, [0, 1, 3]]), f(short, logq[:, :2]))
    losses.jsd_topk(padded, logq).sum().backward()
    assert student.grad.isfinite().all()


@UNHURRIED
@given(teacher=logits(6), student=logits(6))
def test_full_jsd_is_symmetric_and_bounded(teacher, student):
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    found = losses.jsd_full(p, q)
    assert torch.allclose(found, losses.jsd_full(q, p), atol=1e-12)
    assert -1e-12 <= found.item() <= LN2 + 1e-12


@UNHURRIED
@given(teacher=logits(6), student=logits(6))
def test_the_two_kl_mirror_each_other_and_are_zero_at_equality(teacher, student):
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    assert torch.allclose(losses.forward_kl(p, q), losses.reverse_kl(q, p), atol=1e-12)
    assert losses.forward_kl(p, q).item() >= -1e-12
    assert losses.forward_kl(p, p).item() == 0.0 and losses.jsd_full(p, p).item() == pytest.approx(0, abs=1e-12)


def test_kl_is_infinite_where_the_other_side_excludes_a_token():
    assert losses.forward_kl(logp(0.5, 0.5), logp(1.0, 0.0)).item() == INF
    assert losses.reverse_kl(logp(0.5, 0.5), logp(1.0, 0.0)).item() == pytest.approx(LN2)


def test_leading_axes_are_left_alone():
    p, q = torch.randn(2, 3, 5).log_softmax(-1), torch.randn(2, 3, 5).log_softmax(-1)
    whole = losses.jsd_full(p, q)
    assert whole.shape == (2, 3)
    assert torch.allclose(whole[1], losses.jsd_full(p[1], q[1]))  # and so chunked equals plain


@UNHURRIED
@given(teacher=logits(7), student=logits(7), k=st.integers(1, 7))
def test_coarse_kl_is_never_above_the_exact_one(teacher, student, k):
    top = teacher.log_softmax(-1).topk(k)
    coarse = losses.coarse_kl(top.values, student.log_softmax(-1).gather(-1, top.indices))
    exact = losses.forward_kl(teacher.log_softmax(-1), student.log_softmax(-1))
    assert coarse.item() <= exact.item() + 5e-6  # tails below 1e-7 are taken as 1e-7
    assert coarse.item() >= -5e-6


def test_coarse_kl_is_exact_where_one_token_holds_the_tail():
    p, q = logp(0.5, 0.3, 0.2), logp(0.25, 0.25, 0.5)
    assert losses.coarse_kl(p[:, :2], q[:, :2]).item() == pytest.approx(losses.forward_kl(p, q).item())


# --- floor, captured mass, entropy, bounds ---


def test_floor_at_its_ends_and_at_the_papers_order_of_magnitude():
    found = losses.jsd_floor(torch.tensor([0.0, 0.98, 1.0], dtype=torch.float64))
    assert found.tolist() == pytest.approx([LN2, 0.00698, 0.0], abs=1e-5)
    assert (losses.jsd_floor(torch.linspace(0, 1, 101)).diff() < 0).all()


def test_captured_mass_and_entropy():
    assert losses.captured_mass(logp(0.5, 0.25, 0.0)).item() == pytest.approx(0.75)
    assert losses.captured_mass(torch.full((1, 4), math.log(0.2500001))).item() == 1.0
    assert losses.entropy(logp(0.25, 0.25, 0.25, 0.25)).item() == pytest.approx(math.log(4))
    assert losses.entropy(logp(1.0, 0.0)).item() == 0.0


@settings(UNHURRIED, max_examples=300)
@given(z=logits(6), delta=logits(6))
def test_lemma_1_and_the_tighter_bound(z, delta):
    kl = losses.forward_kl(z.log_softmax(-1), (z + delta).log_softmax(-1)).item()
    tight, lemma = losses.range_bound(delta).item(), losses.lemma1_bound(delta).item()
    assert kl <= tight * (1 + 1e-9) + 1e-9
    assert tight <= lemma * (1 + 1e-12)


def test_range_bound_ignores_a_constant_and_is_four_times_tighter_when_one_sided():
    delta = torch.tensor([[0.0, 1.0, 3.0]])
    assert losses.range_bound(delta + 5).item() == losses.range_bound(delta).item() == pytest.approx(9 / 8)
    assert losses.lemma1_bound(delta).item() == pytest.approx(4 * losses.range_bound(delta).item())


def test_the_tighter_bound_is_nearly_reached():
    # Two equally likely tokens and a small δ: KL → δ²/8 with δ the range.
    z, delta = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[0.0, 0.01]], dtype=torch.float64)
    kl = losses.forward_kl(z.log_softmax(-1), (z + delta).log_softmax(-1)).item()
    assert kl / losses.range_bound(delta).item() == pytest.approx(1.0, abs=1e-4)
