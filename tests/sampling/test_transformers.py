"""The sampler says the same whatever else is in the batch, and its numbers are those of a plain forward pass."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from hdpo.config import SamplingConfig
from hdpo.errors import HdpoError
from hdpo.model.batching import Trace
from hdpo.model.policy import Weights
from hdpo.sampling import transformers as sampling
from hdpo.sampling.draws import DrawKey, Purpose
from hdpo.sampling.protocol import Draw
from hdpo.sampling.stops import Stops
from hdpo.sampling.transformers import TransformersSampler, inverse_cdf, nucleus
from tests.engine import log_probs, prompts_of, random_policy

KEY = DrawKey(0, Purpose.STUDENT, 1)
HOW = SamplingConfig(max_new_tokens=12)


@pytest.fixture(scope="module", params=["flat", "plain"])
def policy(request):
    """Both ways through the model; one without the other would be tested by nothing."""
    found = random_policy()
    return found if request.param == "flat" else replace(found, flat=None)


def tokens(groups):
    return [[c.token_ids for c in g] for g in groups]


def test_batching_and_order_change_no_draw(policy) -> None:
    sampler, prompts = TransformersSampler(policy), prompts_of(policy)
    together = tokens(sampler.sample(prompts, HOW, Draw(4, KEY)))
    alone = [tokens(sampler.sample([p], HOW, Draw(4, KEY)))[0] for p in prompts]
    backwards = tokens(sampler.sample(prompts[::-1], HOW, Draw(4, KEY)))[::-1]
    assert together == alone == backwards


def test_a_few_logits_at_a_time_change_no_draw(policy, monkeypatch) -> None:
    sampler, prompts = TransformersSampler(policy), prompts_of(policy)
    whole = sampler.sample(prompts, HOW, Draw(4, KEY, topk=4))
    monkeypatch.setattr(sampling, "CHUNK_ELEMENTS", 7 * policy.vocabulary)
    in_chunks = sampler.sample(prompts, HOW, Draw(4, KEY, topk=4))
    assert tokens(whole) == tokens(in_chunks)
    for a, b in zip((c for g in whole for c in g), (c for g in in_chunks for c in g), strict=True):
        assert (a.topk.ids == b.topk.ids).all() and np.allclose(a.logprobs, b.logprobs, atol=2e-4)


def test_numbers_that_ran_away_are_a_sentence(policy) -> None:
    broken = copy.deepcopy(policy)
    with torch.no_grad():
        broken.trainable[-1].fill_(torch.nan)
    with pytest.raises(HdpoError, match="lower learning rate"):
        TransformersSampler(broken).sample(prompts_of(policy)[:2], HOW, Draw(2, KEY))


def test_fewer_rollouts_are_the_first_of_more(policy) -> None:
    sampler, prompts = TransformersSampler(policy), prompts_of(policy)[:3]
    assert tokens(sampler.sample(prompts, HOW, Draw(2, KEY))) == [
        g[:2] for g in tokens(sampler.sample(prompts, HOW, Draw(5, KEY)))
    ]


def test_rows_leaving_early_or_never_change_no_draw(policy, monkeypatch) -> None:
    sampler, prompts = TransformersSampler(policy), prompts_of(policy)
    found = []
    for leave_at in (0.0, 0.3, 1.0):
        monkeypatch.setattr(sampling, "LEAVE_AT", leave_at)
        found.append(tokens(sampler.sample(prompts, SamplingConfig(max_new_tokens=40), Draw(4, KEY))))
    assert found[0] == found[1] == found[2]
    assert len({len(c) for g in found[0] for c in g}) > 1, "some must end early, or nothing was tested"


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_are_those_of_a_plain_forward_pass(policy, temperature) -> None:
    how = SamplingConfig(max_new_tokens=12, temperature=temperature)
    prompts = prompts_of(policy)
    for prompt, group in zip(prompts, TransformersSampler(policy).sample(prompts, how, Draw(2, KEY)), strict=True):
        for c in group:
            logp = log_probs(policy, Trace(prompt.ids, c.token_ids), temperature)
            at = logp.gather(-1, torch.tensor(c.token_ids)[:, None])[:, 0]
            assert np.allclose(c.logprobs, at, atol=2e-4)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("weights", list(Weights))
def test_kept_top_k_is_the_teachers_at_temperature_1(policy, temperature, weights) -> None:
    how = SamplingConfig(max_new_tokens=8, temperature=temperature)
    prompts = prompts_of(policy)[:4]
    groups = TransformersSampler(policy).sample(prompts, how, Draw(2, KEY, weights=weights, topk=16))
    for prompt, group in zip(prompts, groups, strict=True):
        for c in group:
            best = log_probs(policy, Trace(prompt.ids, c.token_ids), weights=weights).topk(16, -1)
            assert np.allclose(c.topk.logprobs, best.values, atol=2e-4)
            assert (c.topk.ids == best.indices.numpy()).mean() > 0.95  # ties may swap
            assert c.topk.weights == policy.name_of(weights)


def test_greedy_is_transformers_own_greedy(policy) -> None:
    prompts = prompts_of(policy)[:3]
    ours = TransformersSampler(policy).sample(prompts, HOW, Draw(1, KEY, greedy=True))
    for p, (c,) in zip(prompts, ours, strict=True):
        plain = GenerationConfig(
            max_new_tokens=12, do_sample=False, eos_token_id=list(policy.end_ids), pad_token_id=policy.pad_id
        )
        theirs = policy.model.generate(input_ids=torch.tensor([p.ids]), generation_config=plain)[0, len(p.ids) :]
        assert c.token_ids == tuple(theirs.tolist())


def test_a_completion_without_end_token_is_truncated(policy) -> None:
    for group in TransformersSampler(policy).sample(prompts_of(policy), SamplingConfig(max_new_tokens=3), Draw(4, KEY)):
        for c in group:
            assert c.truncated == (c.token_ids[-1] not in policy.end_ids)
            assert len(c.token_ids) == 3 or not c.truncated


def test_a_stop_text_ends_a_completion_with_the_token_that_completes_it(policy) -> None:
    """As the whole completion, cut there; the draws of the others stay; and what cuts afterwards (vLLM) finds the same."""
    read, prompts = policy.tokenizer.decode, prompts_of(policy)
    how, draw = SamplingConfig(max_new_tokens=12), Draw(4, KEY, topk=3)
    whole = [c for g in TransformersSampler(policy).sample(prompts, how, draw) for c in g]
    i = next(i for i, c in enumerate(whole) if len(c.token_ids) > 7)
    text = read(whole[i].token_ids[2:5])
    stops = Stops(policy.tokenizer, (text, "never"))
    escaped = text.replace("\\", "\\\\").replace(",", "\\,").replace("\n", "\\n")
    stopped = TransformersSampler(policy).sample(prompts, replace(how, stop=f"never,{escaped}"), draw)
    stopped = [c for g in stopped for c in g]
    ends = next(t for t in range(1, 6) if text in read(whole[i].token_ids[:t]))
    assert stopped[i].token_ids == whole[i].token_ids[:ends] and not stopped[i].truncated
    for short, long in zip(stopped, whole, strict=True):
        cut = stops.cut(long)
        assert (short.token_ids, short.truncated) == (cut.token_ids, cut.truncated)
        assert short.token_ids == long.token_ids[: len(short.token_ids)] and text not in read(short.token_ids[:-1])
        assert (text in read(long.token_ids)) == (text in read(short.token_ids))
        assert np.array_equal(short.topk.ids, cut.topk.ids) and len(cut.logprobs) == len(cut.token_ids)


def test_tokens_are_told_as_they_appear(policy) -> None:
    heard: dict[tuple[int, int], list[int]] = {}
    found = TransformersSampler(policy).sample(
        prompts_of(policy)[:3], HOW, Draw(2, KEY), on_token=lambda p, g, t: heard.setdefault((p, g), []).append(t)
    )
    assert {k: tuple(v) for k, v in heard.items()} == {
        (p, g): c.token_ids for p, gs in enumerate(found) for g, c in enumerate(gs)
    }


def test_draws_follow_the_distribution(policy) -> None:
    prompt = prompts_of(policy)[0]
    (group,) = TransformersSampler(policy).sample([prompt], SamplingConfig(max_new_tokens=1), Draw(3000, KEY))
    p = log_probs(policy, Trace(prompt.ids, (5,)))[0].exp()
    seen = torch.bincount(torch.tensor([c.token_ids[0] for c in group]), minlength=len(p)) / 3000
    likely = p > 0.01
    assert ((seen - p)[likely].abs() < 5 * (p * (1 - p) / 3000).sqrt()[likely]).all()


def test_the_last_token_with_mass_takes_what_rounding_leaves() -> None:
    probs = torch.tensor([[0.25, 0.75, 0.0]])
    assert inverse_cdf(probs, torch.tensor([1.0 - 1e-17], dtype=torch.float64)).item() == 1


def test_the_nucleus_keeps_the_most_probable_and_at_least_one() -> None:
    probs = torch.tensor([[0.1, 0.6, 0.3]])
    assert (nucleus(probs, 0.05) > 0).tolist() == [[False, True, False]]
    assert (nucleus(probs, 0.61) > 0).tolist() == [[False, True, True]]
    assert nucleus(probs, 1.0) is probs
