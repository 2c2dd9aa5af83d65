"""Every setting, once: the object that runs is the object that is saved, shown and named.

A field carries its default and its limits; the docstring beneath it says what it is, its unit and the paper's value
(Table 2, App. C). The command line's flags, the app's widgets and their help are derived from both (`knobs`).
This file is long: one schema, never two. Nothing here imports torch.
"""

import json
import math
import re
from enum import Enum

from hdpo.arms import arm
from hdpo.errors import BadInput
from hdpo.knobs import Knob, from_json, knob, knobs, replace_knobs, section, to_json  # noqa: F401 (settings have one door)


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


class Teacher(str, Enum):
    """Whose distribution is distilled (Sec. 3.2): the current weights, or those at step 0."""

    DRIFTING = "drifting"
    FROZEN = "frozen"


class Divergence(str, Enum):
    """The distance between teacher and student; JSD_k is the paper's, the next three need full-vocabulary logits."""

    JSD_TOPK = "jsd-topk"
    JSD = "jsd"
    FORWARD_KL = "forward-kl"
    REVERSE_KL = "reverse-kl"
    SFT = "sft"  # none: the trace's own tokens, -log q


class Distilled(str, Enum):
    """Which groups are distilled (Algorithm 1, line 3): cliffs, or all that can be graded."""

    CLIFFS = "cliffs"
    ALL = "all"


class Traces(str, Enum):
    """On which rollouts the teacher is read (line 5): privileged ones with R = 1, or the student's own failed ones."""

    PRIVILEGED = "privileged"
    OWN = "own"


class Reads(str, Enum):
    """Under which context the teacher reads them: the one its rollouts were drawn under, or another problem's solution."""

    SAME = "same"
    OTHER = "other-problem"


class Weight(str, Enum):
    """How λ goes over the steps: it stays; it follows the gap between privileged and plain pass rate (arXiv 2609.37898);
    or distillation comes first and alone, then GRPO alone (arXiv 2609.04108)."""

    CONSTANT = "constant"
    GAP = "gap"
    FIRST = "first"


@section
class ModelConfig:
    model: str = knob("bundled")
    """'bundled', a folder in transformers' format, a .gguf file, or a hub id owner/name."""
    revision: str = knob("")
    """Commit, tag or branch of a hub model; a run's config gets the commit."""
    adapter: str = knob("")
    """LoRA adapter to start from: a peft folder, RUN, RUN@best or RUN@40; empty: the base model. Paper: none."""
    chat_template: str = knob("")
    """File with the chat template (Jinja) in place of the model's own; base models have none."""
    template_args: str = knob("")
    """What the chat template is told besides, such as enable_thinking=false; commas between."""
    device: str = knob("auto", options=("auto", "cpu", "cuda", "mps"))
    """Where to compute."""
    processes: int = knob(1, low=1, high=1024)
    """Processes that share the work, one per GPU; changes time, never the result."""
    sampler: str = knob("transformers", options=("transformers", "vllm"))
    """Who draws the rollouts; vllm needs requirements-gpu.txt."""
    vllm_url: str = knob("")
    """A running `vllm serve` that draws; empty starts vLLM beside the trainer."""
    vllm_memory: float = knob(0.3, low=0.05, high=0.95)
    """Share of the GPU's memory that vLLM may take."""
    dtype: str = knob("float32", options=("float32", "bfloat16", "float16"))
    """Of the base weights; adapter and optimiser stay in float32. Paper: bfloat16."""
    rank: int = knob(16, low=1, high=512)
    """LoRA rank. Paper: full fine-tuning."""
    alpha: int = knob(32, low=1, high=1024)
    """LoRA alpha; the update is scaled by alpha / rank. Paper: full fine-tuning."""
    targets: str = knob("all-linear")
    """LoRA target modules: 'all-linear', or names with commas between."""

    def template_settings(self) -> dict[str, object]:
        """
        >>> ModelConfig(template_args="enable_thinking=false, style=short").template_settings()
        {'enable_thinking': False, 'style': 'short'}
        """
        pairs = [pair.partition("=") for pair in self.template_args.split(",") if pair.strip()]
        found = {name.strip(): value.strip() for name, _, value in pairs}
        if not all(name.isidentifier() and value for name, value in found.items()):
            wrong = f"expected NAME=VALUE with commas between, found {self.template_args!r}"
            raise BadInput(f"template-args: {wrong}. Write it as enable_thinking=false.")
        return {name: literal(value) for name, value in found.items()}

    def __post_init__(self) -> None:
        self.template_settings()
        if self.sampler == "vllm" and self.processes > 1 and not self.vllm_url:
            found = "expected one process, or a vLLM server with --vllm-url, found --processes above 1"
            raise BadInput(f"sampler: {found}. Start `vllm serve` as the README says.")


