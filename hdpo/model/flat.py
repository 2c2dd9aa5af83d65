"""The forward pass of a small Qwen2 in float32, in few and large calls, with the adapter folded into the weights.

A model of this size spends much of its time in calls, not in arithmetic: behind an adapter the plain modules of the
bundled model make 590 operations for one decoding step, views included, and this makes 218. Queries, keys and values
are one product, gate and up another; the norms' scales lie in the weights; the rotation is one complex product (pairs
of channels lie side by side, in queries and keys alike, so that their product is the same); the heads that share a key
are further queries of it, so that no key is repeated. And a prompt is read once for all its completions, in training
too: they lie in one row behind it and do not see each other.

Everything that is not of this kind goes the plain way. `FlatModel.of` compares both on a row of tokens before it is
used; how the adapter is folded in is held by `tests/test_flat.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers import Qwen2ForCausalLM

from hdpo.model.batching import Batch
from hdpo.model.fit import FLAT_BELOW

AGREE = 1e-4  # nats; what rounding leaves between the two ways is about 1e-6


@dataclass(frozen=True)
class Layer:
    """One decoder layer as (in, out) matrices, but qkv and gate_up as (out, in), each for the call it stands in."""

    qkv: Tensor
    bias: Tensor
    out: Tensor
    gate_up: Tensor
    down: Tensor


@dataclass(frozen=True)
class FoldedWeights:
    """The whole decoder with an adapter folded in; norm (H,) is the last one's scale."""

    embedding: Tensor
    layers: tuple[Layer, ...]
    norm: Tensor

    def adapted(self) -> list[Tensor]:
        """The tensors that an adapter can have changed."""
        return [t for layer in self.layers for t in (layer.qkv, layer.out, layer.gate_up, layer.down)]

    def leaves(self) -> FoldedWeights:
        """The same numbers, detached and collecting gradients: many backward passes, one way back into the adapter."""

        def leaf(t: Tensor) -> Tensor:
            return t.detach().requires_grad_(t.requires_grad)

        each = [Layer(leaf(x.qkv), x.bias, leaf(x.out), leaf(x.gate_up), leaf(x.down)) for x in self.layers]
        return FoldedWeights(self.embedding, tuple(each), self.norm)


