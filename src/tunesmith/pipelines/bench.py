"""The workbench of a run: base model, adapter and tokenizer together, and what is asked of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..adapters.base import Adapter
from ..adapters.headed import Headed
from ..core.errors import MissingError
from ..data.template import PLAIN_TEMPLATE
from ..data.tokenize import end_of_turn_id
from ..engine import memory, precision
from ..inference.stops import stop_ids
from ..models import load
from ..models.fast import hasten
from ..models.find import find
from ..models.pooling import head_name, padding_to_name
from ..models.refs import Base
from ..models.tokenizer import tokenizer as load_tokenizer
from .recipe import RunSpec
from .rundir import RunDir


@dataclass
class Bench:
    """A base model with an adapter attached. `number_type` is bf16 or fp32."""

    base: Base
    model: Any
    adapter: Adapter
    tokenizer: Any
    number_type: str
    stop_ids: set[int]
    virtual_tokens: int = 0
    """Places of the base's context that the adapter takes."""

    @property
    def context(self) -> int | None:
        """The longest sequence in tokens that base and adapter take together; None where nothing binds them."""
        whole = self.base.context
        return whole - self.virtual_tokens if whole else None

    @contextmanager
    def as_base(self) -> Iterator[None]:
        """Inside the block the model answers as the base."""
        with self.adapter.disabled():
            yield

    def weights_mb(self, *, base: bool) -> float:
        """MiB of the weights as they are held; of the `base` without what its adapter adds."""
        held = sum(map(_bytes, [*self.model.parameters(), *self.model.buffers()]))
        return (held - (sum(map(_bytes, self.adapter.parameters().values())) if base else 0)) / 2**20

    @property
    def pad_id(self) -> int:
        """The padding token."""
        return int(self.tokenizer.pad_token_id)


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def build(spec: RunSpec, base: Base, tokenizer: Any) -> Bench:
    """Load the base, with the head that the method asks for, and attach a fresh adapter, seeded."""
    memory.keep_large_blocks()
    number_type = precision.choose(spec.training.precision)
    # Weights that are trained stay float32 and bf16 computes with them; beside a frozen base, bf16 loses nothing.
    weights = torch.float32 if spec.adapter.trains_base else precision.DTYPES[number_type]
    adapter: Adapter = spec.adapter.build()  # before the base is read: what is not installed is told at once
    torch.manual_seed(spec.seed)
    model: Any = load.model(base, weights, spec.method.head)
    torch.manual_seed(spec.seed)
    if spec.method.head:
        ends = (tokenizer.eos_token_id, end_of_turn_id(tokenizer))
        model.config.get_text_config().pad_token_id = padding_to_name(int(tokenizer.pad_token_id), ends)
        adapter = Headed(adapter, str(head_name(model)))
    hasten(model)
    adapter.attach(model)
    taken = spec.adapter.virtual_tokens()
    return Bench(base, model, adapter, tokenizer, number_type, stop_ids(model, tokenizer), taken)


def open_run(run: RunDir, spec: RunSpec | None = None) -> Bench:
    """The trained model of a run, under its own recipe or `spec`; MissingError before its training is finished."""
    spec = spec or run.recipe()
    base = find(spec.base)
    bench = build(spec, base, load_tokenizer(base, PLAIN_TEMPLATE, run.date()))
    folder = run.path / bench.adapter.folder_name
    if not folder.is_dir():
        raise MissingError(
            f"{run.path} holds no trained model yet",
            mend="finish it: tunesmith run RECIPE --out DIR --resume",
        )
    bench.adapter.load(folder)
    bench.model.eval()
    return bench


def open_base(run: RunDir, spec: RunSpec) -> Bench:
    """The base of a run by itself, for runs whose training left no base to switch back to."""
    base = find(spec.base)
    return build(spec, base, load_tokenizer(base, PLAIN_TEMPLATE, run.date()))


def save(bench: Bench, run: RunDir) -> Path:
    """Write `adapter/` or `model/`, with the tokenizer and its chat template, in one rename."""

    def fill(folder: Path) -> None:
        bench.adapter.save(folder, bench.base.name)
        bench.tokenizer.save_pretrained(folder)

    return run.write_folder(bench.adapter.folder_name, fill)
