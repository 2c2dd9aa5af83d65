"""Small real parts for the engine's tests: a random model of the bundled kind, scripted rollouts, hand-made groups."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from hdpo.config import ModelConfig, ObjectiveConfig, PromptConfig, SamplingConfig
from hdpo.grading.verify import VerifierPool
from hdpo.method.groups import Collector
from hdpo.method.objective import Distil, Grpo, Scale, Terms, add_distillation, grpo_gradient
from hdpo.model.batching import Trace
from hdpo.model.policy import Policy, Weights, load_policy
from hdpo.record.ranks import ALONE, Ranks
from hdpo.records import Group, Outcome, Problem, Rollout
from hdpo.sampling.protocol import Completion, Draw, Prompt

HOW_SHORT = SamplingConfig(max_new_tokens=8)
PROBLEMS = tuple(
    Problem(
        f"p{i}", f"What is {i} + {i + 1}?", f"{i}+{i + 1}={2 * i + 1} \\boxed{{{2 * i + 1}}}", str(2 * i + 1), "sum", 1
    )
    for i in range(2, 14)
)


_kept: list[tempfile.TemporaryDirectory[str]] = []  # removed with the process


@functools.cache
def random_model() -> Path:
    """A folder with a random 0.74 M parameter Qwen2 and its tokenizer; built once a session."""
    from hdpo.organism.pretrain import build_model
    from hdpo.organism.tokenizer import build_tokenizer

    _kept.append(tempfile.TemporaryDirectory(prefix="hdpo-random-model-"))
    folder = Path(_kept[-1].name)
    tokenizer = build_tokenizer(tasks=400)
    model = build_model(tokenizer, seed=5)  # of which some completions end early and some never
    with torch.no_grad():  # louder than at birth, or every distribution is flat
        for name, p in model.named_parameters():
            if p.dim() == 2:
                p.mul_(12.0 if "embed" in name else 2.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def random_policy(seed: int = 0, trained: bool = True, **settings: object) -> Policy:
    """A policy on the random model. trained: the adapter is pushed off zero, so that it matters."""
    policy = load_policy(ModelConfig(**{"model": str(random_model()), "rank": 4, "alpha": 8, **settings}), seed)
    if trained:
        push(policy, seed)
    return policy


def hdpo_gradient(
    policy: Policy, grpo: Grpo, distil: Distil, objective: ObjectiveConfig, scale: Scale, ranks: Ranks = ALONE
) -> Terms:
    """Both terms in one call, as a step makes them one by one."""
    first = grpo_gradient(policy, grpo, objective, scale, ranks)
    return add_distillation(policy, first, distil, objective, scale, ranks)


def push(policy: Policy, seed: int = 0, size: float = 0.05) -> None:
    """Random noise onto the adapter: what training would do, without training."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in policy.trainable:
            p.add_(size * torch.randn(p.shape, generator=noise))


def prompts_of(policy: Policy, problems: Sequence[Problem] = PROBLEMS) -> list[Prompt]:
    collector = collector_of(policy)
    return [Prompt(p.id, collector.student_ids(p)) for p in problems]


def collector_of(policy: Policy, sampler: object | None = None, how: SamplingConfig | None = None) -> Collector:
    from hdpo.sampling.transformers import TransformersSampler

    return Collector(
        policy,
        sampler or TransformersSampler(policy),
        VerifierPool(),
        PromptConfig(),
        how or SamplingConfig(max_new_tokens=8),
        PROBLEMS,
    )  # type: ignore[arg-type]


def group_of(
    policy: Policy, outcomes: Sequence[Outcome], problem: Problem = PROBLEMS[0], lengths: Sequence[int] | None = None
) -> Group:
    """A group whose rollouts are arbitrary tokens with these verdicts."""
    make = torch.Generator().manual_seed(len(problem.id) + len(outcomes))
    rollouts = []
    for i, o in enumerate(outcomes):
        t = (lengths or range(3, 3 + len(outcomes)))[i]
        ids = tuple(torch.randint(5, 300, (t,), generator=make).tolist())
        rollouts.append(Rollout(problem.id, i, ids, (-1.0,) * t, "", o))
    return Group(problem, collector_of(policy).student_ids(problem), tuple(rollouts))


def log_probs(
    policy: Policy, trace: Trace, temperature: float = 1.0, weights: Weights = Weights.CURRENT
) -> torch.Tensor:
    """(T, V) log-probs at the completion positions, by the plainest forward pass there is."""
    with torch.no_grad(), policy.using(weights):
        logits = policy.model(input_ids=torch.tensor([[*trace.prompt_ids, *trace.completion_ids]])).logits[0]
    return (logits[len(trace.prompt_ids) - 1 : -1] / temperature).log_softmax(-1)


class ScriptedSampler:
    """Says what it is told: script(prompt, rollout index) → (text, truncated)."""

    def __init__(self, policy: Policy, script: Callable[[Prompt, int], tuple[str, bool]]) -> None:
        self.policy, self.script = policy, script

    def sample(self, prompts: Sequence[Prompt], how: SamplingConfig, draw: Draw, *_: object) -> list[list[Completion]]:
        end = min(self.policy.end_ids)
        found = []
        for p in prompts:
            said = [self.script(p, g) for g in range(draw.n)]
            ids = [(tuple(self.policy.tokenizer(t, add_special_tokens=False).input_ids), cut) for t, cut in said]
            found.append([Completion(i if cut else (*i, end), (-1.0,) * (len(i) + (not cut)), cut) for i, cut in ids])
        return found

    def release(self) -> None:
        pass

    def parity(self) -> dict[str, float]:
        return {}
