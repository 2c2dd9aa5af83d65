"""Rollouts and evaluations against `model.generate` of transformers at its best."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import median

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from hdpo.config import ModelConfig, PromptConfig, SamplingConfig
from hdpo.data.problems import bundled
from hdpo.data.prompts import render, student_messages
from hdpo.grading.verify import VerifierPool
from hdpo.method.evaluate import measure
from hdpo.method.groups import Collector
from hdpo.model.find import find
from hdpo.model.policy import Policy, load_policy
from hdpo.records import Problem
from hdpo.sampling.draws import DrawKey, Purpose
from hdpo.sampling.protocol import Draw, Prompt, Sampler
from hdpo.sampling.transformers import TransformersSampler
from tests.benchmarks import floor
from tests.benchmarks.harness import FEW, REPEATS, Row, interleaved, seconds

HOW = SamplingConfig(max_new_tokens=96)
BATCHES = (256, 512, 1024, 2048)  # sequences at once, tried for `generate`


class Generate:
    """`model.generate` on the merged model: cache on, one left-padded batch, the same stop tokens and dtype."""

    def __init__(self, policy: Policy) -> None:
        dtype = policy.causal.dtype
        self.model = AutoModelForCausalLM.from_pretrained(find(policy.name).folder, dtype=dtype).eval()
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

    def in_batches(self, prompts: Sequence[Prompt], n: int, size: int, greedy: bool = False) -> list[list[int]]:
        """The same, `size` prompts at a time, those of like length together; in the order of the prompts."""
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids))
        found: dict[int, list[list[int]]] = {}
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            ids = self([prompts[i] for i in chosen], n, greedy)
            found |= {i: ids[j * n : (j + 1) * n] for j, i in enumerate(chosen)}
        return [x for i in range(len(prompts)) for x in found[i]]


def prompts_of(policy: Policy, problems: Sequence[Problem]) -> list[Prompt]:
    return [Prompt(p.id, render(policy.tokenizer, student_messages(p, PromptConfig()))[1]) for p in problems]


def collector_for(policy: Policy, verifier: VerifierPool, problems: Sequence[Problem]) -> Collector:
    return Collector(policy, TransformersSampler(policy), verifier, PromptConfig(), HOW, problems)


def rollouts() -> Row:
    """16 prompts × 8 of the bundled model, at most 96 new tokens."""
    return rollouts_of(ModelConfig(), bundled("steep", "validation")[:16], 4.5, REPEATS)


def real_rollouts() -> list[Row]:
    """The same of SmolLM2, raised on stories, in both dtypes."""
    models = (ModelConfig(model="smollm2", dtype=dtype) for dtype in ("float32", "bfloat16"))
    return [rollouts_of(m, bundled("stories", "validation")[:16], 4.0, FEW) for m in models]


def against_vllm() -> Row:
    """SmolLM2 in bfloat16, by vLLM's CPU build beside this process; the same prompts, K and length."""
    from hdpo.sampling import vllm

    config = ModelConfig(model="smollm2", dtype="bfloat16", sampler="vllm")
    policy = load_policy(config)
    prompts = prompts_of(policy, bundled("stories", "validation")[:16])
    steps, theirs = iter(range(1000)), vllm.make(policy, config, 0)
    ours = TransformersSampler(policy)

    def by(sampler: Sampler) -> None:
        sampler.sample(prompts, HOW, Draw(8, DrawKey(0, Purpose.STUDENT, next(steps))))

    try:
        sides = interleaved(lambda: by(ours), lambda: by(theirs), FEW)
    finally:
        theirs.close()
    return Row(
        "rollouts, smollm2 in bfloat16, 16 prompts × 8", "vLLM 0.32, CPU build", "s", *sides, 1.5, note=f"{FEW} repeats"
    )


def rollouts_of(model: ModelConfig, problems: Sequence[Problem], goal: float, repeats: int) -> Row:
    """Ours takes the adapter anew each time, as after an update."""
    policy = load_policy(model)
    sampler, generate = TransformersSampler(policy), Generate(policy)
    prompts = prompts_of(policy, problems)
    steps = iter(range(1000))

    def ours() -> None:
        with torch.no_grad():
            for p in policy.trainable:
                p.add_(0.0)
        sampler.sample(prompts, HOW, Draw(8, DrawKey(0, Purpose.STUDENT, next(steps))))

    mine, theirs = interleaved(ours, lambda: generate(prompts, 8), repeats)
    last = sampler.sample(prompts, HOW, Draw(8, DrawKey(0, Purpose.STUDENT, next(steps))))
    sequences = [(len(p.ids), len(c.token_ids)) for p, group in zip(prompts, last, strict=True) for c in group]
    what = f"rollouts, {'' if model.model == 'bundled' else f'{model.model} in {model.dtype}, '}16 prompts × 8"
    rate = sum(t for _, t in sequences) / median(mine)
    least = floor.decoding(policy, sequences, shared=8)
    against = "`model.generate`, merged, one batch"
    return Row(what, against, "s", mine, theirs, goal, note=f"{rate:,.0f} tokens/s, {repeats} repeats", floor=least)


def evaluation() -> Row:
    """128 problems × 16 and one greedy completion each, graded, on both sides."""
    policy, problems = load_policy(ModelConfig()), bundled("steep", "validation")[:128]
    generate = Generate(policy)
    with VerifierPool() as verifier:
        collector = collector_for(policy, verifier, problems)
        prompts = prompts_of(policy, problems)
        steps = iter(range(1000))
        sizes = {size: seconds(partial(generate.in_batches, prompts, 16, size // 16)) for size in BATCHES}
        best = min(sizes, key=lambda size: sizes[size])

        def ours() -> None:
            measure(collector, problems, Draw(16, DrawKey(0, Purpose.EVALUATION, next(steps))), lambda _: None)

        def theirs() -> None:
            for n, greedy in ((16, False), (1, True)):
                ids = generate.in_batches(prompts, n, best // n, greedy)
                texts = policy.tokenizer.batch_decode(ids, skip_special_tokens=True)
                golds = [p.answer for p in problems for _ in range(n)]
                verifier.grade(list(zip(texts, golds, strict=True)))

        mine, other = interleaved(ours, theirs)
        share = collector.seconds["verify"] / sum(collector.seconds.values())
        least = floor_of_evaluation(collector, problems)
    against = f"`model.generate`, {best} sequences at once (its best of {', '.join(map(str, BATCHES))})"
    what, note = "evaluation, 128 problems × 16 and greedy", f"grading {100 * share:.0f} % of ours"
    return Row(what, against, "s", mine, other, 4.5, note=note, floor=least)


def floor_of_evaluation(collector: Collector, problems: Sequence[Problem]) -> float:
    """Of its decoding; grading is not counted."""

    def decoding(n: int, greedy: bool) -> float:
        groups = collector.collect(problems, Draw(n, DrawKey(0, Purpose.EVALUATION), greedy=greedy))
        sequences = [(len(g.prompt_ids), len(r.token_ids)) for g in groups for r in g.rollouts]
        return floor.decoding(collector.policy, sequences, shared=n)

    return decoding(16, greedy=False) + decoding(1, greedy=True)
