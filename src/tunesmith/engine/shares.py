"""Tensors of several processes in files: each writes its share, reading puts them together again.

A tensor that FSDP shares out lies along its first dimension in the files of all ranks, in their order; any other lies
whole in the file of rank 0. The number of files may differ from the number of processes that read them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from .distributed import World, local


def file_name(kind: str, rank: int) -> str:
    """`trainable.safetensors` of rank 0, `trainable.1.safetensors` of rank 1, ..."""
    return f"{kind}.{rank}.safetensors" if rank else f"{kind}.safetensors"


def write(folder: Path, kind: str, tensors: Mapping[str, Tensor], world: World) -> Path | None:
    """Write what of `tensors` is this process's to keep; None where nothing is."""
    mine = {name: local(value) for name, value in tensors.items() if world.main or isinstance(value, DTensor)}
    if not mine and not world.main:
        return None
    path = folder / file_name(kind, world.rank)
    save_file({name: value.detach().cpu().contiguous() for name, value in mine.items()}, path)
    return path


def write_own(folder: Path, kind: str, tensors: Mapping[str, Tensor], world: World) -> Path:
    """Write tensors that every process has for itself."""
    path = folder / file_name(kind, world.rank)
    save_file(dict(tensors), path)
    return path


class SharedTensors(Mapping[str, Tensor]):
    """The tensors of a kind in a checkpoint's folder, read one at a time when they are asked for."""

    def __init__(self, folder: Path, kind: str):
        self._files = [safe_open(path, "pt") for path in _paths(folder, kind)]
        self._owners: dict[str, list[Any]] = {}
        for file in self._files:
            for name in file.keys():  # type: ignore[no-untyped-call]  # noqa: SIM118 - no dict
                self._owners.setdefault(name, []).append(file)

    def __getitem__(self, name: str) -> Tensor:
        pieces: Sequence[Tensor] = [file.get_tensor(name) for file in self._owners[name]]
        return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces))

    def __iter__(self) -> Iterator[str]:
        return iter(self._owners)

    def __len__(self) -> int:
        return len(self._owners)


def _paths(folder: Path, kind: str) -> list[Path]:
    ranked = sorted(int(path.name.split(".")[1]) for path in folder.glob(f"{kind}.[0-9]*.safetensors"))
    return [folder / file_name(kind, rank) for rank in (0, *ranked)]
