"""Pretraining of the bundled model: phases counted in tokens, so that a busy machine makes the same model."""

import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from hdpo.model.batching import Batch, Trace, collate
from hdpo.organism.corpus import Example, Mix, draw_example
from hdpo.organism.problems import PROBLEMS_SEED, held_out_texts, problem_sets
from hdpo.organism.tokenizer import build_tokenizer, render_prompt, render_response
from hdpo.record.files import beside

POOL_BATCHES = 12  # drawn at once and sorted by length: little padding, and still a random order
LOG_EVERY = 100  # steps
PART = 64  # sequences in one forward pass, one thread each
PARTIAL_EVERY = 4_000_000  # tokens


@dataclass(frozen=True)
class Schedule:
    """How long and how fast. `tokens` counts prompt and response, not padding; `steps`, if given, ends it early."""

    tokens: int = 28_000_000
    seed: int = 0
    steps: int | None = None
    batch: int = 128  # sequences
    peak_lr: float = 3e-3
    warmup: int = 100  # steps

    def lr(self, step: int, progress: float) -> float:
        """Linear warm-up, then linear down to 2 % of the peak at the last token.

        >>> s = Schedule()
        >>> [round(s.lr(step, p), 6) for step, p in ((0, 0.0), (99, 0.0), (5000, 0.5), (9000, 1.0))]
        [3e-05, 0.003, 0.00153, 6e-05]
        """
        return self.peak_lr * min(1.0, (step + 1) / self.warmup) * (0.02 + 0.98 * max(0.0, 1 - progress))


@dataclass(frozen=True)
class Point:
    """One line of the log: loss in nats per response token, averaged over the steps since the last line."""

    step: int
    tokens: int
    loss: float
    tokens_per_s: float


def build_model(tokenizer: Qwen2Tokenizer, seed: int) -> Qwen2ForCausalLM:
    """A randomly initialised Qwen2 of 0.74 M parameters in float32.

    The scales matter at this size: twice the usual 0.02 on the projections, and the two projections that write into
    the residual stream divided by √(2·layers).
    """
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=math.ceil(len(tokenizer) / 8) * 8,
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    model = Qwen2ForCausalLM(config)
    into_residual = ("o_proj.weight", "down_proj.weight")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("embed_tokens.weight"):
                weight.normal_(0.0, 0.02)
            elif weight.dim() == 2:
                scale = 0.04 / math.sqrt(2 * config.num_hidden_layers) if name.endswith(into_residual) else 0.04
                weight.normal_(0.0, scale)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def draw_pool(rng: Random, tokenizer: Qwen2Tokenizer, batch: int, draw: Callable[[], Example]) -> list[list[Trace]]:
    """POOL_BATCHES batches of `batch` examples of like length, in random order. What is given of a response counts as
    prompt."""
    examples = [draw() for _ in range(batch * POOL_BATCHES)]
    prompts = tokenizer([render_prompt(e.prompt) + e.given for e in examples], add_special_tokens=False).input_ids
    learned = [render_response(e.response.removeprefix(e.given)) for e in examples]
    responses = tokenizer(learned, add_special_tokens=False).input_ids
    traces = sorted((Trace(tuple(p), tuple(r)) for p, r in zip(prompts, responses, strict=True)), key=len)
    batches = [traces[i : i + batch] for i in range(0, len(traces), batch)]
    rng.shuffle(batches)
    return batches


def backward(model: Qwen2ForCausalLM, batch: Batch) -> float:
    """Mean cross-entropy over response tokens, end token included, in nats; `.grad` becomes its gradient.

    Logits exist at response positions only. The batch goes through the model in parts of PART sequences, each on a
    thread of its own with one thread inside (`pretrain` sees to that): at this size the operations are too small to be
    shared out, and two parts side by side are about twice as fast. Added up in order, so that nothing depends on
    which part ends first.
    """
    parameters, n = list(model.parameters()), len(batch.targets_E)

    def part(first: int) -> tuple[float, tuple[torch.Tensor, ...]]:
        ids, mine = batch.input_ids[first : first + PART], batch.rows_N // PART == first // PART
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state  # (PART, L, hidden)
        rows, columns = (x[mine] for x in batch.predicts)
        logits = model.lm_head(hidden[rows - first, columns])  # (response tokens, V)
        loss = F.cross_entropy(logits, batch.targets_E[mine], reduction="sum") / n
        return loss.item(), torch.autograd.grad(loss, parameters)

    with ThreadPoolExecutor() as threads:
        found = list(threads.map(part, range(0, len(batch.input_ids), PART)))
    for p, *grads in zip(parameters, *(g for _, g in found), strict=True):
        p.grad = torch.stack(grads).sum(0)
    return sum(loss for loss, _ in found)


