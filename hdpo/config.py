"""Every setting, once: the object that runs is the object that is saved, shown and named.

A field carries its default, the paper's value (Table 2, App. C), its limits and one sentence of help; the command
line's flags and the app's widgets are derived from it (`knobs`). Nothing here imports torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from hdpo.errors import BadInput
from hdpo.knobs import Knob, check, from_json, knob, knobs, replace_knobs, to_json

__all__ = [
    "KINDS",
    "Divergence",
    "EvalConfig",
    "EvaluateConfig",
    "Knob",
    "ModelConfig",
    "ObjectiveConfig",
    "ProblemConfig",
    "PromptConfig",
    "SamplingConfig",
    "ScanConfig",
    "StepConfig",
    "SweepConfig",
    "Teacher",
    "TrainConfig",
    "from_json",
    "knobs",
    "replace_knobs",
    "to_json",
]


class Advantage(str, Enum):
    """How a reward is compared with its group, of mean r̄ and population standard deviation σ.

    LEAVE_ONE_OUT: r_i - mean of the others (RLOO, arXiv 2402.14740); what the paper's runs use (App. C).
    STD: (r_i - r̄)/σ (GRPO, arXiv 2402.03300), the paper's equation form.
    DR_GRPO: r_i - r̄ (Dr. GRPO, arXiv 2503.20783): no σ, which favours groups nearly all right or all wrong.
    """

    LEAVE_ONE_OUT = "leave-one-out"
    STD = "std-normalised"
    DR_GRPO = "dr-grpo"


class Information(str, Enum):
    """What the privileged prompt tells. The paper shows the whole worked solution."""

    ANSWER = "answer"  # the final answer only
    SOLUTION = "solution"  # the whole worked solution
    FRACTION = "fraction"  # its first steps, never the final box
    WRONG_OTHER = "wrong-other"  # control: another problem's solution
    WRONG_ANSWER = "wrong-answer"  # control: the own solution with another final answer


@dataclass(frozen=True)
class Wording:
    """Templates of the user turn, with {problem} and, in the privileged one, {reference}. Other braces are plain text."""

    student: str
    privileged: str

    def __post_init__(self) -> None:
        for name, template, needed in (
            ("student's", self.student, ("{problem}",)),
            ("privileged", self.privileged, ("{problem}", "{reference}")),
        ):
            missing = [mark for mark in needed if mark not in template]
            if missing:
                raise BadInput(f"The {name} wording must contain {' and '.join(missing)}; found {template!r}. Add it.")
        if "{reference}" in self.student:
            raise BadInput(
                "The student's wording must not contain {reference}: it would show the ground truth. Remove it."
            )


PLAIN = Wording("{problem}", "{problem}\nReference solution: {reference}")
INSTRUCT = Wording(
    "{problem}\n\nReason step by step, and put your final answer within \\boxed{}.",
    "{problem}\n\nHere is a reference solution:\n{reference}\n\n"
    "With its help, write your own full solution of the problem. "
    "Reason step by step, and put your final answer within \\boxed{}.",
)


class Teacher(str, Enum):
    """Whose distribution is distilled (Sec. 3.2): the current weights, or those at step 0."""

    DRIFTING = "drifting"
    FROZEN = "frozen"


class Divergence(str, Enum):
    """The distance between teacher and student; JSD_k is the paper's, the others need full-vocabulary logits."""

    JSD_TOPK = "jsd-topk"
    JSD = "jsd"
    FORWARD_KL = "forward-kl"
    REVERSE_KL = "reverse-kl"


@dataclass(frozen=True)
class ModelConfig:
    model: str = knob("bundled", "'bundled', a folder in transformers' format, a .gguf file, or a hub id owner/name")
    revision: str = knob("", "commit, tag or branch of a hub model; a run's config gets the commit")
    adapter: str = knob("", "LoRA checkpoint folder to start from; empty starts from the base model", paper="none")
    device: str = knob("auto", "where to compute", options=("auto", "cpu", "cuda", "mps"))
    processes: int = knob(
        1, "processes that share the work, one per GPU; changes time, never the result", low=1, high=1024
    )
    sampler: str = knob(
        "transformers", "who draws the rollouts; vllm needs requirements-gpu.txt", options=("transformers", "vllm")
    )
    vllm_url: str = knob("", "a running `vllm serve` that draws; empty starts vLLM beside the trainer")
    vllm_memory: float = knob(0.3, "share of the GPU's memory that vLLM may take", low=0.05, high=0.95)
    dtype: str = knob(
        "float32",
        "of the base weights; adapter and optimiser stay in float32",
        paper="bfloat16",
        options=("float32", "bfloat16", "float16"),
    )
    rank: int = knob(16, "LoRA rank", paper="full fine-tuning", low=1, high=512)
    alpha: int = knob(
        32, "LoRA alpha; the update is scaled by alpha / rank", paper="full fine-tuning", low=1, high=1024
    )
    targets: str = knob("all-linear", "LoRA target modules: 'all-linear', or names with commas between")

    def __post_init__(self) -> None:
        check(self)
        if self.sampler == "vllm" and self.processes > 1 and not self.vllm_url:
            raise BadInput(
                "sampler: expected one process, or a vLLM server with --vllm-url, found --processes above 1. Start `vllm serve` as the README says."
            )


