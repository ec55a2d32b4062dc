"""The processes that share a run: one alone, or those that torchrun started."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Team:
    """Process `rank` of `size`. Alone, every method leaves what it is given as it is."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """The rows of a batch of `count` that fall to this process."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Replaces each tensor by its sum over the processes."""
        if self.size > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def wait(self) -> None:
        """Returns when every process has come here."""
        if self.size > 1:
            dist.barrier()

    def agree(self, tensor: Tensor) -> Tensor:
        """The tensor as the leader has it."""
        if self.size > 1:
            dist.broadcast(tensor, 0)
        return tensor


@contextmanager
def assemble(device: torch.device) -> Iterator[Team]:
    """The team that torchrun's environment describes: NCCL between GPUs, gloo between CPUs; else one alone."""
    if "WORLD_SIZE" not in os.environ or not dist.is_available():
        yield Team()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Team(dist.get_rank(), dist.get_world_size())
        dist.barrier()
    finally:
        dist.destroy_process_group()