NEXT_COLUMN = re.compile(r",(?=\s*\w+\s*=)")  # any other comma is of a column's name


@section
class ProblemConfig:
    problems: str = knob("bundled:steep")
    """'bundled:steep', 'bundled:gentle', 'bundled:stories', a JSONL, CSV or Parquet file, a folder of shards, a hub id owner/name, set:NAME, or reasoning-gym:TASK?seed=0&size=2000. Paper: OpenMathInstruct-2."""
    grader: str = knob("math")
    """Who says what is right: math, exact, number, number:TOLERANCE, choice, pattern:REGEX or FILE.py:FUNCTION. Paper: math-verify."""
    validation_problems: str = knob("")
    """Held-out problems of their own, named as the problems are; empty holds out a share of the problems."""
    columns: str = knob("")
    """Column mapping of a file, such as text=question,solution=worked,answer=final."""
    sources: str = knob("")
    """Sources (problem_source) whose problems count, with commas between; empty takes all. Paper: MATH and GSM8K."""
    limit: int = knob(0, low=0)
    """Read at most this many problems; 0 reads all."""
    split_seed: int = knob(42, low=0)
    """Seed of the train/validation hash. Paper: 42."""
    validation_share: float = knob(0.05, low=0.0, high=0.9)
    """Share of a file's problems held out for validation. Paper: 0.05."""

    def __post_init__(self) -> None:
        self.mapping()
        if self.validation_problems and self.validation_share not in (0.0, ProblemConfig.validation_share):
            found = f"none beside --validation-problems {self.validation_problems}, found {self.validation_share:g}"
            raise BadInput(f"validation-share: expected {found}. Leave one of them out.")

    def source_names(self) -> tuple[str, ...]:
        """The sources that count; none for all."""
        return tuple(s.strip() for s in self.sources.split(",") if s.strip())

    def mapping(self) -> dict[str, str] | None:
        """The column mapping as a dict, None where the columns shall be known by name."""
        if not self.columns:
            return None
        pairs = (pair.partition("=") for pair in NEXT_COLUMN.split(self.columns))
        found = {k.strip(): v.strip() for k, _, v in pairs}
        if not all((*found, *found.values())):
            form = "text=…,solution=…,answer=…"
            raise BadInput(f"columns: expected {form}, found {self.columns!r}. Give one column for each.")
        return found


def literal(text: str) -> object:
    """A value as JSON has it, any other text as it stands."""
    try:
        return json.loads(text)
    except ValueError:
        return text


MARKS = ("{problem}", "{reference}")  # filled in; other braces are plain text


