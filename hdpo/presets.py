"""Settings that belong together, by name; flags given beside a preset change single ones of them.

The paper's preset says, line by line, where it differs from the paper (Table 2, Sec. 5).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from hdpo.config import INSTRUCT, knobs
from hdpo.errors import BadInput


@dataclass(frozen=True)
class Preset:
    """settings: by the names of `hdpo.config`; differs: how it is not the paper's run, one sentence each."""

    help: str
    settings: dict[str, Any] = field(default_factory=dict)
    differs: tuple[str, ...] = ()


# With another model than the bundled one answers are longer and the learning rate lower.
OWN_MODEL: dict[str, Any] = {
    **asdict(INSTRUCT),
    "max_new_tokens": 512,
    "learning_rate": 1e-5,
    "warmup": 10,
    "eval_problems": 128,
}
_INSTRUCT = {**OWN_MODEL, "problems": "openai/gsm8k", "eval_samples": 16}

PRESETS = {
    "bundled": Preset("the bundled model on the steep mix: the defaults"),
    "quick": Preset("the same with half the prompts a step", {"prompts_per_step": 16}),
    "smollm2": Preset(
        "SmolLM2-135M-Instruct on GSM8K: a real model that a CPU can carry, slowly",
        {**_INSTRUCT, "model": "HuggingFaceTB/SmolLM2-135M-Instruct", "max_new_tokens": 256},
    ),
    "qwen-0.5b": Preset(
        "Qwen2.5-0.5B-Instruct on GSM8K, for a GPU of 12 GB or more",
        {**_INSTRUCT, "model": "Qwen/Qwen2.5-0.5B-Instruct", "dtype": "bfloat16"},
    ),
    "qwen-math": Preset(
        "Qwen2.5-Math-1.5B-Instruct on GSM8K, for a GPU of 24 GB",
        {**_INSTRUCT, "model": "Qwen/Qwen2.5-Math-1.5B-Instruct", "dtype": "bfloat16", "max_new_tokens": 1024},
    ),
    "paper": Preset(
        "the paper's hyperparameters (Table 2), with LoRA",
        {
            **asdict(INSTRUCT),
            "model": "Qwen/Qwen2.5-Math-1.5B-Instruct",
            "dtype": "bfloat16",
            "problems": "nvidia/OpenMathInstruct-2",
            "limit": 50_000,
            "eval_problems": 2048,
            "max_new_tokens": 2048,
            "steps": 2000,
            "prompts_per_step": 32,
            "rollouts": 16,
            "max_cliffs": 32,
            "lambda_": 0.01,
            "learning_rate": 1e-5,
            "warmup": 50,
            "eval_every": 10,
            "checkpoint_every": 50,
        },
        (
            "weights: the paper fine-tuned all of them; here LoRA of rank 16 on every linear layer.",
            "learning rate: the paper's 1e-6 is for all weights; 1e-5 for the adapter is ours, and was not tuned.",
            "privileged rollouts a cliff: the paper does not say; 4 is ours.",
            "problems: a seeded sample of 50,000 distinct ones by streaming; the paper does not say how many it used.",
            "problem_source: all four values count (math, gsm8k and the problems augmented from them); the paper says 'MATH and GSM8K sourced'. --sources math,gsm8k takes the originals alone.",
            "y*: of a problem's several solutions the first that comes by in the seeded order; the paper does not say.",
            "validation: 2,048 problems held apart by a seeded hash of their text; the paper's own are not published.",
            "length: prompt and completion within 4,096 tokens as in the paper, of which 2,048 for the completion.",
        ),
    ),
}


def settings_of(name: str, config: Any) -> dict[str, Any]:
    """What a preset sets of the knobs that this kind of job has. Raises BadInput for an unknown one."""
    if name not in PRESETS:
        raise BadInput(f"preset: expected one of {', '.join(PRESETS)}, found {name!r}. Choose one of them.")
    known = {k.name for k in knobs(config)}
    return {key: value for key, value in PRESETS[name].settings.items() if key in known}
