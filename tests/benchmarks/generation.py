"""Rollouts and evaluations against `model.generate` of transformers at its best."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from hdpo.config import EvalConfig, ModelConfig, PromptConfig, SamplingConfig
from hdpo.draws import DrawKey, Purpose
from hdpo.evaluate import measure
from hdpo.groups import Collector
from hdpo.policy import BUNDLED, Policy, load_policy
from hdpo.problems import bundled
from hdpo.records import Problem
from hdpo.sampling import Prompt, TransformersSampler
from hdpo.verify import VerifierPool
from tests.benchmarks import floor
from tests.benchmarks.harness import Row, interleaved

HOW = SamplingConfig(max_new_tokens=96)


class Generate:
    """`model.generate` on the merged model: cache on, one left-padded batch, the same stop tokens and dtype."""

    def __init__(self, policy: Policy) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(BUNDLED).eval()
        self.policy = policy

    def __call__(self, prompts: Sequence[Prompt], n: int, greedy: bool = False) -> list[list[int]]:
        """New token ids of n completions of each prompt."""
        width = max(len(p.ids) for p in prompts)
        pad = self.policy.pad_id
        ids = torch.tensor([[pad] * (width - len(p.ids)) + list(p.ids) for p in prompts]).repeat_interleave(n, 0)
        mask = torch.tensor([[0] * (width - len(p.ids)) + [1] * len(p.ids) for p in prompts]).repeat_interleave(n, 0)
        sampled = {} if greedy else {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0}
        how = GenerationConfig(
            max_new_tokens=HOW.max_new_tokens, eos_token_id=sorted(self.policy.end_ids), pad_token_id=pad, **sampled
        )
        with torch.no_grad():
            found = self.model.generate(input_ids=ids, attention_mask=mask, generation_config=how)
        return found[:, width:].tolist()


def collector_for(policy: Policy, verifier: VerifierPool, problems: Sequence[Problem]) -> Collector:
    return Collector(policy, TransformersSampler(policy), verifier, PromptConfig(), HOW, problems)


def rollouts() -> Row:
    """16 prompts × 8, at most 96 new tokens; ours folds the adapter anew each time, as after an update."""
    policy, problems = load_policy(ModelConfig()), bundled("steep", "validation")[:16]
    sampler, generate = TransformersSampler(policy), Generate(policy)
    collector = collector_for(policy, VerifierPool(), problems)
    prompts = [Prompt(p.id, collector.student_ids(p)) for p in problems]
    steps = iter(range(1000))

    def ours() -> None:
        with torch.no_grad():
            for p in policy.trainable:
                p.add_(0.0)
        sampler.sample(prompts, 8, HOW, DrawKey(0, Purpose.STUDENT, next(steps)))

    mine, theirs = interleaved(ours, lambda: generate(prompts, 8))
    last = sampler.sample(prompts, 8, HOW, DrawKey(0, Purpose.STUDENT, next(steps)))
    sequences = [(len(p.ids), len(c.token_ids)) for p, group in zip(prompts, last, strict=True) for c in group]
    least = floor.decoding(policy, sequences, shared=8)
    return Row(
        "rollouts, 16 prompts × 8", "`model.generate`, merged, one batch", "s", mine, theirs, 2.2, 4.0, floor=least
    )


def evaluation() -> Row:
    """128 problems × 16 and one greedy completion each, graded, on both sides."""
    policy, problems = load_policy(ModelConfig()), bundled("steep", "validation")[:128]
    generate = Generate(policy)
    with VerifierPool() as verifier:
        collector = collector_for(policy, verifier, problems)
        prompts = [Prompt(p.id, collector.student_ids(p)) for p in problems]
        steps = iter(range(1000))

        def ours() -> None:
            measure(
                collector,
                problems,
                EvalConfig(eval_samples=16),
                DrawKey(0, Purpose.EVALUATION, next(steps)),
                lambda _: None,
            )

        def theirs() -> None:
            for n, greedy in ((16, False), (1, True)):
                texts = policy.tokenizer.batch_decode(generate(prompts, n, greedy), skip_special_tokens=True)
                golds = [p.answer for p in problems for _ in range(n)]
                verifier.grade(list(zip(texts, golds, strict=True)))

        mine, other = interleaved(ours, theirs)
    return Row("evaluation, 128 problems × 16 and greedy", "`model.generate`, the same", "s", mine, other, 2.2, 4.0)