@section
class PromptConfig:
    student: str = knob("{problem}")
    """Wording of the student's prompt, with {problem}."""
    privileged: str = knob("{problem}\nReference solution: {reference}")
    """Wording of the privileged prompt x ⊕ y*, with {problem} and {reference}."""
    system: str = knob("")
    """System prompt before the user's message, for both; empty: what the chat template writes by itself. Paper: none."""
    prefix: str = knob("none", options=("none", "nonsense"))
    """Before the student's prompt, as a control: Lorem ipsum up to the privileged prompt's length. Paper: none."""
    information: Information = knob(Information.SOLUTION)
    """What the privileged prompt reveals. Paper: solution."""
    fraction: float = knob(0.5, low=0.01, high=1.0)
    """Share of the solution's steps revealed by 'fraction'."""

    def __post_init__(self) -> None:
        for name, wording, marks in (("student's", self.student, MARKS[:1]), ("privileged", self.privileged, MARKS)):
            if missing := [mark for mark in marks if mark not in wording]:
                raise BadInput(f"The {name} wording must contain {' and '.join(missing)}; found {wording!r}. Add it.")
        if "{reference}" in self.student:
            shown = "{reference}: it would show the ground truth"
            raise BadInput(f"The student's wording must not contain {shown}. Remove it.")


@section
class SamplingConfig:
    temperature: float = knob(1.0, low=0.05, high=5.0)
    """Sampling temperature. Paper: 1.0."""
    top_p: float = knob(1.0, low=0.05, high=1.0)
    """Nucleus; training needs 1. Paper: 1.0."""
    max_new_tokens: int = knob(64, low=1, high=32768)
    """Longest completion, tokens; a longer one counts as truncated. Paper: within 4096."""
    stop: str = knob("")
    """Texts that end a completion, commas between; \\n is a line's end, \\, a comma. Paper: none."""

    def stops(self) -> tuple[str, ...]:
        """
        >>> SamplingConfig(stop="Question:,\\\\n\\\\n").stops()
        ('Question:', '\\n\\n')
        """
        marks = {"\\n": "\n", "\\t": "\t", "\\,": ",", "\\\\": "\\"}
        texts = re.findall(r"(?:\\.|[^,\\])+", self.stop)
        return tuple(re.sub(r"\\.", lambda m: marks.get(m.group(), m.group()), text) for text in texts)


@section
class ObjectiveConfig:
    lambda_: float = knob(0.3, low=0.0, high=1000.0)
    """λ, the weight of the distillation term; 0 is exactly GRPO. Paper: 0.01 and 0.1."""
    teacher: Teacher = knob(Teacher.DRIFTING)
    """Whose distribution is distilled. Paper: both."""
    divergence: Divergence = knob(Divergence.JSD_TOPK)
    """Distance between teacher and student. Paper: jsd-topk."""
    topk: int = knob(64, low=1, high=1024)
    """Teacher tokens kept at each position by JSD_k. Paper: 64."""
    distilled: Distilled = knob(Distilled.CLIFFS)
    """Which groups are distilled. Paper: cliffs."""
    traces: Traces = knob(Traces.PRIVILEGED)
    """On which rollouts the teacher is read. Paper: privileged, R = 1."""
    teacher_reads: Reads = knob(Reads.SAME)
    """Under which context the teacher reads them. Paper: same."""
    weight: Weight = knob(Weight.CONSTANT)
    """How λ goes over the steps. Paper: constant."""
    first_steps: int = knob(20, low=1, high=1_000_000)
    """Steps of distillation alone where it comes first."""
    advantage: Advantage = knob(Advantage.LEAVE_ONE_OUT)
    """Baseline of the advantage. Paper: leave-one-out."""
    clip_eps: float = knob(0.2, low=0.0, high=1.0)
    """PPO clip range ε. Paper: 0.2."""

    def __post_init__(self) -> None:
        if self.divergence is Divergence.SFT and (self.traces is Traces.OWN or self.teacher_reads is Reads.OTHER):
            why = "which learns the tokens of right traces and asks no teacher"
            raise BadInput(
                f"divergence: expected another than sft with these traces or readings, {why}. Leave one out."
            )
        if self.weight is Weight.GAP and self.traces is Traces.OWN:
            why = "since the gap is measured on privileged ones"
            raise BadInput(f"weight: expected privileged traces with 'gap', {why}, found own ones. Leave one out.")


