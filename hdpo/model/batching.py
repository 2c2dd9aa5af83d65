"""The one place of padding, the causal shift, and the alignment of teacher to student tokens.

A trace is a prompt and its completion. Traces are padded on the right for scoring: under causal attention what
stands right of a token cannot touch it, so no mask is needed, and `tests/model/test_batching.py` holds the left-padded
sampler against it. Where the model allows it, completions of one prompt share a row as a tree: the prompt stands once,
so does every beginning that completions have in common, and a token sees its own ancestors alone. What is computed is
then one value an *edge* (a prefix and the token after it), not one a token. Completion tokens are numbered trace after
trace: the same completions behind other prompts (the teacher's) give the same order, and that is the whole alignment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
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
    """Rows of tokens, padded right, and what is read off them, for E edges and the N completion tokens that pass them.

    input_ids, positions (B, L) long. predicts: two (E,) long, row and column of the token that predicts each edge.
    targets_E (E,) long, the edge's token. edges_N, rows_N (N,) long: the edge of each completion token, and the trace it
    belongs to. first_E (E,) long: the first of the completion tokens that pass an edge. sees (B, L, L) bool, who attends
    to whom; None where no row is shared: then every token sees all before it, and an edge is a token.
    """

    input_ids: torch.Tensor
    positions: torch.Tensor
    predicts: tuple[torch.Tensor, torch.Tensor]
    targets_E: torch.Tensor
    edges_N: torch.Tensor
    rows_N: torch.Tensor
    first_E: torch.Tensor
    sees: torch.Tensor | None


class Tree:
    """One row: a prompt and the completions behind it. parents: the column that each fed token follows."""

    def __init__(self, prompt: Sequence[int]) -> None:
        self.tokens, self.parents = [*prompt], [*range(-1, len(prompt) - 1)]
        self.columns: dict[int, list[int]] = {}  # trace → the column that predicts each of its tokens
        self._root, self._child = len(prompt) - 1, dict[tuple[int, int], int]()

    def adds(self, completion: Sequence[int]) -> int:
        """How many tokens it would have to feed. The last of a completion predicts nothing and is not fed."""
        at = self._root
        for fed, t in enumerate(completion[:-1]):
            if (at, t) not in self._child:
                return len(completion) - 1 - fed
            at = self._child[at, t]
        return 0

    def add(self, trace: int, completion: Sequence[int]) -> None:
        """Feed what it does not share.

        >>> tree = Tree((5, 6))
        >>> tree.add(0, (7, 8, 2)), tree.adds((7, 9, 2)), tree.add(1, (7, 9, 2))
        (None, 1, None)
        >>> tree.tokens, tree.parents, tree.columns
        ([5, 6, 7, 8, 9], [-1, 0, 1, 2, 2], {0: [1, 2, 3], 1: [1, 2, 4]})
        """
        self.columns[trace] = columns = [self._root]
        for t in completion[:-1]:
            here = columns[-1], t
            if here not in self._child:
                self._child[here] = len(self.tokens)
                self.tokens.append(t)
                self.parents.append(columns[-1])
            columns.append(self._child[here])

    def depths(self) -> list[int]:
        """The position of each fed token."""
        found: list[int] = []
        for parent in self.parents:
            found.append(found[parent] + 1 if parent >= 0 else 0)
        return found

    def sees(self) -> np.ndarray:
        """(L, L) bool: itself and its ancestors."""
        found = np.eye(len(self.tokens), dtype=bool)
        for i, parent in enumerate(self.parents[1:], start=1):
            found[i] |= found[parent]
        return found


def shared_rows(traces: Sequence[Trace], width: int) -> list[Tree]:
    """Traces with the same prompt in one row, in their order, while it stays within `width` tokens; 0: a row each.

    >>> rows = shared_rows([Trace((5, 6), (7, 2)), Trace((5,), (9, 2)), Trace((5, 6), (8, 8, 2))], 5)
    >>> [[*tree.columns] for tree in rows], len(shared_rows([Trace((5,), (7,))] * 2, 0))
    ([[0, 2], [1]], 2)
    """
    rows: list[Tree] = []
    open_row: dict[tuple[int, ...], Tree] = {}
    for i, t in enumerate(traces):
        row = open_row.get(t.prompt_ids)
        if row is None or len(row.tokens) + row.adds(t.completion_ids) > width:
            row = open_row[t.prompt_ids] = Tree(t.prompt_ids)
            rows.append(row)
        row.add(i, t.completion_ids)
    return rows


def collate(traces: Sequence[Trace], pad_id: int, device: torch.device, width: int = 0) -> Batch:
    """Pad, shift, and mark what predicts what. width: as for `shared_rows`.

    >>> b = collate([Trace((5, 6), (7, 8)), Trace((5,), (9,))], 0, torch.device("cpu"))
    >>> b.input_ids.tolist(), [x.tolist() for x in b.predicts], b.targets_E.tolist()
    ([[5, 6, 7], [5, 0, 0]], [[0, 0, 1], [1, 2, 0]], [7, 8, 9])
    >>> b = collate([Trace((5, 6), (7, 8, 2)), Trace((5, 6), (7, 9, 2))], 0, torch.device("cpu"), width=6)
    >>> b.input_ids.tolist(), b.positions.tolist(), [x.tolist() for x in b.predicts]
    ([[5, 6, 7, 8, 9]], [[0, 1, 2, 3, 3]], [[0, 0, 0, 0, 0], [1, 2, 3, 2, 4]])
    >>> b.targets_E.tolist(), b.edges_N.tolist(), b.first_E.tolist()
    ([7, 8, 2, 9, 2], [0, 1, 2, 0, 3, 4], [0, 1, 2, 4, 5])
    """
    rows = shared_rows(traces, width)
    edges: dict[tuple[int, int, int], int] = {}  # row, column and token → the number of the edge
    at, first = list[int](), list[int]()
    for r, i in sorted(((r, i) for r, row in enumerate(rows) for i in row.columns), key=lambda x: x[1]):
        for edge in zip(repeat(r), rows[r].columns[i], traces[i].completion_ids, strict=False):
            if edges.setdefault(edge, len(edges)) == len(first):
                first.append(len(at))
            at.append(edges[edge])
    longest = max(len(row.tokens) for row in rows)

    def padded(x: list[list[int]], pad: int) -> torch.Tensor:
        return torch.tensor([row + [pad] * (longest - len(row)) for row in x], device=device)

    sees = None
    if width:
        each = np.stack([np.pad(s := row.sees(), (0, longest - len(s))) for row in rows])
        sees = torch.from_numpy(each | np.eye(longest, dtype=bool)).to(device)  # a row that sees nothing would be NaN
    in_rows, in_columns, targets = torch.tensor([*edges], device=device).T
    return Batch(
        padded([row.tokens for row in rows], pad_id),
        padded([row.depths() for row in rows], 0),
        (in_rows, in_columns),
        targets,
        torch.tensor(at, device=device),
        torch.tensor([i for i, t in enumerate(traces) for _ in t.completion_ids], device=device),
        torch.tensor(first, device=device),
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
    for chosen in micro_batches([len(row.tokens) for row in rows], tokens):
        part = sorted(i for r in chosen for i in rows[r].columns)
        again = shared_rows([traces[i] for i in part], width)
        padded = len(again) * max(len(row.tokens) for row in again)
        found += [part] if len(chosen) == 1 or padded <= tokens else [[*rows[r].columns] for r in chosen]
    return found
