"""What the flat pass takes: which models are of the Llama family, asked of their modules and not of their names, and
their layers as a few large matrices.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from torch import Tensor

FIXED_ROTATIONS = ("default", "linear", "llama3", "yarn")  # those that do not change with the length
LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}


@dataclass(frozen=True)
class Projection:
    """y = x Wᵀ + b, and with an adapter beside it + (x Aᵀ) Bᵀ. Several that read the same x are one, below each other.

    weight (out, in), bias (out,), a (r, in), b (out, r).
    """

    weight: Tensor
    bias: Tensor | None = None
    a: Tensor | None = None
    b: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight, self.bias)
        if self.a is None or self.b is None:
            return y
        return y + F.linear(F.linear(x, self.a.to(x.dtype)), self.b.to(x.dtype))


@dataclass(frozen=True)
class Layer:
    """One decoder layer. before, after (H,): its norms' scales; heads (heads + kv heads, head_dim): those of queries and
    keys, where it has them."""

    before: Tensor
    qkv: Projection
    heads: Tensor | None
    out: Projection
    after: Tensor
    gate_up: Projection
    down: Projection

    @property
    def projections(self) -> tuple[Projection, ...]:
        return self.qkv, self.out, self.gate_up, self.down

    def holding(self, projections: Iterable[Projection]) -> "Layer":
        """The same layer with these in place of its own."""
        qkv, out, gate_up, down = projections
        return replace(self, qkv=qkv, out=out, gate_up=gate_up, down=down)


def unlike(causal: Any) -> str:
    """What of this model the flat pass does not know; empty where it knows all of it."""
    config, decoder = causal.config, getattr(causal, "model", causal)
    layers = getattr(decoder, "layers", ())
    if not layers or {n for n, _ in decoder.named_children()} != {"embed_tokens", "layers", "norm", "rotary_emb"}:
        return "it is not of the Llama family"
    for layer in layers:
        of = {n: {c for c, _ in m.named_children()} for n, m in layer.named_children()}
        if set(of) != LAYER or of["mlp"] != MLP or of["self_attn"] - {"q_norm", "k_norm"} != ATTENTION:
            return "its layers hold more than those of the Llama family"
        if not isinstance(layer.mlp.act_fn, torch.nn.SiLU) and type(layer.mlp.act_fn).__name__ != "SiLUActivation":
            return f"its activation is {config.hidden_act}"
        every = (m for group in linears_of(layer) for m in group)
        if not all(type(m) is torch.nn.Linear or type(m) is LoraLinear for m in every):
            return "its linear layers are of another kind"
    if any(isinstance(m, LoraLayer) and type(m) is not LoraLinear for m in causal.modules()):
        return "its adapter is of another kind"
    if set(getattr(config, "layer_types", None) or ["full_attention"]) != {"full_attention"}:
        return "its attention has a window"
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return "its attention has a window"
    kind = (config.rope_parameters or {}).get("rope_type")
    return "" if kind in FIXED_ROTATIONS else f"its positions are of the kind {kind}"


def linears_of(layer: Any) -> tuple[tuple[Any, ...], ...]:
    """The linear layers that make each projection, in their order."""
    a, m = layer.self_attn, layer.mlp
    return (a.q_proj, a.k_proj, a.v_proj), (a.o_proj,), (m.gate_proj, m.up_proj), (m.down_proj,)


def joined_layer(layer: Any, head_dim: int) -> Layer:
    """The modules' own weights become parts of the larger ones: nothing is held twice but queries, keys and values."""

    def joined(tensors: Sequence[Any]) -> Tensor:
        if len(tensors) == 3:  # queries, keys and values
            tensors = [paired(tensors[0], head_dim), paired(tensors[1], head_dim), tensors[2]]
        return torch.cat(tuple(tensors)) if len(tensors) > 1 else tensors[0].detach()

    each = []
    for linears in linears_of(layer):
        plain: list[Any] = [getattr(m, "base_layer", m) for m in linears]
        weight = joined([m.weight for m in plain])
        if len(plain) == 2:
            for m, part in zip(plain, weight.chunk(2), strict=True):
                m.weight.data = part
        each.append(Projection(weight, None if plain[0].bias is None else joined([m.bias for m in plain])))
    a, heads = layer.self_attn, None
    if hasattr(a, "q_norm"):
        of = (a.q_norm, a.q_proj), (a.k_norm, a.k_proj)
        scales: list[Tensor] = [paired(norm.weight, head_dim).expand(p.out_features // head_dim, -1) for norm, p in of]
        heads = torch.cat(scales)
    return Layer(
        layer.input_layernorm.weight, each[0], heads, each[1], layer.post_attention_layernorm.weight, *each[2:]
    )


def paired(x: Tensor, head_dim: int) -> Tensor:
    """(heads · d, …) with the two channels that rotate together beside each other, not half a head apart."""
    return x.unflatten(0, (-1, 2, head_dim // 2)).transpose(1, 2).flatten(0, 2)


def beside(linears: Sequence[Any], adapter: str, head_dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(r, in) and (out, r), with its scale: the adapters of some linear layers as one of their common projection."""
    a, b = list[Any](), list[Any]()
    for i, m in enumerate(linears):
        if isinstance(m, LoraLinear) and adapter in m.lora_A:
            a.append(m.lora_A[adapter].weight)
            of = m.scaling[adapter] * m.lora_B[adapter].weight
            b.append(paired(of, head_dim) if len(linears) == 3 and i < 2 else of)
        else:
            a.append(m.weight.new_zeros(0, m.in_features))
            b.append(m.weight.new_zeros(m.out_features, 0))
    down, up = torch.cat(a), torch.block_diag(*b)
    # to be trained they stay in float32, and are cast in each call
    return (down, up) if torch.is_grad_enabled() else (down.to(dtype), up.to(dtype))