@section
class StepConfig:
    steps: int = knob(60, low=1, high=1_000_000)
    """Optimiser steps. Paper: 2000."""
    prompts_per_step: int = knob(32, low=1, high=4096)
    """P, prompts a step. Paper: 32."""
    rollouts: int = knob(8, low=2, high=256)
    """K, rollouts per prompt (the axis G). Paper: 16."""
    privileged_rollouts: int = knob(4, low=1, high=256)
    """J, privileged rollouts per cliff. Paper: not stated."""
    max_cliffs: int = knob(32, low=1, high=4096)
    """Cliffs distilled a step, at most. Paper: 32."""
    learning_rate: float = knob(1e-3, low=1e-9, high=1.0)
    """AdamW's constant learning rate after warm-up. Paper: 1e-6."""
    warmup: int = knob(20, low=0, high=100_000)
    """Steps over which the learning rate rises from 0.1× to 1×. Paper: 50."""
    weight_decay: float = knob(0.01, low=0.0, high=1.0)
    """AdamW's weight decay. Paper: 0.01."""
    grad_norm: float = knob(1.0, low=1e-6, high=1e6)
    """Gradient norm above which the gradient is scaled down. Paper: 1.0."""
    micro_batch_tokens: int = knob(4096, low=16, high=10_000_000)
    """Padded tokens in one forward pass; changes memory, never the result."""
    checkpoint_every: int = knob(10, low=1, high=1_000_000)
    """Steps between checkpoints."""
    stop_on_collapse: bool = knob(False)
    """Stop where an evaluation's pass@1 lies below its best one with both intervals apart."""


@section
class EvalConfig:
    eval_every: int = knob(20, low=1, high=1_000_000)
    """Steps between evaluations. Paper: 10."""
    eval_problems: int = knob(240, low=2, high=1_000_000)
    """Validation problems used, the first ones. Paper: 2048."""
    eval_samples: int = knob(16, low=2, high=1024)
    """N, samples per problem; at least twice the largest k."""
    ks: tuple[int, ...] = knob((1, 4, 8), low=1)
    """The k of pass@k. Paper: 1, 4, 8."""
    eval_split: str = knob("validation", options=("validation", "test"))
    """Problems evaluated; 'test' is for the model card alone."""
    probe_cliffs: int = knob(16, low=0, high=4096)
    """Held-out cliffs in the fixed probe set of the realizability gap; 0 measures no gap."""

    def __post_init__(self) -> None:
        if not self.ks or self.eval_samples < 2 * max(self.ks):
            ks = ", ".join(map(str, self.ks))
            found = f"at least twice the largest k of pass@k ({ks}), found {self.eval_samples}"
            raise BadInput(f"eval-samples: expected {found}. Raise eval-samples or drop the largest k.")


@section
class TrainConfig:
    """One HDPO run (Algorithm 1); λ = 0 is GRPO."""

    model: ModelConfig = ModelConfig()
    data: ProblemConfig = ProblemConfig()
    prompts: PromptConfig = PromptConfig()
    sampling: SamplingConfig = SamplingConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    step: StepConfig = StepConfig()
    evaluation: EvalConfig = EvalConfig()
    seed: int = knob(0, low=0, high=2**31)
    """Seed of every draw."""
    track: str = knob("none", options=("none", "tensorboard", "wandb", "trackio"))
    """A tracker that is told each step and evaluation too; none: the run folder alone."""

    @property
    def evaluation_count(self) -> int:
        """One at step 0, one each `eval_every` steps, one at the end."""
        return 1 + math.ceil(self.step.steps / self.evaluation.eval_every)

    def __post_init__(self) -> None:
        if self.sampling.top_p != 1.0:
            why = "the policy ratio needs the whole distribution"
            raise BadInput(f"top-p: training expects 1, found {self.sampling.top_p}. Set it to 1: {why}.")


