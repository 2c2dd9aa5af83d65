"""Several processes, one run: which of them this is, and the few things that they do together.

Every rank holds the same adapter and takes every decision itself, from the same facts; so whatever decides is global.
Shared out are two things: problems while sampling and grading (`share`, then `gather`), and rollouts in the backward
passes (`share`, then `add`). Only rank 0 writes. Nothing here imports torch until there is a second rank.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from hdpo.errors import HdpoError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process, counted from 0, and how many there are. With one of them every method is the identity."""

    index: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes, speaks and decides when to stop."""
        return self.index == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Every `count`-th item, from this rank's own on.

        >>> Ranks(1, 2).share("abcde")
        'bd'
        """
        return items[self.index :: self.count]

    def gather(self, own: Sequence[T]) -> list[T]:
        """What all ranks made of their shares, in the order of the items that were shared."""
        if self.count == 1:
            return list(own)
        from accelerate.utils import gather_object

        parts: list[list[T]] = gather_object([list(own)])
        return [parts[i % self.count][i // self.count] for i in range(sum(map(len, parts)))]

    def add(self, tensors: Sequence[Any]) -> None:
        """Put the sum over all ranks into the tensors, which are of one dtype and device, in one exchange."""
        if self.count == 1:
            return
        import torch
        from accelerate.utils import reduce

        total = reduce(torch.cat([t.reshape(-1) for t in tensors]), reduction="sum")
        for t, summed in zip(tensors, total.split([t.numel() for t in tensors]), strict=True):
            t.copy_(summed.view_as(t))

    def agree(self, value: T) -> T:
        """Rank 0's value, on every rank. All of them must come here."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]


ALONE = Ranks()


def launched() -> bool:
    """Whether a launcher (accelerate, torchrun, SLURM through either) started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1


def join(device: str = "auto") -> Ranks:
    """This process among those that a launcher started, or ALONE. Waits until all have come; raises HdpoError where
    they do not find together. On GPUs each rank takes the device of its local number and they talk over NCCL, on the
    CPU over gloo. Rank 0 may wait long for the machine's turn, and a rank that dies is the launcher's to notice: so
    nobody gives up waiting."""
    if not launched():
        return ALONE
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available(), timeout=timedelta(days=7))
    if state.num_processes != int(os.environ["WORLD_SIZE"]):
        found = f"expected {os.environ['WORLD_SIZE']} that find together, found {state.num_processes}"
        raise HdpoError(f"processes: {found}. Are the launcher's addresses and ports right?")
    return Ranks(state.process_index, state.num_processes)
