"""All checks of a CUDA GPU, in one command of under 8 minutes that writes a report:

    python -m tests.benchmarks.gpu --out report.md

--dry-run takes the same way on the CPU, with a small shape: it says that the command works, nothing about a GPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from hdpo.config import ModelConfig, ObjectiveConfig, SamplingConfig, TrainConfig, replace_knobs
from hdpo.method.objective import DistillItem, PolicyItem, Scale
from hdpo.model.batching import Trace
from hdpo.model.find import BUNDLED
from hdpo.model.policy import Policy, load_policy
from hdpo.record.folder import Run, RunWriter
from hdpo.sampling.draws import DrawKey, Purpose
from hdpo.sampling.protocol import Completion, Draw, Prompt
from hdpo.sampling.transformers import TransformersSampler
from hdpo.work.bench import matrix_rate, memory_held, weights_of
from hdpo.work.execute import execute
from tests.engine import hdpo_gradient

SECONDS = 480.0  # a section that would begin later is left out, and the report says so


@dataclass(frozen=True)
class Size:
    """The shape of a random model and of a step on it."""

    config: dict[str, int]
    prompts: int
    rollouts: int
    tokens: int
    ranks: tuple[int, ...]
    dtype: str


# Qwen2.5-1.5B, and something small for a dry run
REAL = Size(
    {
        "vocab_size": 151_936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
    },
    32,
    16,
    512,
    (16, 64),
    "bfloat16",
)
DRY = Size(
    {
        "vocab_size": 1024,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    },
    2,
    4,
    8,
    (16,),
    "float32",
)


def random_model(size: Size, folder: Path) -> Path:
    torch.manual_seed(0)
    config = Qwen2Config(**size.config, max_position_embeddings=4096, tie_word_embeddings=True)
    Qwen2ForCausalLM(config).to(getattr(torch, size.dtype)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(BUNDLED).save_pretrained(folder)
    return folder


def prompt_ids(policy: Policy) -> tuple[int, ...]:
    return tuple(range(5, 5 + min(64, policy.vocabulary - 5)))


def agreement(device: str) -> Iterator[str]:
    """The bundled model: log-probs and gradient here against the CPU, both in float32."""
    found = []
    for where in ("cpu", device):
        policy = load_policy(ModelConfig(device=where, rank=4, alpha=8))
        traces = [Trace(prompt_ids(policy)[:20], tuple(range(7 + i, 27 + i))) for i in range(4)]
        batch = policy.batch(traces)
        with torch.no_grad():
            logp = policy.logits(policy.hidden(batch)).log_softmax(-1).cpu()
        items = [PolicyItem(t, (-1.0) ** i, (0.0,) * 20) for i, t in enumerate(traces)]
        hdpo_gradient(policy, items, [], ObjectiveConfig(lambda_=0.0), Scale(80, 0, 1.0, 4096))
        gradient = torch.cat([p.grad.flatten().cpu() for p in policy.trainable if p.grad is not None])
        found.append((logp, gradient))
    (logp, gradient), (there, other) = found
    cosine = float(torch.nn.functional.cosine_similarity(gradient, other, 0))
    yield f"largest difference of a log-prob from the CPU: {float((logp - there).abs().max()):.2e} nats"
    yield f"cosine of the gradients: {cosine:.6f}"
    assert cosine > 0.999, "the gradient here is not the CPU's"


def session(device: str) -> Iterator[str]:
    """Two steps of a session on the bundled model, evaluated before and after."""
    values = {"device": device, "steps": 2, "prompts_per_step": 8, "eval_problems": 24, "probe_cliffs": 4}
    writer = RunWriter.create("train", replace_knobs(TrainConfig(), values), Path(tempfile.mkdtemp()), "check", "gpu")
    ending = execute(writer.path, False)
    assert ending.code == 0, ending.message
    row = Run(writer.path).metrics("step")[-1]
    yield ", ".join(f"{k[8:]} {v:.2f} s" for k, v in row.items() if k.startswith("seconds_"))


def step_of(size: Size, device: str, rank: int, folder: Path) -> Iterator[str]:
    """Rollouts and one update on the random model: tokens a second, use of the arithmetic, peak memory."""
    policy = load_policy(ModelConfig(model=str(folder), device=device, dtype=size.dtype, rank=rank, alpha=2 * rank))
    how = SamplingConfig(max_new_tokens=size.tokens)
    prompts = [Prompt(f"p{i}", prompt_ids(policy)) for i in range(size.prompts)]
    groups, seconds = timed(
        lambda: TransformersSampler(policy).sample(
            prompts, how, Draw(size.rollouts, DrawKey(0, Purpose.STUDENT), topk=64)
        )
    )
    rollouts = [c for g in groups for c in g]
    tokens = sum(len(c.token_ids) for c in rollouts)
    yield f"rank {rank}: {tokens} tokens sampled in {seconds:.1f} s, {tokens / seconds:.0f} a second"
    terms, seconds = timed(lambda: gradient_of(policy, rollouts, tokens))
    rate = 4.0 * weights_of(policy) * tokens / seconds
    peak = matrix_rate(policy, 8192)
    yield f"rank {rank}: gradient in {seconds:.1f} s, {rate / 1e12:.2f} TFLOP/s, {100 * rate / peak:.0f} % of plain products of its width and dtype; loss {terms.loss_grpo:.3g}"
    yield f"rank {rank}: peak memory {memory_held(policy.device) / 2**30:.1f} GiB"


def gradient_of(policy: Policy, rollouts: list[Completion], tokens: int) -> Any:
    """Every rollout has a signal, every eighth is distilled: the most that a step can hold."""
    traces = [Trace(prompt_ids(policy), c.token_ids) for c in rollouts]
    items = [PolicyItem(t, (-1.0) ** i, c.logprobs) for i, (t, c) in enumerate(zip(traces, rollouts, strict=True))]
    distil = [DistillItem(t, t, c.topk) for t, c in zip(traces[::8], rollouts[::8], strict=True)]
    accepted = sum(len(d.student.completion_ids) for d in distil)
    return hdpo_gradient(policy, items, distil, ObjectiveConfig(), Scale(tokens, accepted, 1.0, 16_384))


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    found = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return found, time.perf_counter() - began


def report(size: Size, device: str) -> Iterator[str]:
    """Lines of Markdown, as they come."""
    began = time.perf_counter()
    what = torch.cuda.get_device_name() if device == "cuda" else "CPU, a dry run: these numbers say nothing of a GPU"
    yield f"# {what}\n\ntorch {torch.__version__}, {sys.platform}\n"
    folder = random_model(size, Path(tempfile.mkdtemp()))
    sections: list[tuple[str, Callable[[], Iterator[str]]]] = [
        ("Agreement with the CPU", lambda: agreement(device)),
        ("A session on the bundled model", lambda: session(device)),
    ]
    for rank in size.ranks:
        shape = f"{size.prompts} × {size.rollouts} × {size.tokens} tokens, {size.dtype}"
        sections.append((f"A step of {shape}", lambda rank=rank: step_of(size, device, rank, folder)))  # type: ignore[misc]
    for title, section in sections:
        yield f"## {title}\n"
        if time.perf_counter() - began > SECONDS * 0.6:
            yield "- left out: the time is over"
            continue
        for line in section():
            yield f"- {line}"
        yield ""
    yield f"{time.perf_counter() - began:.0f} s in all."


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu-report.md"))
    parser.add_argument("--dry-run", action="store_true", help="the same on the CPU, small")
    given = parser.parse_args()
    if not given.dry_run and not torch.cuda.is_available():
        print("Expected a CUDA GPU, found none. Use --dry-run to try the command.", file=sys.stderr)
        return 2
    lines = []
    for line in report(DRY if given.dry_run else REAL, "cpu" if given.dry_run else "cuda"):
        print(line, flush=True)
        lines.append(line)
    given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
