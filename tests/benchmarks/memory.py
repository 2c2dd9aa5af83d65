"""Peak memory of one step with a vocabulary of 151,936, each measurement in a process of its own.

`python -m tests.benchmarks.memory chunked|at-once ROLLOUTS` prints the bytes by which the resident set grew.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from tests.benchmarks.harness import Row

VOCABULARY, HIDDEN, PROMPTS, ROLLOUTS, LENGTH = 151_936, 64, 16, 8, 16
REPEATS = 3


@cache
def random_model(width: int = HIDDEN) -> Path:
    """A random Qwen2 of two layers with the vocabulary of the real ones; the bundled tokenizer uses its beginning."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    from hdpo.model.find import BUNDLED

    folder = Path(tempfile.mkdtemp())
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(BUNDLED).save_pretrained(folder)
    return folder


def peak_of(way: str, model: Path, rollouts: int) -> float:
    """Bytes that sampling PROMPTS × rollouts completions and one update add to the resident set of a fresh process."""
    command = [sys.executable, "-m", "tests.benchmarks.memory", way, str(model), str(rollouts)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def step() -> list[Row]:
    """Chunks against all logits of a step at once; and twice the rollouts against once."""
    model = random_model()
    ours = tuple(peak_of("chunked", model, ROLLOUTS) for _ in range(REPEATS))
    theirs = tuple(peak_of("at-once", model, ROLLOUTS) for _ in range(REPEATS))
    twice = tuple(peak_of("chunked", model, 2 * ROLLOUTS) for _ in range(REPEATS))
    what = f"peak memory of a step, V = {VOCABULARY:,}, {PROMPTS} × {ROLLOUTS} rollouts of {LENGTH} tokens"
    return [
        Row(what, "all logits of the step at once", "bytes", ours, theirs, 5.0),
        Row("the same with twice the rollouts", "once", "bytes", twice, ours, 1.1, at_most=True),
    ]


def measured(way: str, model: str, rollouts: int) -> int:
    import psutil

    from hdpo.config import ModelConfig, ObjectiveConfig, SamplingConfig
    from hdpo.method import objective
    from hdpo.method.objective import PolicyItem, Scale
    from hdpo.model.batching import Trace
    from hdpo.model.policy import load_policy
    from hdpo.sampling import transformers as sampling
    from hdpo.sampling.draws import DrawKey, Purpose
    from hdpo.sampling.protocol import Draw, Prompt
    from tests.engine import hdpo_gradient

    policy = load_policy(ModelConfig(model=model))
    tokens = 4096
    if way == "at-once":
        objective.CHUNK_ELEMENTS = sampling.CHUNK_ELEMENTS = 1 << 62
        tokens = 1 << 40
    before = psutil.Process().memory_info().rss
    prompts = [Prompt(str(p), (5, 6, 7 + p)) for p in range(PROMPTS)]
    how = SamplingConfig(max_new_tokens=LENGTH)
    groups = sampling.TransformersSampler(policy).sample(prompts, how, Draw(rollouts, DrawKey(0, Purpose.STUDENT)))
    items = [
        PolicyItem(Trace(p.ids, c.token_ids), 1.0 if r % 2 else -1.0, c.logprobs)
        for p, group in zip(prompts, groups, strict=True)
        for r, c in enumerate(group)
    ]
    hdpo_gradient(policy, items, [], ObjectiveConfig(lambda_=0.0), Scale(len(items) * LENGTH, 0, 1.0, tokens))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


if __name__ == "__main__":
    print(measured(sys.argv[1], sys.argv[2], int(sys.argv[3])))
