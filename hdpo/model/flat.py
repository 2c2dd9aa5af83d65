"""The forward pass of the Llama family on a CPU, in few and large calls: Llama, SmolLM, Qwen2, Qwen2.5, Qwen3, Mistral.

A small model spends its time in calls, not in arithmetic: behind an adapter the plain modules of the bundled model
make 590 operations for one decoding step, views included, and this makes some 220. Queries, keys and values are one product,
gate and up another; the rotation is one complex product (pairs of channels lie side by side, in queries and keys alike,
so that their product is the same); the heads that share a key are further queries of it, so that no key is repeated.
And a prompt is read once for all its completions, in training too, where they share a row as a tree.

The adapter of a small model in float32 is folded into the weights. That of a larger one stays beside them: in bfloat16 a
small change would be rounded away, and no weight but the adapter's needs a gradient.

What a model must be is asked of its modules, not of its name, and `FlatModel.of` compares both ways on a row of tokens
before this one is used. Everything else goes the plain way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hdpo.model.batching import Batch
from hdpo.model.family import Layer, Projection, beside, joined_layer, linears_of, unlike
from hdpo.model.fit import ACTIVATION_BYTES, FOLDED_BELOW, kept_a_token

# Mean |Δ log p| (nats a token) that rounding leaves between the two ways: about 1e-6 and 1e-2. Another structure leaves 1.
AGREE = {torch.float32: 1e-4, torch.bfloat16: 0.1}
BLOCK = 32  # columns by which a cache grows
DEVICES = ("cpu",)  # on a GPU the calls overlap with the work; nothing was measured there


@dataclass(frozen=True)
class FlatWeights:
    """The whole decoder with an adapter in or beside it; norm (H,) is the last one's scale."""

    embedding: Tensor
    layers: tuple[Layer, ...]
    norm: Tensor

    def adapted(self) -> list[Tensor]:
        """The tensors that an adapter can have changed: what it was folded into, or itself."""
        each = [p for layer in self.layers for p in layer.projections]
        return [t for p in each for t in ([p.weight] if p.a is None else [p.a, p.b]) if t is not None]

    def leaves(self) -> "FlatWeights":
        """The same numbers, detached and collecting gradients: many backward passes, one way back into the adapter."""

        def leaf(t: Tensor | None) -> Tensor | None:
            return None if t is None else t.detach().requires_grad_(t.requires_grad)

        def collecting(p: Projection) -> Projection:
            return Projection(p.weight.detach().requires_grad_(p.weight.requires_grad), p.bias, leaf(p.a), leaf(p.b))

        each = [layer.holding(map(collecting, layer.projections)) for layer in self.layers]
        return FlatWeights(self.embedding, tuple(each), self.norm)


