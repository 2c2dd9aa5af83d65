"""The one place of padding, the causal shift, and the alignment of teacher to student tokens.

A sequence is a prompt and its completion. Sequences are padded on the right for scoring: under causal attention what
stands right of a token cannot touch it, so no mask is needed, and `tests/test_batching.py` holds the left-padded
sampler against it. Completion positions are laid flat, row after row, token after token: the same completions behind
other prompts (the teacher's) give the same flat order, and that is the whole alignment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Trace:
    """One sequence to score: prompt_ids and completion_ids, the completion with its end token if it has one."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)


@dataclass(frozen=True)
class Batch:
    """input_ids (B, L) long, padded right. predicts (B, L) bool, True where a position predicts a completion token.
    targets_N (N,) long, the completion tokens; rows_N (N,) long, the sequence each belongs to."""

    input_ids: torch.Tensor
    predicts: torch.Tensor
    targets_N: torch.Tensor
    rows_N: torch.Tensor


def collate(traces: Sequence[Trace], pad_id: int, device: torch.device) -> Batch:
    """Pad, shift, and mark what predicts what. The last token of a sequence predicts nothing and is not fed.

    >>> b = collate([Trace((5, 6), (7, 8)), Trace((5,), (9,))], 0, torch.device("cpu"))
    >>> b.input_ids.tolist(), b.predicts.tolist(), b.targets_N.tolist()
    ([[5, 6, 7], [5, 0, 0]], [[False, True, True], [True, False, False]], [7, 8, 9])
    """
    width = max(len(t) for t in traces) - 1
    ids = torch.full((len(traces), width), pad_id)
    predicts = torch.zeros((len(traces), width), dtype=torch.bool)
    for i, t in enumerate(traces):
        fed = (*t.prompt_ids, *t.completion_ids)[:-1]
        ids[i, : len(fed)] = torch.tensor(fed)
        predicts[i, len(t.prompt_ids) - 1 : len(fed)] = True
    targets = torch.tensor([c for t in traces for c in t.completion_ids])
    rows = torch.tensor([i for i, t in enumerate(traces) for _ in t.completion_ids])
    return Batch(ids.to(device), predicts.to(device), targets.to(device), rows.to(device))


def micro_batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Indices in groups of like length, each at most `tokens` padded tokens (a longer sequence stands alone).

    >>> micro_batches([3, 9, 4, 10], 20)
    [[0, 2], [1, 3]]
    """
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        # sorted ascending, so the newcomer is the longest of its group
        if groups and (len(groups[-1]) + 1) * lengths[i] <= tokens:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups
