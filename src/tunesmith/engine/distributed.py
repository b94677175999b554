"""The processes that train together, as one object; alone, every call is the identity.

Started by `torchrun` or `tunesmith run --nproc N`, which set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT.
Every process reads the same recipe and data. Rank 0 alone writes the run's folder; the others add their shares of a
checkpoint. Knows nothing of models but how to share one out.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.rendezvous import rendezvous
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn import Parameter

from ..core.errors import InterruptedRunError, TunesmithError

T = TypeVar("T")
_PATIENCE = timedelta(days=7)
"""Others wait while rank 0 scores a model; a peer that dies is noticed at once, by its closed connection."""
_SET_PARENT_DEATH_SIGNAL = 1
_BUCKET = 25 * 2**20
"""Bytes of gradients that are exchanged at once."""


class World:
    """Rank and size of this process's group."""

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size = rank, size

    @property
    def main(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def sum(self, values: list[float]) -> list[float]:
        """Element-wise sums over all processes, in float64."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        with peer_loss():
            dist.all_reduce(tensor)
        summed: list[float] = tensor.tolist()
        return summed

    def max(self, value: int) -> int:
        """The largest of all processes' numbers."""
        if self.size == 1:
            return value
        tensor = torch.tensor([value])
        with peer_loss():
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return int(tensor)

    def gather(self, value: T) -> list[T]:
        """Every process's value, by rank, in every process."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with peer_loss():
            dist.all_gather_object(values, value)
        return values

    def share(self, value: T) -> T:
        """Rank 0's value, in every process."""
        return self.gather(value)[0]

    def main_first(self, act: Callable[[], T]) -> T:
        """`act` in rank 0, then in the others; where rank 0 fails, the others raise its error without acting."""
        first = self.together(act if self.main else lambda: None)
        return act() if first is None else first

    def only_main(self, act: Callable[[], T]) -> T | None:
        """`act` in rank 0 while the others wait; they get None."""
        return self.together(act if self.main else lambda: None)

    def from_main(self, act: Callable[[], T]) -> T:
        """What `act` gives in rank 0, in every process; the others wait."""
        return self.share(self.only_main(act))  # type: ignore[return-value]

    def together(self, act: Callable[[], T]) -> T:
        """`act` in every process; where one fails, its error is raised in all of them."""
        result: T | None = None
        error: Exception | None = None
        try:
            result = act()
        except Exception as caught:
            error = caught
        if self.size > 1:
            own = error is not None
            error = error or next((e for e in self.gather(_sendable(error)) if e is not None), None)
            if isinstance(error, TunesmithError):
                error.told = not own
        if error is not None:
            raise error
        return result  # type: ignore[return-value]


ALONE = World()


def _sendable(error: Exception | None) -> Exception | None:
    """An error that can travel: ours and Python's own as they are, another one as its words."""
    if error is None or isinstance(error, TunesmithError) or type(error).__module__ == "builtins":
        return error
    return TunesmithError(f"unexpected: {type(error).__name__}: {error}")


def start() -> World:
    """The world of this process, from torchrun's variables; alone where they are absent."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if (
        sys.platform == "linux" and "TUNESMITH_LAUNCHED" in os.environ
    ):  # a launcher that is killed takes its processes with it
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        if store := _store_of_try():
            dist.init_process_group(
                backend, store=store, rank=int(os.environ["RANK"]), world_size=size, timeout=_PATIENCE
            )
        else:
            dist.init_process_group(backend, timeout=_PATIENCE)
        atexit.register(stop)
    return World(dist.get_rank(), size)


def _store_of_try() -> Store | None:
    """Where the processes that torchrun has started again on one machine meet: not at the addresses of those before,
    which its store still holds. With more machines torchrun makes a new store for each try, and they count their tries
    differently."""
    tries = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if tries == "0" or os.environ.get("LOCAL_WORLD_SIZE") != os.environ["WORLD_SIZE"]:
        return None
    store, _, _ = next(rendezvous("env://", timeout=_PATIENCE))
    return PrefixStore(f"try{tries}", store)


def stop() -> None:
    """Leave the group."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def peer_loss() -> Iterator[None]:
    """What the backends raise when a process of the group has died, as an InterruptedRunError."""
    try:
        yield
    except RuntimeError as error:  # gloo and NCCL have no type of their own for it
        if not (dist.is_initialized() and _tells_of_a_peer(error)):
            raise
        raise InterruptedRunError("another process of this training ended; this one stops", exit_code=75) from error


def _tells_of_a_peer(error: RuntimeError) -> bool:
    text = str(error).lower()
    signs = (
        "gloo",
        "nccl",
        "connection closed by peer",
        "connection reset",
        "broken pipe",
        "timed out",
        "remote process",
    )
    return isinstance(error, dist.DistError) or any(sign in text for sign in signs)


def shard(model: nn.Module, world: World) -> None:
    """FSDP2: each block and the rest of the model share out their weights over the processes, in place."""
    if world.size == 1:
        return
    for block in _blocks(model):
        fully_shard(block)
    fully_shard(model)


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard` was applied."""
    return isinstance(model, FSDPModule)


@contextmanager
def exchanging(model: nn.Module, *, wanted: bool) -> Iterator[None]:
    """Inside the block a backward pass under FSDP exchanges gradients only where `wanted`: once an optimizer step."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(wanted)
    yield


def equalise(model: nn.Module, world: World) -> None:
    """Give every process rank 0's weights, so that what each drew or read for itself cannot differ (DDP)."""
    if world.size == 1 or is_sharded(model):
        return
    with torch.no_grad(), peer_loss():
        for tensor in [*model.parameters(), *model.buffers()]:
            dist.broadcast(tensor.detach(), 0)


def average_gradients(model: nn.Module, parameters: Sequence[Parameter], world: World) -> None:
    """Replace each parameter's gradient by its mean over the processes (DDP; under FSDP the backward pass did it).

    A parameter that had no part in this process's rows, but in another's, counts as zero here.
    """
    if world.size == 1 or is_sharded(model):
        return
    with torch.no_grad(), peer_loss():
        if world.max(int(any(parameter.grad is None for parameter in parameters))):
            _fill_missing(parameters)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for bucket in _buckets(gradients):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            dist.all_reduce(flat)
            flat /= world.size
            for gradient, mean in zip(bucket, torch.split(flat, [g.numel() for g in bucket]), strict=True):
                gradient.copy_(mean.view_as(gradient))


def _fill_missing(parameters: Sequence[Parameter]) -> None:
    """Zeros where another process has a gradient and this one has none."""
    there = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.uint8)
    dist.all_reduce(there, op=dist.ReduceOp.MAX)
    for parameter, wanted in zip(parameters, there.tolist(), strict=True):
        if wanted and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one type and device in groups of about `_BUCKET` bytes: few exchanges, little memory beside them."""
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for group in kinds.values():
        bucket: list[Tensor] = []
        size = 0
        for tensor in group:
            bucket.append(tensor)
            size += tensor.nbytes
            if size >= _BUCKET:
                yield bucket
                bucket, size = [], 0
        if bucket:
            yield bucket


def local(tensor: Tensor) -> Tensor:
    """This process's share of a tensor; the tensor itself where it is not shared out."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The tensor put together again, in every process."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(full: Tensor, pattern: Tensor) -> Tensor:
    """A whole tensor, shared out as `pattern` is; every process holds the whole one, so nothing is sent."""
    if not isinstance(pattern, DTensor) or full.shape != pattern.shape:
        return full
    device = full.to(pattern.device_mesh.device_type)
    return distribute_tensor(device, pattern.device_mesh, pattern.placements, src_data_rank=None)


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The repeated layers: the members of every outermost ModuleList."""
    found: list[nn.Module] = []

    def walk(module: nn.Module) -> None:
        for child in module.children():
            if isinstance(child, nn.ModuleList):
                found.extend(child)
            else:
                walk(child)

    walk(model)
    return found
