"""All checks of a CUDA GPU, in one command of at most ten minutes, worst risk first; the report is written as it goes:

    python -m tests.benchmarks.gpu --out report.md        # and report.json beside it

--dry-run takes the same way on the CPU, with a small shape: it says that the command works, nothing about a GPU. A section
that fails is told and the next one begins; one that would begin too late, or lacks its packages, is named as not run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from hdpo.config import ModelConfig, ObjectiveConfig, SamplingConfig, TrainConfig, replace_knobs
from hdpo.method.objective import DistillItem, PolicyItem, Scale
from hdpo.model import flat
from hdpo.model.batching import Trace
from hdpo.model.find import BUNDLED
from hdpo.model.fit import need
from hdpo.model.policy import Policy, load_policy
from hdpo.record.files import write_aside
from hdpo.record.folder import Run
from hdpo.sampling.draws import DrawKey, Purpose
from hdpo.sampling.protocol import Completion, Draw, Prompt
from hdpo.sampling.transformers import TransformersSampler
from hdpo.work.bench import PHASES, matrix_rate, memory_held, weights_of
from tests.benchmarks import divergence
from tests.engine import hdpo_gradient

SECONDS = 600.0
LAST_BEGIN = 480.0  # a section that would begin later is not run
MICRO_BATCH = 16_384  # tokens
Fact = tuple[str, float | str, str]  # what, how much, in which unit


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


def agreement(device: str) -> Iterator[Fact]:
    """The bundled model: log-probs and gradient here against the CPU, both in float32."""
    found = []
    for where in ("cpu", device):
        policy = load_policy(ModelConfig(device=where, rank=4, alpha=8))
        traces = [Trace(prompt_ids(policy)[:20], tuple(range(7 + i, 27 + i))) for i in range(4)]
        batch = policy.batch(traces)
        with torch.no_grad():
            each = policy.logits(policy.hidden(batch)).log_softmax(-1)[batch.edges_N].cpu()
        items = [PolicyItem(t, (-1.0) ** i, (0.0,) * 20) for i, t in enumerate(traces)]
        hdpo_gradient(policy, items, [], ObjectiveConfig(lambda_=0.0), Scale(80, 0, 1.0, 4096))
        gradient = torch.cat([p.grad.flatten().cpu() for p in policy.trainable if p.grad is not None])
        found.append((each, gradient))
    (logp, gradient), (there, other) = found
    cosine = float(torch.nn.functional.cosine_similarity(gradient, other, 0))
    yield "largest difference of a log-prob from the CPU", float((logp - there).abs().max()), "nats"
    yield "cosine of the gradients", cosine, ""
    assert cosine > 0.999, "the gradient here is not the CPU's"


def step_of(size: Size, device: str, rank: int, folder: Path) -> Iterator[Fact]:
    """Rollouts and one update on the random model: speed, use of the arithmetic, memory beside what the plan says."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    config = ModelConfig(model=str(folder), device=device, dtype=size.dtype, rank=rank, alpha=2 * rank)
    policy = load_policy(config)
    yield "forward pass", policy.forward, ""
    groups, seconds = timed(partial(sample, policy, size))
    rollouts = [c for g in groups for c in g]
    tokens, weights = sum(len(c.token_ids) for c in rollouts), weights_of(policy)
    peak = matrix_rate(policy, 8192)
    yield "plain products of its width and dtype", peak / 1e12, "TFLOP/s"
    yield "sampled", tokens, "tokens"
    yield "sampling", seconds, "s"
    yield "sampling", tokens / seconds, "tokens/s"
    yield "sampling, of the plain products (MFU)", 100 * 2.0 * weights * tokens / seconds / peak, "%"
    terms, seconds = timed(partial(gradient_of, policy, rollouts, tokens))
    yield "gradient", seconds, "s"
    yield "gradient, of the plain products (MFU)", 100 * 4.0 * weights * tokens / seconds / peak, "%"
    yield "loss of GRPO", terms.loss_grpo, ""
    held, step = memory_held(policy.device), {"prompts_per_step": size.prompts, "rollouts": size.rollouts}
    asked = {**vars(config), **step, "max_new_tokens": size.tokens, "micro_batch_tokens": MICRO_BATCH}
    planned = need(replace_knobs(TrainConfig(), asked), gpu=device == "cuda")
    yield "peak memory", held / 2**30, "GiB"
    if planned is not None:
        yield "planned (with the libraries, which a GPU does not hold)", planned.total / 2**30, "GiB"


