"""Several GPUs of one host as one: each rank is a process with a GPU, posters and noise of its own,
and trains on its part of every batch. `torchrun --nproc-per-node N train.py …` starts the ranks;
without it there is one.

All ranks have the same weights because they start from the same ones and apply the mean gradient.
"""

import os
from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import nn


class Ranks:
    """This process among `count` processes, of which it is number `rank`."""

    def __init__(self):
        self.rank = int(os.environ.get("RANK", 0))
        self.count = int(os.environ.get("WORLD_SIZE", 1))
        if torch.cuda.is_available():
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            torch.cuda.set_device(self.device)
        else:
            self.device = torch.device("cpu")
        if self.count > 1:
            # Tensors of the host travel by gloo, those of a GPU by NCCL.
            gpu = self.device.type == "cuda"
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if gpu else "gloo", device_id=self.device if gpu else None
            )

    @property
    def first(self) -> bool:
        """Whether this rank writes the files and the log."""
        return self.rank == 0

    def part(self, batch: int) -> int:
        """This rank's part of a batch."""
        return max(batch // self.count, 1)

    def agree(self, values: Sequence[float]) -> list[float]:
        """The first rank's values, on every rank."""
        if self.count == 1:
            return list(values)
        told = torch.tensor(values, dtype=torch.float64)
        dist.broadcast(told, 0)
        return told.tolist()

    @torch.no_grad()
    def align(self, modules: Iterable[nn.Module]) -> None:
        """Gives all ranks the first one's weights."""
        if self.count > 1:
            for module in modules:
                for parameter in module.parameters():
                    dist.broadcast(parameter, 0)

    def mean(self, values: torch.Tensor) -> None:
        """Replaces a tensor by its mean over the ranks."""
        if self.count > 1:
            dist.all_reduce(values)
            values.div_(self.count)

    def close(self) -> None:
        """Ends the connection with the other ranks, on all of them at once. The first one still
        writes files when the others are done, and has been seen not to end after they had left."""
        if self.count > 1:
            self.agree([0.0])  # the others wait here for the first one
            dist.destroy_process_group()


class Gradient:
    """The gradient of all `parameters` in one tensor, which is fast to average over the ranks and
    stays at one place, so that recorded steps may write and read it."""

    def __init__(self, parameters: Sequence[nn.Parameter], device: torch.device):
        self.parameters = parameters
        self.values = torch.zeros(sum(p.numel() for p in parameters), device=device)
        parts = self.values.split([p.numel() for p in parameters])
        self.views = [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]

    @torch.no_grad()
    def take(self) -> None:
        """Moves the parameters' gradients here."""
        torch._foreach_copy_(self.views, [p.grad for p in self.parameters])
        for parameter in self.parameters:
            parameter.grad = None

    def give(self) -> None:
        """Makes this the parameters' gradient."""
        for parameter, view in zip(self.parameters, self.views, strict=True):
            parameter.grad = view