@dataclass(frozen=True)
class FlatModel:
    """A decoder behind an adapter. base: without it. turn: (context, head_dim / 2) complex. folds: whether the adapter
    goes into the weights."""

    causal: Any
    base: FlatWeights
    turn: Tensor
    heads: int
    kv_heads: int
    eps: float
    folds: bool

    @classmethod
    def of(cls, model: PeftModel) -> "tuple[FlatModel | None, str]":
        """And why there is none, in a few words."""
        causal: Any = model.get_base_model()
        if causal.device.type not in DEVICES or causal.dtype not in AGREE:
            return None, f"it is in {str(causal.dtype).removeprefix('torch.')} on {causal.device.type}"
        if reason := unlike(causal):
            return None, reason
        config, decoder = causal.config, causal.model
        attention, rotary = decoder.layers[0].self_attn, decoder.rotary_emb
        angles = torch.outer(torch.arange(config.max_position_embeddings), rotary.inv_freq.float())
        turn = torch.polar(torch.full_like(angles, rotary.attention_scaling), angles)
        folds = causal.dtype == torch.float32 and causal.num_parameters() < FOLDED_BELOW
        with torch.no_grad():
            layers = tuple(joined_layer(layer, attention.head_dim) for layer in decoder.layers)
        base = FlatWeights(decoder.embed_tokens.weight, layers, decoder.norm.weight)
        eps = decoder.norm.variance_epsilon
        flat = cls(causal, base, turn, config.num_attention_heads, config.num_key_value_heads, eps, folds)
        apart = flat.apart()
        if apart >= AGREE[causal.dtype]:
            return None, f"the flat pass gives other log-probs (by {apart:.1e} nats)"
        return flat, ""

    def apart(self) -> float:
        """Mean |Δ log p| between both ways on a row of tokens, in nats."""
        ids = torch.arange(48) * 7 % self.causal.config.vocab_size
        with torch.no_grad():
            plain = self.causal.base_model(input_ids=ids[None], use_cache=False).last_hidden_state[0]
            flat = self.run(self.fold("default"), ids, torch.arange(48), Within(self, 1, 48))
            flat, plain = (self.causal.get_output_embeddings()(x).float().log_softmax(-1) for x in (flat, plain))
        return float((flat - plain).abs().mean())

    @property
    def dtype(self) -> torch.dtype:
        return self.base.embedding.dtype

    @property
    def head_dim(self) -> int:
        return 2 * self.turn.shape[1]

    @property
    def row(self) -> int:
        """Tokens of one prompt that may share a row in training: where they are as many as the model is wide, attention costs
        a sixth of the dense products."""
        return self.base.embedding.shape[1]

    @property
    def kept(self) -> int:
        """Bytes that the layers keep of a token for its backward pass."""
        config = self.causal.config
        return kept_a_token(len(self.base.layers), config.hidden_size, config.intermediate_size, self.dtype.itemsize)

    def fold(self, adapter: str | None) -> FlatWeights:
        """Base + adapter, differentiable in the adapter; the base itself is never changed."""
        if adapter is None:
            return self.base
        name = adapter

        def adapted(base: Projection, linears: Sequence[Any]) -> Projection:
            a, b = beside(linears, name, self.head_dim, self.dtype)
            if len(a) == 0:
                return base
            return replace(base, weight=torch.addmm(base.weight, b, a)) if self.folds else replace(base, a=a, b=b)

        both = zip(self.base.layers, self.causal.model.layers, strict=True)
        layers = (flat.holding(map(adapted, flat.projections, linears_of(layer))) for flat, layer in both)
        return replace(self.base, layers=tuple(layers))

    def hidden(self, weights: FlatWeights, batch: Batch) -> Tensor:
        """(E, H): the last hidden state at the position that predicts each edge."""
        rows, width = batch.input_ids.shape
        at = batch.predicts[0] * width + batch.predicts[1]
        attend = Within(self, rows, width, batch.sees)
        return self.run(weights, batch.input_ids.flatten(), batch.positions.flatten(), attend, at)

    def run(
        self, weights: FlatWeights, ids: Tensor, positions: Tensor, attend: "Attend", at: Tensor | None = None
    ) -> Tensor:
        """(N,) token ids and positions → (N, H), normed; at (M,): only these, to spare the last layer the others.

        Where a gradient is asked for and the layers would keep too much for it, each is computed again on the way back.
        """
        x = F.embedding(ids, weights.embedding)
        rotation = self.turn[positions][:, None]
        # queries also take the attention's scale, values are not turned
        scaled = (rotation * self.head_dim**-0.5).expand(-1, self.heads, -1)
        turned, still = rotation.expand(-1, self.kv_heads, -1), torch.ones_like(rotation).expand(-1, self.kv_heads, -1)
        rotation = torch.cat([scaled, turned, still], 1)
        again = torch.is_grad_enabled() and not self.folds and len(ids) * self.kept > ACTIVATION_BYTES
        for i, layer in enumerate(weights.layers):
            last = at if layer is weights.layers[-1] else None
            if again:
                x = checkpoint(self._layer, i, layer, x, rotation, attend, last, use_reentrant=False)
            else:
                x = self._layer(i, layer, x, rotation, attend, last)
        return F.rms_norm(x, x.shape[1:], weights.norm, self.eps)

    def _layer(self, i: int, w: Layer, x: Tensor, rotation: Tensor, attend: "Attend", at: Tensor | None) -> Tensor:
        qkv = w.qkv(F.rms_norm(x, x.shape[1:], w.before, self.eps)).view(len(x), -1, self.head_dim)
        if w.heads is not None:
            qk, v = qkv.split([self.heads + self.kv_heads, self.kv_heads], 1)
            qkv = torch.cat([F.rms_norm(qk, qk.shape[2:], None, self.eps) * w.heads, v], 1)
        turned = torch.view_as_complex(qkv.float().view(*rotation.shape, 2)) * rotation
        q, kv = torch.view_as_real(turned).flatten(2).to(x.dtype).split([self.heads, 2 * self.kv_heads], 1)
        seen = attend(i, q, kv)
        if at is not None:
            x, seen = x.index_select(0, at), seen.index_select(0, at)
        x = x + w.out(seen)
        gate, up = w.gate_up(F.rms_norm(x, x.shape[1:], w.after, self.eps)).chunk(2, -1)
        return x + w.down(F.silu(gate) * up)


Attend = Callable[[int, Tensor, Tensor], Tensor]
"""layer, q (N, heads, d), kv (N, 2 · kv heads, d) → (N, heads · d)."""