@dataclass(frozen=True)
class FlatModel:
    """A Qwen2 behind an adapter. rotation: (context, heads + 2 · kv heads, head_dim / 2) complex, 1 for the values."""

    causal: Any
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    rotation: Tensor

    @classmethod
    def of(cls, model: PeftModel) -> FlatModel | None:
        """None where the model is of another kind, too large, not in float32 on a CPU, or does not agree with the plain
        way. (On a GPU the calls overlap with the work; nothing was measured there.)"""
        causal: Any = model.get_base_model()
        config = causal.config
        if type(causal) is not Qwen2ForCausalLM or causal.dtype != torch.float32 or causal.device.type != "cpu":
            return None
        if causal.num_parameters() >= FLAT_BELOW or set(config.layer_types) != {"full_attention"}:
            return None
        if any(isinstance(m, LoraLayer) and not isinstance(m, LoraLinear) for m in causal.modules()):
            return None
        heads, kv_heads, rotary = config.num_attention_heads, config.num_key_value_heads, causal.model.rotary_emb
        angles = torch.outer(torch.arange(config.max_position_embeddings, device=causal.device), rotary.inv_freq)
        turn = torch.polar(torch.full_like(angles, rotary.attention_scaling), angles)[:, None]
        turn = turn.expand(-1, heads + kv_heads, -1)
        rotation = torch.cat([turn, torch.ones_like(turn[:, :kv_heads])], 1)
        flat = cls(causal, heads, kv_heads, causal.model.layers[0].self_attn.head_dim, config.rms_norm_eps, rotation)
        return flat if flat._agrees() else None

    def _agrees(self) -> bool:
        """Whether both ways give the same log-probs on a row of tokens; warns where they do not."""
        ids = torch.arange(48, device=self.causal.device) % self.causal.config.vocab_size
        with torch.no_grad():
            plain = self.causal.base_model(input_ids=ids[None], use_cache=False).last_hidden_state[0]
            flat = self.run(self.fold("default"), ids, torch.arange(48, device=ids.device), Within(self, 1, 48))
            flat, plain = (self.causal.lm_head(hidden).log_softmax(-1) for hidden in (flat, plain))
            apart = float((flat - plain).abs().max())
        if apart >= AGREE:
            said = f"The flat forward pass and the plain one differ by {apart:.1e} nats; the plain one is used."
            warnings.warn(said, stacklevel=2)
        return apart < AGREE

    def fold(self, adapter: str | None) -> FoldedWeights:
        """Base + adapter, differentiable in the adapter; the base itself is never changed."""
        layers = []
        for layer in self.causal.model.layers:
            a, m = layer.self_attn, layer.mlp
            q, k, v, out = (_whole(linear, adapter) for linear in (a.q_proj, a.k_proj, a.v_proj, a.o_proj))
            gate, up, down = (_whole(linear, adapter) for linear in (m.gate_proj, m.up_proj, m.down_proj))
            scale = self.head_dim**-0.5  # of the attention, in the queries
            qkv = torch.cat([scale * self._paired(q), self._paired(k), v]) * layer.input_layernorm.weight
            bias = torch.cat([scale * self._paired(a.q_proj.bias), self._paired(a.k_proj.bias), a.v_proj.bias])
            gate_up = torch.cat([gate, up]) * layer.post_attention_layernorm.weight
            layers.append(Layer(qkv, bias, out.t(), gate_up, down.t()))
        return FoldedWeights(self.causal.model.embed_tokens.weight, tuple(layers), self.causal.model.norm.weight)

    def _paired(self, x: Tensor) -> Tensor:
        """(heads · d, …) with the two channels that rotate together beside each other, not half a head apart."""
        return x.unflatten(0, (-1, 2, self.head_dim // 2)).transpose(1, 2).flatten(0, 2)

    def hidden(self, weights: FoldedWeights, batch: Batch) -> Tensor:
        """(N, H): the last hidden state at each position that predicts a completion token."""
        rows, width = batch.input_ids.shape
        at = batch.predicts[0] * width + batch.predicts[1]
        attend = Within(self, rows, width, batch.sees)
        return self.run(weights, batch.input_ids.flatten(), batch.positions.flatten(), attend, at)

    def run(
        self, weights: FoldedWeights, ids: Tensor, positions: Tensor, attend: Attend, at: Tensor | None = None
    ) -> Tensor:
        """(N,) token ids and positions → (N, H), normed; at (M,): only these, to spare the last layer the others."""
        x = F.embedding(ids, weights.embedding)
        rotation = self.rotation[positions]
        for i, layer in enumerate(weights.layers):
            qkv = F.linear(F.rms_norm(x, x.shape[1:], eps=self.eps), layer.qkv, layer.bias)
            turned = torch.view_as_complex(qkv.view(*rotation.shape, 2)) * rotation
            q, kv = torch.view_as_real(turned).view(len(x), -1, self.head_dim).split([self.heads, 2 * self.kv_heads], 1)
            seen = attend(i, q, kv)
            if at is not None and layer is weights.layers[-1]:
                x, seen = x.index_select(0, at), seen.index_select(0, at)
            x = torch.addmm(x, seen, layer.out)
            gate, up = F.linear(F.rms_norm(x, x.shape[1:], eps=self.eps), layer.gate_up).chunk(2, -1)
            x = torch.addmm(x, F.silu(gate) * up, layer.down)
        return F.rms_norm(x, x.shape[1:], weights.norm, self.eps)


Attend = Callable[[int, Tensor, Tensor], Tensor]
"""layer, q (N, heads, d), kv (N, 2 · kv heads, d) → (N, heads · d)."""


def _whole(linear: Any, adapter: str | None) -> Tensor:
    """(out, in): the weight of a linear layer with its adapter, if it has one."""
    if adapter is None or not isinstance(linear, LoraLinear):
        return linear.weight
    a: Any = linear.lora_A[adapter]
    b: Any = linear.lora_B[adapter]
    return torch.addmm(linear.weight, b.weight, a.weight, alpha=linear.scaling[adapter])


class Within:
    """Attention within rows of equal width. sees: (B, width, width) bool, who looks at whom; None: at all before it."""

    def __init__(self, model: FlatModel, rows: int, width: int, sees: Tensor | None = None) -> None:
        if sees is None:
            sees = torch.ones(1, width, width, dtype=torch.bool, device=model.rotation.device).tril()
        self.model, self.shape = model, (rows, width, model.kv_heads, -1, model.head_dim)
        sees = sees.repeat_interleave(model.heads // model.kv_heads, 1)[:, None]
        self.mask = torch.zeros(sees.shape, device=sees.device).masked_fill(~sees, -torch.inf)

    def __call__(self, layer: int, q: Tensor, kv: Tensor) -> Tensor:
        k, v = kv.view(*self.shape[:2], 2, -1, self.shape[-1]).transpose(1, 3).unbind(2)  # (B, kv heads, width, d)
        q = q.reshape(self.shape).transpose(1, 2).flatten(2, 3)  # (B, kv heads, width · sharers, d)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, scale=1.0)
        return seen.unflatten(2, (self.shape[1], -1)).transpose(1, 2).reshape(len(kv), -1)


class FlatDecoder:
    """The running sequences of one batch: their keys and values, and who may see what.

    cache: (layers, 2, R, kv heads, width + new, d), keys before values. bias: (R, 1, 1, width + new), -inf at padding.
    hidden: (R, H), what predicts the first token.
    """

    def __init__(
        self, model: FlatModel, weights: FoldedWeights, prompts: Sequence[tuple[int, ...]], n: int, new: int
    ) -> None:
        """Read P prompts, padded on the left, once each; R = P · n sequences go on from them."""
        self.model, self.weights, width = model, weights, max(map(len, prompts))
        device = model.rotation.device
        ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=device)
        start = torch.tensor([width - len(p) for p in prompts], device=device)[:, None]
        column = torch.arange(width + new, device=device)
        self.bias = torch.zeros(len(prompts), width + new, device=device).masked_fill(column < start, -torch.inf)
        self.bias = self.bias.repeat_interleave(n, 0)[:, None, None]
        shape = len(weights.layers), 2, len(prompts) * n, model.kv_heads, width + new, model.head_dim
        self.cache = torch.empty(shape, device=device)
        self.used, column = width, column[:width]
        # padding sees itself: a row that sees nothing would be NaN
        sees = (column <= column[:, None]) & (column >= start)[:, None] | (column == column[:, None])
        within = Within(model, len(prompts), width, sees)

        def attend(layer: int, q: Tensor, kv: Tensor) -> Tensor:
            once = kv.view(len(prompts), width, 2, -1, model.head_dim).permute(2, 0, 3, 1, 4)
            self.cache[layer, :, :, :, :width].unflatten(1, (-1, n)).copy_(once[:, :, None])
            return within(layer, q, kv)

        last = torch.arange(1, len(prompts) + 1, device=device) * width - 1
        position = (column - start).clamp(min=0).flatten()
        self.hidden = model.run(weights, ids.flatten(), position, attend, last).repeat_interleave(n, 0)
        self.position = (width - 1 - start[:, 0]).repeat_interleave(n)

    def step(self, tokens: Tensor) -> Tensor:
        """(R,) the newest token of each sequence → (R, H)."""
        self.used += 1
        self.position = self.position + 1
        return self.model.run(self.weights, tokens, self.position, self._attend)

    def _attend(self, layer: int, q: Tensor, kv: Tensor) -> Tensor:
        cache = self.cache[layer, :, :, :, : self.used]
        cache[:, :, :, -1] = kv.unflatten(1, (2, -1)).transpose(0, 1)
        # plain products: the fused attention of a CPU takes longer for a single query
        scores = q.unflatten(1, (self.model.kv_heads, -1)) @ cache[0].mT + self.bias[..., : self.used]
        return (scores.softmax(-1) @ cache[1]).flatten(1)

    def keep(self, rows: Tensor) -> None:
        """Row i becomes what rows[i] is; only rows that move are copied."""
        moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
        self.cache[:, :, moved, :, : self.used] = self.cache[:, :, rows[moved], :, : self.used]
        self.cache = self.cache[:, :, : len(rows)]
        self.position, self.bias = self.position[rows], self.bias[rows]
