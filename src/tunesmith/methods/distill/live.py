"""A teacher in memory: frozen, in the run's number type."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ...engine import precision
from ...engine.objective import TorchBatch
from ...models import load
from ...models.head import labelled
from .teacher import Teacher


def open_teacher(teacher: Teacher, number_type: str) -> Any:
    """The model in evaluation mode; ContentError where it cannot be read."""
    model: Any = load.model(teacher.base, precision.DTYPES[number_type])
    if teacher.adapter_folder is not None:
        adapter = teacher.adapter.build()
        adapter.attach(model)
        adapter.load(teacher.adapter_folder)
    model.requires_grad_(False)
    return model.eval()


@contextmanager
def opened(teacher: Teacher, number_type: str) -> Iterator[Any]:
    """A teacher that is in memory inside the block alone, for as long as nobody else keeps it."""
    held = [open_teacher(teacher, number_type)]
    try:
        with torch.no_grad(), precision.context(number_type, held[0]):
            yield held[0]
    finally:
        held.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def vocabulary(config: Any) -> int:
    """How many tokens a model tells of, by its config: the tokenizer's, and what its tables hold beyond."""
    return int(config.get_text_config().vocab_size)


def shared_vocabulary(model: Any, teacher: Teacher) -> int:
    """How many tokens student and teacher both tell of; does not load the teacher."""
    return min(vocabulary(model.config), vocabulary(load.config(teacher.base)))


def teacher_logits(model: Any, batch: TorchBatch, words: int) -> Tensor:
    """The teacher's logits [N, words] of the first `words` tokens at the batch's labels, in float32."""
    with torch.no_grad():
        said = labelled(model, batch.input_ids_BL, batch.attention_mask_BL, batch.loss_weight_BL)
    return said.said.logits()[:, :words].float()