def sample(policy: Policy, size: Size) -> list[list[Completion]]:
    prompts = [Prompt(f"p{i}", prompt_ids(policy)) for i in range(size.prompts)]
    draw = Draw(size.rollouts, DrawKey(0, Purpose.STUDENT), topk=64)
    return TransformersSampler(policy).sample(prompts, SamplingConfig(max_new_tokens=size.tokens), draw)


def gradient_of(policy: Policy, rollouts: list[Completion], tokens: int) -> Any:
    """Every rollout has a signal, every eighth is distilled: the most that a step can hold."""
    traces = [Trace(prompt_ids(policy), c.token_ids) for c in rollouts]
    items = [PolicyItem(t, (-1.0) ** i, c.logprobs) for i, (t, c) in enumerate(zip(traces, rollouts, strict=True))]
    distil = [DistillItem(t, t, c.topk) for t, c in zip(traces[::8], rollouts[::8], strict=True)]
    accepted = sum(len(d.student.completion_ids) for d in distil)
    return hdpo_gradient(policy, items, distil, ObjectiveConfig(), Scale(tokens, accepted, 1.0, MICRO_BATCH))


def command(device: str, *more: str) -> list[str]:
    """Three small steps of the bundled model, a checkpoint each."""
    short = "--steps 3 --prompts-per-step 8 --eval-every 3 --eval-problems 24 --probe-cliffs 4 --checkpoint-every 1"
    return [sys.executable, "-m", "hdpo", "train", "--device", device, *short.split(), *more]


def run_of(root: str, words: list[str]) -> Run:
    """A run of the terminal in a folder of its own, to its end."""
    done = subprocess.run(words, env=os.environ | {"HDPO_RUNS": root}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-400:]
    (path,) = (p for p in Path(root).iterdir() if (p / "config.json").is_file())
    return Run(path)


