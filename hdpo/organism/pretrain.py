"""Pretraining of the bundled model: one phase, counted in tokens, so that a busy machine makes the same model."""

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from random import Random

import torch
import torch.nn.functional as F
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from hdpo.organism.corpus import Example, Mix, draw_example
from hdpo.organism.tokenizer import render_prompt, render_response

POOL_BATCHES = 12  # drawn at once and sorted by length: little padding, and still a random order
LOG_EVERY = 100  # steps
PART = 64  # sequences in one forward pass, one thread each


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


@dataclass(frozen=True)
class Batch:
    """ids: (B, T) right-padded. predicts: (B, T-1), True where the *next* token belongs to a response."""

    ids: torch.Tensor
    predicts: torch.Tensor
    tokens: int


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


def collate(prompts: list[list[int]], responses: list[list[int]], pad: int) -> Batch:
    """Token ids of B examples as one right-padded batch; padding never needs a mask, since attention is causal. What
    is given of a response counts as prompt."""
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
    width = max(lengths)
    pairs = list(zip(prompts, responses, lengths, strict=True))
    ids = torch.tensor([p + r + [pad] * (width - n) for p, r, n in pairs])
    is_response = torch.tensor([[False] * len(p) + [True] * len(r) + [False] * (width - n) for p, r, n in pairs])
    return Batch(ids, is_response[:, 1:], sum(lengths))


def draw_pool(rng: Random, tokenizer: Qwen2Tokenizer, batch: int, draw: Callable[[], Example]) -> list[Batch]:
    """POOL_BATCHES batches of `batch` examples of like length, in random order."""
    examples = [draw() for _ in range(batch * POOL_BATCHES)]
    prompts = tokenizer([render_prompt(e.prompt) + e.given for e in examples], add_special_tokens=False).input_ids
    learned = [render_response(e.response.removeprefix(e.given)) for e in examples]
    responses = tokenizer(learned, add_special_tokens=False).input_ids
    order = sorted(range(len(examples)), key=lambda i: len(prompts[i]) + len(responses[i]))
    slices = [order[i : i + batch] for i in range(0, len(order), batch)]
    rng.shuffle(slices)
    return [collate([prompts[i] for i in s], [responses[i] for i in s], tokenizer.pad_token_id) for s in slices]


def backward(model: Qwen2ForCausalLM, batch: Batch) -> float:
    """Mean cross-entropy over response tokens, end token included, in nats; `.grad` becomes its gradient.

    Logits exist at response positions only. The batch goes through the model in parts of PART sequences, each on a
    thread of its own with one thread inside (`pretrain` sees to that): at this size the operations are too small to be
    shared out, and two parts side by side are about twice as fast. Added up in order, so that nothing depends on
    which part ends first.
    """
    parameters, n = list(model.parameters()), batch.predicts.sum()

    def part(ids: torch.Tensor, predicts: torch.Tensor) -> tuple[float, tuple[torch.Tensor, ...]]:
        hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state  # (PART, T-1, hidden)
        logits = model.lm_head(hidden[predicts])  # (response tokens, V)
        loss = F.cross_entropy(logits, ids[:, 1:][predicts], reduction="sum") / n
        return loss.item(), torch.autograd.grad(loss, parameters)

    with ThreadPoolExecutor() as threads:
        found = list(threads.map(part, batch.ids.split(PART), batch.predicts.split(PART)))
    for p, *grads in zip(parameters, *(g for _, g in found), strict=True):
        p.grad = torch.stack(grads).sum(0)
    return sum(loss for loss, _ in found)


def make_optimiser(model: Qwen2ForCausalLM, lr: float) -> torch.optim.AdamW:
    """AdamW (0.9, 0.98), weight decay 0.02 on matrices only."""
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)


def pretrain(
    model: Qwen2ForCausalLM,
    tokenizer: Qwen2Tokenizer,
    schedule: Schedule,
    mix: Mix,
    held_out: frozenset[str],
    on_point: Callable[[Point], None],
) -> None:
    """Train `model` in place until the tokens (or the steps) are spent; `on_point` hears every LOG_EVERY steps."""
    torch.set_num_threads(1)  # see `backward`
    rng = Random(schedule.seed + 1)
    optimiser = make_optimiser(model, schedule.peak_lr)
    parameters = list(model.parameters())
    pool: list[Batch] = []
    losses: list[float] = []
    step, tokens, started = 0, 0, time.perf_counter()
    model.train()
    while tokens < schedule.tokens and (schedule.steps is None or step < schedule.steps):
        progress = tokens / schedule.tokens
        if not pool:
            pool = draw_pool(rng, tokenizer, schedule.batch, partial(draw_example, rng, mix, progress, held_out))
        batch = pool.pop()
        for group in optimiser.param_groups:
            group["lr"] = schedule.lr(step, progress)
        loss = backward(model, batch)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        losses.append(loss)
        step, tokens = step + 1, tokens + batch.tokens
        last = tokens >= schedule.tokens or step == schedule.steps
        if step % LOG_EVERY == 0 or last:
            speed = tokens / (time.perf_counter() - started)
            on_point(Point(step, tokens, sum(losses) / len(losses), speed))
            losses = []
    model.eval()