@section
class ScanConfig:
    """Find the cliffs: K rollouts of every problem, no update."""

    model: ModelConfig = ModelConfig()
    data: ProblemConfig = ProblemConfig()
    prompts: PromptConfig = PromptConfig()
    sampling: SamplingConfig = SamplingConfig()
    split: str = knob("all", options=("train", "validation", "test", "all"))
    """Which part of the problems."""
    rollouts: int = knob(8, low=2, high=1024)
    """K, rollouts per prompt. Paper: 16."""
    seed: int = knob(0, low=0, high=2**31)
    """Seed of every draw."""


@section
class ImportConfig:
    """Browse others' rollouts by their labels, our verdicts beside them; no model."""

    model: ModelConfig = ModelConfig("elsewhere")
    data: ProblemConfig = ProblemConfig()


@section
class EvaluateConfig:
    """pass@k, greedy accuracy and cliff fraction of one model or adapter."""

    model: ModelConfig = ModelConfig()
    data: ProblemConfig = ProblemConfig()
    prompts: PromptConfig = PromptConfig()
    sampling: SamplingConfig = SamplingConfig()
    evaluation: EvalConfig = EvalConfig()
    split: str = knob("validation", options=("train", "validation", "test", "all"))
    """Which part of the problems."""
    seed: int = knob(0, low=0, high=2**31)
    """Seed of every draw."""


@section
class SweepConfig:
    """The same run for several λ and seeds."""

    train: TrainConfig = TrainConfig()
    lambdas: tuple[float, ...] = knob((0.0, 0.3))
    """The λ of the members."""
    seeds: tuple[int, ...] = knob((0,))
    """The seeds of the members; two or more let a difference speak."""
    ray: str = knob("")
    """A Ray cluster that takes the members: auto, local or ray://host:port; empty runs them in one process, those of a seed in turn."""
    arms: tuple[str, ...] = knob(())
    """Arms in place of several λ, by name (assets/arms.toml): grpo, hdpo, larger-k, sft, on-policy, sequential and others."""

    def __post_init__(self) -> None:
        self.sides()
        if not self.lambdas or not self.seeds:
            raise BadInput("sweep: expected at least one λ and one seed, found none. Give --lambdas and --seeds.")
        if self.arms and len(set(self.members())) < len(self.arms) * len(self.seeds):
            raise BadInput(f"arms: expected arms that differ, found {', '.join(self.arms)}. Leave what is twice out.")

    def sides(self) -> list[dict[str, object]]:
        """What each member of a seed sets: its λ, or its arm's settings. Raises BadInput for an unknown arm."""
        if "larger-k" in self.arms and (k := self.train.step.rollouts) != StepConfig.rollouts:
            other = f"run --lambda 0 --rollouts {3 * k // 2} beside the others instead"
            raise BadInput(f"arms: larger-k is 12 rollouts a prompt where the others have 8, found {k}: {other}.")
        return [arm(name).settings for name in self.arms] or [{"lambda_": lam} for lam in self.lambdas]

    def members(self) -> tuple[TrainConfig, ...]:
        """Seed by seed, so that pairs are complete as early as possible."""
        return tuple(replace_knobs(self.train, {**side, "seed": s}) for s in self.seeds for side in self.sides())

    def turns(self, at_once: int) -> list[tuple[TrainConfig, ...]]:
        """The members that advance together: of one seed, at most so many."""
        members, arms = self.members(), len(self.sides())
        seeds = [members[i : i + arms] for i in range(0, len(members), arms)]
        return [seed[i : i + at_once] for seed in seeds for i in range(0, arms, at_once)]


def model_of(config: TrainConfig | ScanConfig | ImportConfig | EvaluateConfig | SweepConfig) -> ModelConfig:
    """The model of a config of any kind."""
    return config.train.model if isinstance(config, SweepConfig) else config.model


KINDS: dict[str, type] = {
    "scan": ScanConfig,
    "import": ImportConfig,
    "train": TrainConfig,
    "sweep": SweepConfig,
    "evaluate": EvaluateConfig,
}
"""Of heavy jobs, each a command whose help is its config's docstring. A pair is a sweep over (0, λ)."""
CENSUS = ("scan", "import")  # kinds that end in a row a prompt
