"""Rollouts: one protocol, and the transformers implementation of it.

The prompt of a group is prefilled once and its cache repeated over the group; finished rollouts leave the batch.
Every token is drawn by inverse CDF from its own keyed uniform (`hdpo.draws`), so what else is in the batch, in which
order, changes no draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from transformers import DynamicCache

from hdpo.config import SamplingConfig
from hdpo.draws import DrawKey, uniforms
from hdpo.policy import Policy, Weights
from hdpo.records import TopK

# Rows leave the batch when this share of it has finished: copying the cache for fewer costs more than it saves.
LEAVE_AT = 0.15
# Keys and values of one batch of sequences may take this many bytes; more prompts than fit go one batch after another.
CACHE_BYTES = 1 << 30
MAX_SEQUENCES = 1024

OnToken = Callable[[int, int, int], None]


@dataclass(frozen=True)
class Prompt:
    """What is sampled from; problem_id is part of the key of every draw."""

    problem_id: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Completion:
    """One sampled completion. logprobs are the sampling distribution's at its temperature, before top-p (nats)."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    truncated: bool
    topk: TopK | None = None


class Sampler(Protocol):
    """Whatever can roll out: transformers here, vLLM elsewhere."""

    def sample(
        self,
        prompts: Sequence[Prompt],
        n: int,
        how: SamplingConfig,
        key: DrawKey,
        *,
        weights: Weights = Weights.CURRENT,
        topk: int = 0,
        greedy: bool = False,
        on_token: OnToken | None = None,
    ) -> list[list[Completion]]:
        """n completions of each prompt, in the prompts' order.

        weights: which weights sample. topk: how many raw log-probs to keep at each position (0 keeps none).
        greedy: the most probable token instead of a draw. on_token(prompt index, rollout index, token id) is called
        for every token as it appears.
        """
        ...  # fmt: skip


@dataclass
class _Rows:
    """The sequences still running: (R,) their place in the result, last token, next position; (R, L) attention."""

    place: torch.Tensor
    token: torch.Tensor
    position: torch.Tensor
    mask: torch.Tensor

    def keep(self, rows: torch.Tensor) -> _Rows:
        return _Rows(self.place[rows], self.token[rows], self.position[rows], self.mask[rows])


@dataclass
class _Result:
    """What is gathered, on the CPU: tokens and logprobs (B, T), lengths (B,), top-k ids and logprobs (B, T, K)."""

    tokens: np.ndarray
    logprobs: np.ndarray
    lengths: np.ndarray
    ended: np.ndarray
    topk_ids: np.ndarray | None
    topk_logprobs: np.ndarray | None

    @classmethod
    def empty(cls, b: int, t: int, k: int) -> _Result:
        shape = (b, t, k)
        return cls(
            np.zeros((b, t), np.int64), np.zeros((b, t), np.float32), np.zeros(b, np.int64), np.zeros(b, bool),
            np.zeros(shape, np.int32) if k else None, np.zeros(shape, np.float32) if k else None,
        )  # fmt: skip

    def completion(self, b: int, weights: str) -> Completion:
        t = int(self.lengths[b])
        topk = None
        if self.topk_ids is not None and self.topk_logprobs is not None:
            topk = TopK(self.topk_ids[b, :t].copy(), self.topk_logprobs[b, :t].copy(), weights)
        ids, logps = self.tokens[b, :t].tolist(), self.logprobs[b, :t].tolist()
        return Completion(tuple(ids), tuple(logps), not bool(self.ended[b]), topk)


