"""What the machine must do at the least: the products of a model, at the rate it reaches in plain products of the same
shapes, and the keys and values it must read, at the rate of a sum over as many bytes."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from hdpo.model.policy import Policy
from hdpo.work.bench import matrix_rate, weights_of

ROWS = 128  # of a decoding step with 16 × 8 sequences


def bandwidth(size: int = 1 << 25) -> float:
    """Bytes read a second by a sum over a tensor of `size` bytes, the best of several; 32 MB, as a batch's cache."""
    x, took = torch.zeros(size // 4), []
    for _ in range(10):
        began = time.perf_counter()
        x.sum()
        took.append(time.perf_counter() - began)
    return size / min(took)


def decoding(policy: Policy, sequences: Sequence[tuple[int, int]], shared: int) -> float:
    """Seconds for sequences of (prompt, completion) tokens; each prompt read once for `shared` of them."""
    c = policy.causal.config
    heads = c.num_key_value_heads * policy.causal.model.layers[0].self_attn.head_dim
    operations = 2.0 * weights_of(policy) * sum(p / shared + t for p, t in sequences)
    read = sum(
        2.0 * policy.causal.dtype.itemsize * heads * c.num_hidden_layers * (p + i)
        for p, t in sequences
        for i in range(t)
    )
    return operations / matrix_rate(policy, ROWS) + read / bandwidth()


def training(policy: Policy, tokens: float) -> float:
    """Seconds for so many tokens forward and backward: 4 operations a frozen weight, 6 one of the adapter."""
    adapter = sum(p.numel() for p in policy.trainable)
    operations = (4.0 * weights_of(policy) + 6.0 * adapter) * tokens
    return operations / matrix_rate(policy)
