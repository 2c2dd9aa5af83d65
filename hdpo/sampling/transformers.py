"""Rollouts by transformers, or by the flat pass where the model has one.

The prompt of a group is prefilled once and its cache repeated over the group; finished rollouts leave the batch.
Every token is drawn by inverse CDF from its own keyed uniform (`hdpo.sampling.draws`), so what else is in the batch, in which
order, changes no draw.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from transformers import DynamicCache

from hdpo.config import SamplingConfig
from hdpo.errors import HdpoError
from hdpo.model.fit import CACHE_BYTES, CHUNK_ELEMENTS
from hdpo.model.flat import FlatDecoder
from hdpo.model.policy import Policy
from hdpo.records import TopK
from hdpo.sampling.draws import uniforms
from hdpo.sampling.protocol import Completion, Draw, OnToken, Prompt
from hdpo.sampling.stops import Stops

# Rows leave the batch when this share of it has finished: copying the cache for fewer costs more than it saves.
LEAVE_AT = 0.15
MAX_SEQUENCES = 1024
# In the flat model two batches side by side, a core each, beat one batch on two cores. A batch of fewer sequences than
# this is not split; of a small model, whose operations are too small to be shared out, it still has one core.
ROWS_A_THREAD = 32


class PlainDecoder:
    """The running sequences of one batch in any model of transformers, with its own cache; `FlatDecoder` is its twin.

    hidden: (R, H), what predicts their first token. mask (R, L), position (R,).
    """

    def __init__(self, policy: Policy, prompts: Sequence[tuple[int, ...]], n: int) -> None:
        """One pass over the P prompts, left-padded; cache, mask and hidden states then repeated n times each."""
        self.model, width = policy.causal, max(map(len, prompts))
        ids = torch.tensor([[policy.pad_id] * (width - len(p)) + list(p) for p in prompts], device=policy.device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=policy.device)
        self.cache = DynamicCache(config=self.model.config)
        position = (mask.cumsum(-1) - 1).clamp(min=0)
        self.hidden = self._forward(ids, mask, position).repeat_interleave(n, 0)
        self.cache.batch_repeat_interleave(n)
        self.mask, self.position = mask.repeat_interleave(n, 0), position[:, -1].repeat_interleave(n)

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        out = self.model.base_model(
            input_ids=ids, attention_mask=mask, position_ids=position, past_key_values=self.cache, use_cache=True
        )
        return out.last_hidden_state[:, -1]

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """(R,) the newest token of each → (R, H)."""
        self.position = self.position + 1
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], -1)
        return self._forward(tokens[:, None], self.mask, self.position[:, None])

    def keep(self, rows: torch.Tensor) -> None:
        """(R',) the places of those that stay."""
        self.cache.batch_select_indices(rows)
        self.mask, self.position = self.mask[rows], self.position[rows]


class _Batch:
    """B = P · n sequences: the uniform of each token (B, T) float64, and what is gathered: tokens and logprobs (B, T), top-k
    ids and logprobs (B, T, K), lengths (B,), 0 where it has not ended. Behind a sequence's end its row means nothing.
    """

    def __init__(self, policy: Policy, prompts: Sequence[Prompt], how: SamplingConfig, draw: Draw) -> None:
        self.policy, self.prompts, self.how, self.draw, device = policy, prompts, how, draw, policy.device
        rows = [uniforms(draw.key, p.problem_id, g, how.max_new_tokens) for p in prompts for g in range(draw.n)]
        # MPS has no float64: there the draw is made on the CPU
        self.uniforms = torch.from_numpy(np.stack(rows)).to("cpu" if device.type == "mps" else device)
        self.tokens = torch.zeros(self.uniforms.shape, dtype=torch.long, device=device)
        self.logprobs = torch.zeros(self.uniforms.shape, device=device)
        self.lengths, self.stops = torch.zeros_like(self.tokens[:, 0]), Stops(policy.tokenizer, how.stops())
        shape = *self.uniforms.shape, min(draw.topk, policy.vocabulary)
        self.ids, self.best = torch.zeros(shape, dtype=torch.int32, device=device), torch.zeros(shape, device=device)

    def run(self, logit_rows: int, on_token: OnToken | None) -> list[Completion]:
        """Draw them all, `logit_rows` rows of logits at once."""
        policy, n, new = self.policy, self.draw.n, self.how.max_new_tokens
        decoder = self._decoder()
        hidden = decoder.hidden
        ends = torch.tensor(sorted(policy.end_ids), device=policy.device)
        place = torch.arange(len(self.tokens), device=policy.device)
        running, left = torch.ones_like(place, dtype=torch.bool), len(place)
        for t in range(new):
            parts = zip(hidden.split(logit_rows), place.split(logit_rows), strict=True)
            token = torch.cat([self._next_tokens(policy.logits(h), rows, t) for h, rows in parts])
            if on_token:
                for b, x in zip(place[running].tolist(), token[running].tolist(), strict=True):
                    on_token(b // n, b % n, x)
            policy.between(left)
            ended = (token[:, None] == ends).any(-1)
            if self.stops.texts:
                rows = self.tokens[place, max(0, t + 1 - self.stops.window) : t + 1]
                ended |= torch.tensor(self.stops.hit(rows.tolist()), device=ended.device)
            ended, running = running & ended, running & ~ended
            before, left = left, int(running.sum())
            if left < before:
                self.lengths[place[ended]] = t + 1
            if left == 0 or t == new - 1:
                break
            if left <= (1 - LEAVE_AT) * len(running):
                kept = leaving_out(running, left)
                token, place, running = token[kept], place[kept], running[kept]
                decoder.keep(kept)
            hidden = decoder.step(token)
        return self._completions()

    def _decoder(self) -> PlainDecoder | FlatDecoder:
        policy, n, prompts = self.policy, self.draw.n, [p.ids for p in self.prompts]
        if policy.flat is None:
            return PlainDecoder(policy, prompts, n)
        return FlatDecoder(policy.flat, policy.folded(self.draw.weights), prompts, n, self.how.max_new_tokens)

    def _next_tokens(self, logits: torch.Tensor, place: torch.Tensor, t: int) -> torch.Tensor:
        """(R, V) logits → (R,) tokens at position t, noted with their log-probs at the sampling temperature, before top-p,
        and with the top-k of the raw logits (T = 1). Raises HdpoError for NaN."""
        logp = (logits / self.how.temperature).log_softmax(-1)
        if self.draw.greedy:
            token = logits.argmax(-1)
        else:
            u = self.uniforms[place.to(self.uniforms.device), t]
            token = inverse_cdf(nucleus(logp.exp(), self.how.top_p), u)
        drawn = logp.gather(-1, token[:, None])[:, 0]
        if drawn.isnan().any():
            way = "go on from an earlier checkpoint with a lower learning rate."
            raise HdpoError(f"The model's log-probs are no numbers any more. Its weights have run away: {way}")
        self.tokens[place, t], self.logprobs[place, t] = token, drawn
        if self.draw.topk:
            best = logits.log_softmax(-1).topk(self.best.shape[-1], -1)
            self.ids[place, t], self.best[place, t] = best.indices.int(), best.values
        return token

    def _completions(self) -> list[Completion]:
        """All of them, each up to its end, on the CPU."""
        tokens, logprobs, name = self.tokens.tolist(), self.logprobs.tolist(), self.policy.name_of(self.draw.weights)
        ids, best = self.ids.cpu().numpy(), self.best.cpu().numpy()
        found = []
        for b, length in enumerate(self.lengths.tolist()):
            t = length or len(tokens[b])
            topk = TopK(ids[b, :t].copy(), best[b, :t].copy(), name) if self.draw.topk else None
            found.append(Completion(tuple(tokens[b][:t]), tuple(logprobs[b][:t]), not length, topk))
        return found


@dataclass
class TransformersSampler:
    """Samples with the policy's own weights."""

    policy: Policy

    def sample(
        self, prompts: Sequence[Prompt], how: SamplingConfig, draw: Draw, on_token: OnToken | None = None
    ) -> list[list[Completion]]:
        """See `Sampler.sample`. Prompts of like length go together: padding is work."""
        n = draw.n
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids))
        size = self._prompts_at_once(prompts, n, how)
        chunks = [order[i : i + size] for i in range(0, len(order), size)]
        threads = 0
        if self.policy.flat is not None:
            self.policy.folded(draw.weights)  # made once, before the threads ask for it
            if torch.get_num_threads() > 1 and on_token is None:
                threads = min(torch.get_num_threads(), len(prompts), len(prompts) * n // ROWS_A_THREAD)
                threads = threads if threads > 1 else int(self.policy.small)
        apart = max(1, threads)
        chunks = [part for chunk in chunks for i in range(apart) if (part := chunk[i::apart])]
        logit_rows = max(1, CHUNK_ELEMENTS // self.policy.vocabulary // apart)  # the threads share the memory

        def complete(chunk: list[int]) -> list[Completion]:
            hear = None if on_token is None else lambda p, g, t: on_token(chunk[p], g, t)
            with torch.no_grad():
                return _Batch(self.policy, [prompts[i] for i in chunk], how, draw).run(logit_rows, hear)

        found: list[list[Completion]] = [[] for _ in prompts]
        with ExitStack() as around:
            run: Callable[..., Iterable[list[Completion]]] = map
            if self.policy.flat is None:
                around.enter_context(self.policy.using(draw.weights))
            elif threads:  # of one core each
                pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
                run = around.enter_context(pool).map
            for chunk, completions in zip(chunks, run(complete, chunks), strict=True):
                for j, i in enumerate(chunk):
                    found[i] = completions[j * n : (j + 1) * n]
        return found

    def parity(self) -> dict[str, float]:
        return {}

    def release(self) -> None: ...
    def close(self) -> None: ...

    def _prompts_at_once(self, prompts: Sequence[Prompt], n: int, how: SamplingConfig) -> int:
        c = self.policy.causal.config.get_text_config()
        heads = getattr(c, "num_key_value_heads", None) or c.num_attention_heads
        head_dim = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
        width = max((len(p.ids) for p in prompts), default=1) + how.max_new_tokens
        per_sequence = 2 * c.num_hidden_layers * heads * head_dim * width * self.policy.causal.dtype.itemsize
        mask = 4 * width * width * c.num_attention_heads // heads  # of the flat prefill, a prompt
        return max(1, min(MAX_SEQUENCES // n, CACHE_BYTES // (per_sequence * n + mask)))


def leaving_out(running: torch.Tensor, left: int) -> torch.Tensor:
    """(R,) bool, `left` of them True → (left,) the places of those, with as few as possible not at their own.

    >>> leaving_out(torch.tensor([True, False, True, False, True]), 3).tolist()
    [0, 4, 2]
    """
    kept = torch.arange(left, device=running.device)
    kept[~running[:left]] = running[left:].nonzero()[:, 0] + left
    return kept


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
    # Float64, and scaled by the total: in float32 the sum over a large vocabulary is not 1.
    cdf = probs.to(u.device).double().cumsum(-1)
    total = cdf[:, -1:]
    # below the total, whatever rounding says: then the first entry above it belongs to a token with mass
    below = torch.nextafter(total, torch.zeros_like(total))
    target = (u.double()[:, None] * total).minimum(below)
    return torch.searchsorted(cdf, target, right=True)[:, 0].clamp(max=probs.shape[-1] - 1).to(probs.device)