class Within:
    """Attention within rows of equal width. sees: (B, width, width) bool, who looks at whom; None: at all before it."""

    def __init__(self, model: FlatModel, rows: int, width: int, sees: Tensor | None = None) -> None:
        if sees is None:
            sees = torch.ones(1, width, width, dtype=torch.bool).tril()
        self.shape = rows, width, model.kv_heads, -1, model.head_dim
        sees = sees.repeat_interleave(model.heads // model.kv_heads, 1)[:, None]
        self.mask = torch.zeros(sees.shape, dtype=model.dtype).masked_fill(~sees, -torch.inf)

    def __call__(self, layer: int, q: Tensor, kv: Tensor) -> Tensor:
        k, v = kv.view(*self.shape[:2], 2, -1, self.shape[-1]).transpose(1, 3).unbind(2)  # (B, kv heads, width, d)
        q = q.reshape(self.shape).transpose(1, 2).flatten(2, 3)  # (B, kv heads, width · sharers, d)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, scale=1.0)
        return seen.unflatten(2, (self.shape[1], -1)).transpose(1, 2).reshape(len(kv), -1)


class FlatDecoder:
    """The running sequences of one batch: their keys and values, and who may see what.

    cache: (layers, 2, R, kv heads, room, d), keys before values. bias: (R, 1, 1, …), -inf at padding and ahead.
    hidden: (R, H), what predicts the first token.
    """

    def __init__(
        self, model: FlatModel, weights: FlatWeights, prompts: Sequence[tuple[int, ...]], n: int, new: int
    ) -> None:
        """Read P prompts, padded on the left, once each; R = P · n sequences go on from them."""
        self.model, self.weights, width = model, weights, max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts])
        start = torch.tensor([width - len(p) for p in prompts])[:, None]
        column = torch.arange(width + new + BLOCK)
        hidden = (column < start) | (column >= width)
        self.bias = torch.zeros(hidden.shape, dtype=model.dtype).masked_fill(hidden, -torch.inf)
        self.bias = self.bias.repeat_interleave(n, 0)[:, None, None]
        self.used, column = width, column[:width]
        room = width + (new if model.dtype == torch.float32 else BLOCK)
        shape = len(weights.layers), 2, len(prompts) * n, model.kv_heads, room, model.head_dim
        self.cache = torch.zeros(shape, dtype=model.dtype)
        # padding sees itself: a row that sees nothing would be NaN
        sees = (column <= column[:, None]) & (column >= start)[:, None] | (column == column[:, None])
        within = Within(model, len(prompts), width, sees)

        def attend(layer: int, q: Tensor, kv: Tensor) -> Tensor:
            once = kv.view(len(prompts), width, 2, -1, model.head_dim).permute(2, 0, 3, 1, 4)
            self.cache[layer, :, :, :, :width].unflatten(1, (-1, n)).copy_(once[:, :, None])
            return within(layer, q, kv)

        last = torch.arange(1, len(prompts) + 1) * width - 1
        position = (column - start).clamp(min=0).flatten()
        self.hidden = model.run(weights, ids.flatten(), position, attend, last).repeat_interleave(n, 0)
        self.position = (width - 1 - start[:, 0]).repeat_interleave(n)

    def step(self, tokens: Tensor) -> Tensor:
        """(R,) the newest token of each sequence → (R, H)."""
        if self.used == self.cache.shape[-2]:
            self.cache = F.pad(self.cache, (0, 0, 0, BLOCK))
        self.bias[..., self.used] = 0.0
        self.used += 1
        self.position = self.position + 1
        return self.model.run(self.weights, tokens, self.position, self._attend)

    @property
    def seen(self) -> int:
        """The columns that a product reads: those in use. In bfloat16 it copies what does not lie in one piece, and reads
        the whole cache, which then grows by blocks."""
        return self.used if self.model.dtype == torch.float32 else self.cache.shape[-2]

    def _attend(self, layer: int, q: Tensor, kv: Tensor) -> Tensor:
        self.cache[layer, :, :, :, self.used - 1] = kv.unflatten(1, (2, -1)).transpose(0, 1)
        cache = self.cache[layer, :, :, :, : self.seen]
        # plain products: the fused attention of a CPU takes longer for a single query
        scores = q.unflatten(1, (self.model.kv_heads, -1)) @ cache[0].mT + self.bias[..., : self.seen]
        return (scores.softmax(-1) @ cache[1]).flatten(1)

    def keep(self, rows: Tensor) -> None:
        """Row i becomes what rows[i] is; only rows that move are copied."""
        moved = (rows != torch.arange(len(rows))).nonzero()[:, 0]
        self.cache[:, :, moved, :, : self.used] = self.cache[:, :, rows[moved], :, : self.used]
        self.cache = self.cache[:, :, : len(rows)]
        self.position, self.bias = self.position[rows], self.bias[rows]
