"""Distributed training: the group of processes that share a run, one alone or those started by torchrun."""

import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from training.errors import ConfigError


@dataclass(frozen=True)
class ProcessGroup:
    """Process `rank` of `size`. With one process, every method returns its argument unchanged."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def shard(self, count: int) -> slice:
        """The rows of a batch of `count` that this process computes."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def all_reduce(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over the processes."""
        if self.size > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def barrier(self) -> None:
        """Wait until every process has arrived here."""
        if self.size > 1:
            dist.barrier()

    def broadcast(self, tensor: Tensor) -> Tensor:
        """The tensor of the main process."""
        if self.size > 1:
            dist.broadcast(tensor, 0)
        return tensor


@contextmanager
def process_group(device: torch.device) -> Generator[ProcessGroup]:
    """The group that torchrun's environment describes: NCCL between GPUs, gloo between CPUs; else one process."""
    if "WORLD_SIZE" not in os.environ or not dist.is_available():
        yield ProcessGroup()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield ProcessGroup(dist.get_rank(), dist.get_world_size())
        dist.barrier()
    finally:
        dist.destroy_process_group()


def pick_device(name: str) -> torch.device:
    """The device that the settings name; `auto` is CUDA where available. Each process of a machine gets its own GPU.

    Raises:
        ConfigError: `cuda` without a CUDA device.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda expected, no CUDA device found: use --device cpu, or a CUDA build of PyTorch")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