@dataclass
class TransformersSampler:
    """Samples with the policy's own weights."""

    policy: Policy

    def sample(
        self, prompts: Sequence[Prompt], n: int, how: SamplingConfig, key: DrawKey, *,
        weights: Weights = Weights.CURRENT, topk: int = 0, greedy: bool = False, on_token: OnToken | None = None,
    ) -> list[list[Completion]]:  # fmt: skip
        """See `Sampler.sample`. Prompts of like length go together: padding is work."""
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids))
        found: list[list[Completion]] = [[] for _ in prompts]
        size = self._prompts_at_once(prompts, n, how)
        with torch.no_grad(), self.policy.sampling_from(weights) as causal:
            for start in range(0, len(order), size):
                chunk = order[start : start + size]
                hear = None if on_token is None else lambda p, g, t, chunk=chunk: on_token(chunk[p], g, t)
                draws = _Draws([prompts[i] for i in chunk], n, how, key, greedy)
                result = self._sample_chunk(causal, draws, min(topk, self.policy.vocabulary), hear)
                name = self.policy.name_of(weights)
                for j, i in enumerate(chunk):
                    found[i] = [result.completion(j * n + g, name) for g in range(n)]
        return found

    def _prompts_at_once(self, prompts: Sequence[Prompt], n: int, how: SamplingConfig) -> int:
        c = self.policy.causal.config
        heads = getattr(c, "num_key_value_heads", None) or c.num_attention_heads
        head_dim = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
        width = max((len(p.ids) for p in prompts), default=1) + how.max_new_tokens
        per_sequence = 2 * c.num_hidden_layers * heads * head_dim * width * self.policy.causal.dtype.itemsize
        return max(1, min(MAX_SEQUENCES, CACHE_BYTES // per_sequence) // n)

    def _sample_chunk(self, causal: Any, draws: _Draws, topk: int, on_token: OnToken | None) -> _Result:
        n, new = draws.n, draws.how.max_new_tokens
        result = _Result.empty(len(draws.prompts) * n, new, topk)
        rows, cache, logits = self._prefill(causal, draws.prompts, n)
        ends = torch.tensor(sorted(self.policy.end_ids), device=self.policy.device)
        running = torch.ones(len(rows.place), dtype=torch.bool, device=self.policy.device)
        for t in range(new):
            rows.token, logp = draws.next_token(logits, rows.place, t)
            self._note(result, rows, running, (t, logits, logp), topk)
            if on_token:
                for b, token in zip(rows.place[running].tolist(), rows.token[running].tolist(), strict=True):
                    on_token(b // n, b % n, token)
            ended = torch.isin(rows.token, ends) & running
            result.ended[rows.place[ended].cpu().numpy()] = True
            running &= ~ended
            left = int(running.sum())
            if left == 0 or t == new - 1:
                break
            if left <= (1 - LEAVE_AT) * len(running):
                kept = running.nonzero()[:, 0]
                rows, running = rows.keep(kept), running[kept]
                cache.batch_select_indices(kept)
            logits = self._decode(causal, rows, cache)
        return result

    def _prefill(self, causal: Any, prompts: Sequence[Prompt], n: int) -> tuple[_Rows, DynamicCache, torch.Tensor]:
        """One pass over the P prompts, left-padded; cache, mask and logits then repeated n times each."""
        device, width = self.policy.device, max(len(p.ids) for p in prompts)
        ids = torch.full((len(prompts), width), self.policy.pad_id)
        mask = torch.zeros((len(prompts), width), dtype=torch.long)
        for i, p in enumerate(prompts):
            ids[i, width - len(p.ids) :] = torch.tensor(p.ids)
            mask[i, width - len(p.ids) :] = 1
        ids, mask = ids.to(device), mask.to(device)
        cache = DynamicCache(config=causal.config)
        out = causal.base_model(
            input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            past_key_values=cache, use_cache=True,
        )  # fmt: skip
        logits = self.policy.logits(out.last_hidden_state[:, -1]).repeat_interleave(n, 0)
        cache.batch_repeat_interleave(n)
        place = torch.arange(len(prompts) * n, device=device)
        position = mask.sum(-1).repeat_interleave(n) - 1
        return _Rows(place, place, position, mask.repeat_interleave(n, 0)), cache, logits

    def _decode(self, causal: Any, rows: _Rows, cache: DynamicCache) -> torch.Tensor:
        """One more token of every row: (R, V) logits."""
        rows.position = rows.position + 1
        rows.mask = torch.cat([rows.mask, rows.mask.new_ones(len(rows.mask), 1)], -1)
        out = causal.base_model(
            input_ids=rows.token[:, None], attention_mask=rows.mask, position_ids=rows.position[:, None],
            past_key_values=cache, use_cache=True,
        )  # fmt: skip
        return self.policy.logits(out.last_hidden_state[:, -1])

    def _note(self, result: _Result, rows: _Rows, running: torch.Tensor, drawn: tuple[int, torch.Tensor, torch.Tensor], topk: int) -> None:  # fmt: skip
        """Write the tokens of the running rows into the result; top-k is of the raw logits, at T = 1, before top-p."""
        t, logits, logp = drawn
        place = rows.place[running].cpu().numpy()
        result.tokens[place, t] = rows.token[running].cpu().numpy()
        result.logprobs[place, t] = logp[running].cpu().numpy()
        result.lengths[place] = t + 1
        if result.topk_ids is not None and result.topk_logprobs is not None:
            best = logits[running].log_softmax(-1).topk(topk, -1)
            result.topk_ids[place, t] = best.indices.cpu().numpy()
            result.topk_logprobs[place, t] = best.values.cpu().numpy()


@dataclass
class _Draws:
    """The prompts of one batch, n sequences each, and the uniform of each of their tokens: (B, T) float64."""

    prompts: list[Prompt]
    n: int
    how: SamplingConfig
    key: DrawKey
    greedy: bool

    def __post_init__(self) -> None:
        new = self.how.max_new_tokens
        rows = [uniforms(self.key, p.problem_id, g, new) for p in self.prompts for g in range(self.n)]
        self.uniforms = torch.from_numpy(np.stack(rows))

    def next_token(self, logits: torch.Tensor, place: torch.Tensor, t: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(R, V) logits → (R,) tokens and their log-probs at the sampling temperature, before top-p."""
        logp = (logits / self.how.temperature).log_softmax(-1)
        if self.greedy:
            token = logits.argmax(-1)
        else:
            u = self.uniforms[place.cpu(), t].to(logits.device)
            token = inverse_cdf(nucleus(logp.exp(), self.how.top_p), u)
        return token, logp.gather(-1, token[:, None])[:, 0]


def nucleus(probs: torch.Tensor, top_p: float) -> torch.Tensor:
    """The smallest set of most probable tokens that holds top_p of the mass; the rest set to 0. (R, V) → (R, V).

    >>> nucleus(torch.tensor([[0.1, 0.6, 0.3]]), 0.7).tolist()[0][0]
    0.0
    """
    if top_p >= 1.0:
        return probs
    ordered, index = probs.sort(-1, descending=True)
    outside = ordered.cumsum(-1) - ordered >= top_p
    return probs.scatter(-1, index, ordered.masked_fill(outside, 0.0))


def inverse_cdf(probs: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """The token in whose stretch of the cumulative distribution u falls. (R, V), (R,) in [0, 1) → (R,).

    >>> inverse_cdf(torch.tensor([[0.5, 0.0, 0.5]] * 3), torch.tensor([0.0, 0.49, 0.5])).tolist()
    [0, 0, 2]
    """
    # Float64, and scaled by the total: in float32 the sum over a large vocabulary is not 1. MPS has no float64.
    cdf = probs.to("cpu" if probs.device.type == "mps" else probs.device).double().cumsum(-1)
    target = u.to(cdf.device).double()[:, None] * cdf[:, -1:]
    last = (probs > 0).to(cdf.device).long().cumsum(-1).argmax(-1, keepdim=True)
    return torch.searchsorted(cdf, target, right=True).minimum(last)[:, 0].to(probs.device)