@dataclass(frozen=True)
class ProblemConfig:
    problems: str = knob(
        "bundled:steep",
        "'bundled:steep', 'bundled:gentle', a JSONL, CSV or Parquet file, or a hub id owner/name",
        paper="OpenMathInstruct-2",
    )
    columns: str = knob("", "column mapping of a file, such as text=question,solution=answer,answer=final")
    sources: str = knob(
        "",
        "sources (such as problem_source) whose problems count, with commas between; empty takes all",
        paper="MATH and GSM8K",
    )
    limit: int = knob(0, "read at most this many problems; 0 reads all", low=0)
    split_seed: int = knob(42, "seed of the train/validation hash", paper="42", low=0)
    validation_share: float = knob(
        0.05, "share of a file's problems held out for validation", paper="0.05", low=0.0, high=0.9
    )

    def __post_init__(self) -> None:
        check(self)
        self.mapping()

    def mapping(self) -> dict[str, str] | None:
        """The column mapping as a dict, None where the columns shall be known by name."""
        if not self.columns:
            return None
        pairs = [p.partition("=") for p in self.columns.split(",")]
        if any(not (k.strip() and eq and v.strip()) for k, eq, v in pairs):
            raise BadInput(
                f"columns: expected text=…,solution=…,answer=…, found {self.columns!r}. Give one column for each."
            )
        return {k.strip(): v.strip() for k, _, v in pairs}


@dataclass(frozen=True)
class PromptConfig:
    student: str = knob(PLAIN.student, "wording of the student's prompt, with {problem}")
    privileged: str = knob(PLAIN.privileged, "wording of the privileged prompt x ⊕ y*, with {problem} and {reference}")
    information: Information = knob(Information.SOLUTION, "what the privileged prompt reveals", paper="solution")
    fraction: float = knob(0.5, "share of the solution's steps revealed by 'fraction'", low=0.01, high=1.0)

    def __post_init__(self) -> None:
        check(self)
        self.wording()

    def wording(self) -> Wording:
        return Wording(self.student, self.privileged)