def killed_and_resumed(device: str) -> Iterator[Fact]:
    """A run killed after its first step and resumed, beside an unbroken one: the same losses?"""
    whole = run_of(tempfile.mkdtemp(), command(device)).metrics("step")
    for phase in PHASES:
        yield f"last step, {phase}", whole[-1][f"seconds_{phase}"], "s"
    root = tempfile.mkdtemp()
    process = subprocess.Popen(
        command(device), env=os.environ | {"HDPO_RUNS": root}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not list(Path(root).glob("*/checkpoints/step-*1/state.json")):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (path,) = (p for p in Path(root).iterdir() if (p / "config.json").is_file())
    yield "steps told before it was killed", len(Run(path).metrics("step")), ""
    again = run_of(root, [sys.executable, "-m", "hdpo", "train", "--resume", path.name]).metrics("step")
    apart = max(abs(a["loss"] - b["loss"]) for a, b in zip(whole, again, strict=True))
    yield "largest difference of a step's loss from the unbroken run", apart, ""
    assert apart < 1e-3, "the resumed run is another one"


def flat_pass(size: Size, device: str, folder: Path) -> Iterator[Fact]:
    """The flat pass, made for CPUs, on this device: whether it would help here, for the bundled and the random model."""
    threads, allowed = torch.get_num_threads(), flat.DEVICES
    for model, shape in (("bundled", replace(size, prompts=16, rollouts=8, tokens=64)), (str(folder), size)):
        for devices in ((), (device,)):
            flat.DEVICES = devices
            torch.set_num_threads(1)  # or it would be split over cores
            try:
                with torch.device(device):
                    policy = load_policy(ModelConfig(model=model, device=device, dtype=size.dtype))
                    sample(policy, replace(shape, tokens=4))  # warm
                    groups, seconds = timed(partial(sample, policy, shape))
            finally:
                flat.DEVICES = allowed
                torch.set_num_threads(threads)
            tokens = sum(len(c.token_ids) for g in groups for c in g)
            name = "bundled" if model == "bundled" else "random model"
            yield f"{name}, {policy.forward.partition(' (')[0]}: sampling", tokens / seconds, "tokens/s"


def jsd(device: str, tokens: int) -> Iterator[Fact]:
    """JSD_k at V = 151,936 against the whole JSD of TRL, and of Liger where its kernels are."""
    for way in divergence.WAYS:
        if (gone := divergence.PACKAGES.get(way)) and find_spec(gone) is None:
            yield f"{way}: not run, without {gone}", "", ""
            continue
        if way == "liger" and device != "cuda":
            yield "liger: not run, without Triton on a GPU", "", ""
            continue
        seconds, grew = divergence.measured_apart(way, device, tokens)
        yield f"{way}: forward and backward", seconds, "s"
        yield f"{way}: memory", grew / 2**30, "GiB"


def two_processes(device: str) -> Iterator[Fact]:
    """The same three steps by one process and by two: NCCL on two GPUs, gloo on a CPU."""
    if device == "cuda" and torch.cuda.device_count() < 2:
        yield "not run: this machine has one GPU", "", ""
        return
    one, two = (run_of(tempfile.mkdtemp(), command(device, "--processes", n)).metrics("step") for n in "12")
    apart = max(abs(a["loss"] - b["loss"]) for a, b in zip(one, two, strict=True))
    yield "largest difference of a step's loss from one process", apart, ""


def beside_vllm(device: str) -> Iterator[Fact]:
    """Three steps whose rollouts vLLM draws beside the trainer."""
    if find_spec("vllm") is None:
        yield "not run: vLLM is not here", "", ""
        return
    row = run_of(tempfile.mkdtemp(), command(device, "--sampler", "vllm")).metrics("step")[-1]
    for phase in PHASES:
        yield f"last step, {phase}", row[f"seconds_{phase}"], "s"
    yield "mean difference of a log-prob from the trained model", row.get("parity_mean", 0.0), "nats"


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    found = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return found, time.perf_counter() - began


def sections(size: Size, device: str) -> Iterator[tuple[str, Callable[[], Iterator[Fact]]]]:
    """By risk."""
    yield "Agreement with the CPU", partial(agreement, device)
    folder = random_model(size, Path(tempfile.mkdtemp()))
    shape = f"{size.prompts} × {size.rollouts} × {size.tokens} tokens, {size.dtype}"
    for rank in size.ranks:
        yield f"A step of {shape}, rank {rank}", partial(step_of, size, device, rank, folder)
    yield "Killed and resumed", partial(killed_and_resumed, device)
    tokens = divergence.TOKENS if size is REAL else 16
    yield f"JSD_k of {tokens} tokens, V = 151,936", partial(jsd, device, tokens)
    yield "vLLM beside the trainer", partial(beside_vllm, device)
    yield "Two processes", partial(two_processes, device)
    yield "The flat pass", partial(flat_pass, size, device, folder)


def report(size: Size, device: str, write: Callable[[str, list[dict[str, Any]]], None]) -> bool:
    """Whether every section that was run came to its end. write: called after each fact, with both whole reports."""
    began = time.perf_counter()
    what = torch.cuda.get_device_name() if device == "cuda" else "CPU, a dry run: these numbers say nothing of a GPU"
    lines, facts, whole = [f"# {what}", "", f"torch {torch.__version__}, {sys.platform}", ""], [], True
    lines += ["| section | what | measured |", "|---|---|---|"]

    def tell(section: str, fact: Fact) -> None:
        name, value, unit = fact
        shown = f"{value:,.4g} {unit}".strip() if isinstance(value, (int, float)) else value
        lines.append(f"| {section} | {name} | {shown} |")
        facts.append({"section": section, "what": name, "value": value, "unit": unit})
        print(lines[-1], flush=True)
        write("\n".join(lines) + "\n", facts)

    for title, section in sections(size, device):
        if time.perf_counter() - began > LAST_BEGIN:
            tell(title, ("not run: the time is over", "", ""))
            continue
        started = time.perf_counter()
        try:
            for fact in section():
                tell(title, fact)
        except Exception as e:  # the other sections shall be heard too
            traceback.print_exc()
            tell(title, (f"failed: {type(e).__name__}: {str(e)[:200]}".replace("|", "/").replace("\n", " "), "", ""))
            whole = False
        tell(title, ("this section", time.perf_counter() - started, "s"))
    tell("all", ("in all", time.perf_counter() - began, "s"))
    return whole


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu-report.md"))
    parser.add_argument("--dry-run", action="store_true", help="the same on the CPU, small")
    given = parser.parse_args()
    if not given.dry_run and not torch.cuda.is_available():
        print("Expected a CUDA GPU, found none. Use --dry-run to try the command.", file=sys.stderr)
        return 2

    def write(text: str, facts: list[dict[str, Any]]) -> None:
        if given.out != Path(os.devnull):
            write_aside(given.out, text)
            write_aside(given.out.with_suffix(".json"), json.dumps(facts, ensure_ascii=False))

    dry = given.dry_run
    return 0 if report(DRY if dry else REAL, "cpu" if dry else "cuda", write) else 1


if __name__ == "__main__":
    sys.exit(main())