def pretrain(
    model: Qwen2ForCausalLM,
    tokenizer: Qwen2Tokenizer,
    schedule: Schedule,
    mix: Mix,
    held_out: frozenset[str],
    on_point: Callable[[Point], None],
) -> None:
    """Train `model` in place until the tokens (or the steps) are spent; `on_point` hears every LOG_EVERY steps. Weights
    decay in matrices only."""
    torch.set_num_threads(1)  # see `backward`
    rng = Random(schedule.seed + 1)
    parameters = list(model.parameters())
    matrices, vectors = ([p for p in parameters if (p.dim() == 2) is matrix] for matrix in (True, False))
    decays = [{"params": matrices, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(decays, lr=schedule.peak_lr, betas=(0.9, 0.98), fused=True)
    pool: list[list[Trace]] = []
    losses: list[float] = []
    step, tokens, started = 0, 0, time.perf_counter()
    model.train()
    while tokens < schedule.tokens and (schedule.steps is None or step < schedule.steps):
        progress = tokens / schedule.tokens
        if not pool:
            pool = draw_pool(rng, tokenizer, schedule.batch, partial(draw_example, rng, mix, progress, held_out))
        traces = pool.pop()
        for group in optimiser.param_groups:
            group["lr"] = schedule.lr(step, progress)
        losses.append(backward(model, collate(traces, tokenizer.pad_token_id, torch.device("cpu"))))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step, tokens = step + 1, tokens + sum(map(len, traces))
        last = tokens >= schedule.tokens or step == schedule.steps
        if step % LOG_EVERY == 0 or last:
            speed = tokens / (time.perf_counter() - started)
            on_point(Point(step, tokens, sum(losses) / len(losses), speed))
            losses = []
    model.eval()


def build(out: Path, schedule: Schedule, mix: Mix, unfinished: Path | None = None) -> None:
    """Make tokenizer and model and put them, with `build.json`, into the folder `out`.

    The unfinished model is put into `unfinished`, if given, every PARTIAL_EVERY tokens.
    """
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, schedule.seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens in the vocabulary")
    phases, held_out = [(schedule, mix), settle(schedule, mix)], held_out_texts(problem_sets())
    curves: list[list[Point]] = []
    saved = 0

    def on_point(point: Point) -> None:
        nonlocal saved
        curves[-1].append(point)
        said = (
            f"step {point.step}  tokens {point.tokens:,}  loss {point.loss:.4f} nats  {point.tokens_per_s:,.0f} tok/s"
        )
        print(said, flush=True)
        if unfinished is not None and point.tokens // PARTIAL_EVERY > saved:
            saved = point.tokens // PARTIAL_EVERY
            save(unfinished, model, tokenizer, _provenance(phases, curves))

    for phase in phases:
        curves.append([])
        pretrain(model, tokenizer, *phase, held_out, on_point)
    save(out, model, tokenizer, _provenance(phases, curves))


def settle(schedule: Schedule, mix: Mix) -> tuple[Schedule, Mix]:
    """The second, short phase: most unprivileged students of levels 4 and 5 are met midway, so that the model learns how
    rarely they go on there too."""
    tokens = schedule.tokens // 7
    return replace(schedule, tokens=tokens, seed=schedule.seed + 1, peak_lr=1e-3), replace(mix, drill=0.0, midway=0.7)


def _provenance(phases: Sequence[tuple[Schedule, Mix]], curves: Sequence[Sequence[Point]]) -> dict[str, object]:
    """What `build.json` holds; each curve is thinned to about 100 points, the last among them."""
    thinned = [[*curve[: -1 : max(1, len(curve) // 100)], curve[-1]] for curve in curves]
    return {
        "phases": [
            {"schedule": asdict(schedule), "mix": asdict(mix), "curve": [asdict(point) for point in curve]}
            for (schedule, mix), curve in zip(phases, thinned, strict=False)
        ],
        "problems_seed": PROBLEMS_SEED,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "transformers", "tokenizers")},
    }


def save(out: Path, model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, provenance: dict[str, object]) -> None:
    """The model folder, whole or not at all: the old one stays until the new one is whole."""
    with beside(out) as aside:
        model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        (aside / "build.json").write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")