@dataclass(frozen=True)
class SamplingConfig:
    temperature: float = knob(1.0, "sampling temperature", paper="1.0", low=0.05, high=5.0)
    top_p: float = knob(1.0, "nucleus; training needs 1", paper="1.0", low=0.05, high=1.0)
    max_new_tokens: int = knob(
        64, "longest completion, tokens; a longer one counts as truncated", paper="within 4096", low=1, high=32768
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class ObjectiveConfig:
    lambda_: float = knob(
        0.3, "λ, the weight of the distillation term; 0 is exactly GRPO", paper="0.01 and 0.1", low=0.0, high=1000.0
    )
    teacher: Teacher = knob(Teacher.DRIFTING, "whose distribution is distilled", paper="both")
    divergence: Divergence = knob(Divergence.JSD_TOPK, "distance between teacher and student", paper="jsd-topk")
    topk: int = knob(64, "teacher tokens kept at each position by JSD_k", paper="64", low=1, high=1024)
    advantage: Advantage = knob(Advantage.LEAVE_ONE_OUT, "baseline of the advantage", paper="leave-one-out")
    clip_eps: float = knob(0.2, "PPO clip range ε", paper="0.2", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class StepConfig:
    steps: int = knob(60, "optimiser steps", paper="2000", low=1, high=1_000_000)
    prompts_per_step: int = knob(32, "P, prompts a step", paper="32", low=1, high=4096)
    rollouts: int = knob(8, "K, rollouts per prompt (the axis G)", paper="16", low=2, high=256)
    privileged_rollouts: int = knob(4, "J, privileged rollouts per cliff", paper="not stated", low=1, high=256)
    max_cliffs: int = knob(32, "cliffs distilled a step, at most", paper="32", low=1, high=4096)
    learning_rate: float = knob(1e-3, "AdamW's constant learning rate after warm-up", paper="1e-6", low=1e-9, high=1.0)
    warmup: int = knob(20, "steps over which the learning rate rises from 0.1× to 1×", paper="50", low=0, high=100_000)
    weight_decay: float = knob(0.01, "AdamW's weight decay", paper="0.01", low=0.0, high=1.0)
    grad_norm: float = knob(
        1.0, "gradient norm above which the gradient is scaled down", paper="1.0", low=1e-6, high=1e6
    )
    micro_batch_tokens: int = knob(
        4096, "padded tokens in one forward pass; changes memory, never the result", low=16, high=10_000_000
    )
    checkpoint_every: int = knob(10, "steps between checkpoints", low=1, high=1_000_000)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class EvalConfig:
    eval_every: int = knob(20, "steps between evaluations", paper="10", low=1, high=1_000_000)
    eval_problems: int = knob(240, "validation problems used, the first ones", paper="2048", low=2, high=1_000_000)
    eval_samples: int = knob(16, "n, samples per problem; at least twice the largest k", low=2, high=1024)
    ks: tuple[int, ...] = knob((1, 4, 8), "the k of pass@k", paper="1, 4, 8")
    eval_split: str = knob(
        "validation", "problems evaluated; 'test' is for the model card alone", options=("validation", "test")
    )
    probe_cliffs: int = knob(
        16, "held-out cliffs in the fixed probe set of the realizability gap; 0 measures no gap", low=0, high=4096
    )

    def __post_init__(self) -> None:
        check(self)
        if not self.ks or any(k < 1 for k in self.ks) or self.eval_samples < 2 * max(self.ks):
            raise BadInput(
                f"eval-samples: expected at least twice the largest k of pass@k ({self.ks}), "
                f"found {self.eval_samples}. Raise eval-samples or drop the largest k."
            )


@dataclass(frozen=True)
class TrainConfig:
    """One HDPO run (Algorithm 1)."""

    model: ModelConfig = ModelConfig()
    data: ProblemConfig = ProblemConfig()
    prompts: PromptConfig = PromptConfig()
    sampling: SamplingConfig = SamplingConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    step: StepConfig = StepConfig()
    evaluation: EvalConfig = EvalConfig()
    seed: int = knob(0, "seed of every draw", low=0, high=2**31)

    @property
    def evaluation_count(self) -> int:
        """One at step 0, one each `eval_every` steps, one at the end."""
        return 1 + math.ceil(self.step.steps / self.evaluation.eval_every)

    def __post_init__(self) -> None:
        check(self)
        if self.sampling.top_p != 1.0:
            raise BadInput(
                f"top-p: training expects 1, found {self.sampling.top_p}. Set it to 1: the policy ratio needs the whole distribution."
            )


@dataclass(frozen=True)
class ScanConfig:
    """Find the cliffs: K rollouts a problem, no update."""

    model: ModelConfig = ModelConfig()
    data: ProblemConfig = ProblemConfig()
    prompts: PromptConfig = PromptConfig()
    sampling: SamplingConfig = SamplingConfig()
    split: str = knob("all", "which part of the problems", options=("train", "validation", "test", "all"))
    rollouts: int = knob(8, "K, rollouts per prompt", paper="16", low=2, high=1024)
    seed: int = knob(0, "seed of every draw", low=0, high=2**31)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class EvaluateConfig:
    """pass@k, greedy accuracy and cliff fraction of one model or adapter."""

    model: ModelConfig = ModelConfig()
    data: ProblemConfig = ProblemConfig()
    prompts: PromptConfig = PromptConfig()
    sampling: SamplingConfig = SamplingConfig()
    evaluation: EvalConfig = EvalConfig()
    split: str = knob("validation", "which part of the problems", options=("train", "validation", "test", "all"))
    seed: int = knob(0, "seed of every draw", low=0, high=2**31)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class SweepConfig:
    """The same run for several λ and seeds; a pair is a sweep over (0, λ)."""

    train: TrainConfig = TrainConfig()
    lambdas: tuple[float, ...] = knob((0.0, 0.3), "the λ of the members")
    seeds: tuple[int, ...] = knob((0,), "the seeds of the members; two or more let a difference speak")
    ray: str = knob(
        "", "a Ray cluster that takes the members: auto, local or ray://host:port; empty runs them one after another"
    )

    def __post_init__(self) -> None:
        check(self)
        if not self.lambdas or not self.seeds:
            raise BadInput("sweep: expected at least one λ and one seed, found none. Give --lambdas and --seeds.")

    def members(self) -> tuple[TrainConfig, ...]:
        """Seed by seed, so that pairs are complete as early as possible."""
        return tuple(replace_knobs(self.train, {"lambda_": lam, "seed": s}) for s in self.seeds for lam in self.lambdas)


def model_of(config: TrainConfig | ScanConfig | EvaluateConfig | SweepConfig) -> ModelConfig:
    """The model of a config of any kind."""
    return config.train.model if isinstance(config, SweepConfig) else config.model


KINDS: dict[str, type] = {"train": TrainConfig, "scan": ScanConfig, "evaluate": EvaluateConfig, "sweep": SweepConfig}
