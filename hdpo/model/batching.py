"""The one place of padding, the causal shift, and the alignment of teacher to student tokens.

A trace is a prompt and its completion. Traces are padded on the right for scoring: under causal attention what
stands right of a token cannot touch it, so no mask is needed, and `tests/test_batching.py` holds the left-padded
sampler against it. Where the model allows it, completions of one prompt share a row, in which the prompt stands once
and no completion sees another. Completion positions are laid flat, trace after trace, token after token: the same
completions behind other prompts (the teacher's) give the same flat order, and that is the whole alignment.
"""

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
    """Rows of tokens, padded right, and what is read off them.

    input_ids, positions (B, L) long. predicts: two (N,) long, row and column of the token that predicts each completion
    token. targets_N (N,) long, the completion tokens; rows_N (N,) long, the trace each belongs to. sees (B, L, L) bool,
    who attends to whom; None where no row is shared: every token sees all before it.
    """

    input_ids: torch.Tensor
    positions: torch.Tensor
    predicts: tuple[torch.Tensor, torch.Tensor]
    targets_N: torch.Tensor
    rows_N: torch.Tensor
    sees: torch.Tensor | None


def shared_rows(traces: Sequence[Trace], width: int) -> list[list[int]]:
    """Which traces lie in one row: those with the same prompt, in their order, while it stays within `width` tokens.

    >>> shared_rows([Trace((5, 6), (7,)), Trace((5,), (9,)), Trace((5, 6), (8, 8))], 5), shared_rows([Trace((5,), (7,))] * 2, 0)
    ([[0, 2], [1]], [[0], [1]])
    """
    rows: list[list[int]] = []
    open_row: dict[tuple[int, ...], tuple[list[int], int]] = {}
    for i, t in enumerate(traces):
        row, used = open_row.get(t.prompt_ids, ([], 0))
        if not row or used + len(t.completion_ids) > width:
            row, used = [], len(t.prompt_ids)
            rows.append(row)
        row.append(i)
        open_row[t.prompt_ids] = row, used + len(t.completion_ids)
    return rows


def collate(traces: Sequence[Trace], pad_id: int, device: torch.device, width: int = 0) -> Batch:
    """Pad, shift, and mark what predicts what. The last token of a sequence predicts nothing and is not fed.

    width: as for `shared_rows`; with 0 every trace has a row of its own.

    >>> b = collate([Trace((5, 6), (7, 8)), Trace((5,), (9,))], 0, torch.device("cpu"))
    >>> b.input_ids.tolist(), [x.tolist() for x in b.predicts], b.targets_N.tolist()
    ([[5, 6, 7], [5, 0, 0]], [[0, 0, 1], [1, 2, 0]], [7, 8, 9])
    >>> b = collate([Trace((5, 6), (7, 8)), Trace((5, 6), (9, 8))], 0, torch.device("cpu"), width=6)
    >>> b.input_ids.tolist(), b.positions.tolist(), [x.tolist() for x in b.predicts]
    ([[5, 6, 7, 9]], [[0, 1, 2, 2]], [[0, 0, 0, 0], [1, 2, 1, 3]])
    """
    rows = shared_rows(traces, width)
    fed: list[list[int]] = []  # a row each, as are the next two; segment 0 is the prompt, then the completions from 1
    positions: list[list[int]] = []
    segments: list[list[int]] = []
    predicting: dict[int, list[tuple[int, int]]] = {}  # trace → row and column of what predicts each completion token
    for r, row in enumerate(rows):
        prompt = traces[row[0]].prompt_ids
        fed.append([*prompt])
        positions.append([*range(len(prompt))])
        segments.append([0] * len(prompt))
        for s, i in enumerate(row, start=1):
            body, first = traces[i].completion_ids[:-1], len(fed[r])
            predicting[i] = [(r, len(prompt) - 1), *((r, first + t) for t in range(len(body)))]
            fed[r] += body
            positions[r] += range(len(prompt), len(prompt) + len(body))
            segments[r] += [s] * len(body)
    longest = max(map(len, fed))

    def padded(x: list[list[int]], pad: int) -> torch.Tensor:
        return torch.tensor([row + [pad] * (longest - len(row)) for row in x], device=device)

    sees = None
    if len(rows) < len(traces):
        of = padded(segments, -1)
        sees = (of[:, None] == 0) | (of[:, None] == of[:, :, None])
        sees &= torch.ones(longest, longest, dtype=torch.bool, device=device).tril()
    in_rows, in_columns = torch.tensor([at for i in range(len(traces)) for at in predicting[i]], device=device).T
    return Batch(
        padded(fed, pad_id),
        padded(positions, 0),
        (in_rows, in_columns),
        torch.tensor([c for t in traces for c in t.completion_ids], device=device),
        torch.tensor([i for i, t in enumerate(traces) for _ in t.completion_ids], device=device),
        sees,
    )


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


def parts(traces: Sequence[Trace], tokens: int, width: int = 0) -> list[list[int]]:
    """Micro-batches of traces, `tokens` padded tokens each at most once `collate` has laid them out with this width.

    In each the traces keep their order. Without the rows between them two rows of one prompt may be laid out anew, and
    wider: where that breaks the budget, each row is a micro-batch of its own.
    """
    rows = shared_rows(traces, width)
    found = []
    for chosen in micro_batches([_tokens(traces, row) for row in rows], tokens):
        part = sorted(i for r in chosen for i in rows[r])
        again = shared_rows([traces[i] for i in part], width)
        padded = len(again) * max(_tokens([traces[i] for i in part], row) for row in again)
        found += [part] if len(chosen) == 1 or padded <= tokens else [rows[r] for r in chosen]
    return found


def _tokens(traces: Sequence[Trace], row: Sequence[int]) -> int:
    return len(traces[row[0]].prompt_ids) + sum(len(traces[i].completion_ids) for i in row)
