"""Read a base model through transformers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)
from transformers.utils import logging as transformers_logging

from ..core.errors import ContentError
from .heads import Head
from .pooling import head_name
from .refs import Base
from .targets import is_encoder_decoder, start_id
from .tokenizer import clear_errors

transformers_logging.disable_progress_bar()
# bitsandbytes, which peft imports where it is there, tells of a kernel that nobody here asks for.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def model(base: Base, dtype: torch.dtype, head: Head | None = None) -> torch.nn.Module:
    """The base in evaluation mode, on the CPU or the GPU when there is one.

    Without `head` a causal language model, or the encoder-decoder that its config says it is. Whatever config.json
    settles holds in training too: soft caps, sliding windows, dropout, and for a mixture of experts the router's loss
    (set `"output_router_logits": true` there to train with it; most published configs leave it off). With `head` the
    class that transformers has for sequence classification in this family, without a router's loss; see `_headed`.
    """
    if head:
        _require_headable(base)
    with clear_errors(base, "weights"):
        loaded = _headed(base.folder, dtype, head) if head else from_folder(base.folder, dtype)
    if is_encoder_decoder(loaded):
        start_id(loaded)  # a base without one is refused here rather than in the first step
    loaded.eval()
    moved: torch.nn.Module = loaded.to(device())
    return moved


def config(base: Base) -> Any:
    """What the base's config.json says, with what it leaves out filled in."""
    with clear_errors(base, "config"):
        return AutoConfig.from_pretrained(base.folder, trust_remote_code=False, local_files_only=True)


def from_folder(folder: Path, dtype: torch.dtype, *, headed: bool = False) -> torch.nn.Module:
    """A model folder in the Hugging Face layout, by the class that fits its config; `headed` where it was saved with
    another head than the vocabulary's."""
    told = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    kind: Any = AutoModelForSeq2SeqLM if told.is_encoder_decoder else AutoModelForCausalLM
    kind = AutoModelForSequenceClassification if headed else kind
    loaded: torch.nn.Module = kind.from_pretrained(folder, dtype=dtype, trust_remote_code=False, local_files_only=True)
    return loaded


def _require_headable(base: Base) -> None:
    with clear_errors(base, "weights"):
        config = AutoConfig.from_pretrained(base.folder, trust_remote_code=False, local_files_only=True)
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ContentError(
            f"base '{base.name}' cannot have another head than its vocabulary's", where=str(base.folder),
            why=f"transformers has no sequence classification for models of type '{config.model_type}'",
            mend="use a base of another family: Llama, Qwen, Mistral, Gemma, Phi, GPT-2, OLMo 2, T5, BART, ...",
        )  # fmt: skip


def _headed(folder: Path, dtype: torch.dtype, head: Head) -> torch.nn.Module:
    """The base's body with a head of float32 weights. One that the base has no weights for gives 0 for every label, so
    that an untrained model prefers nothing; what lies before its last layer (T5, BART) is drawn from torch's seed."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    config.id2label = head.id2label
    config.label2id = {label: number for number, label in head.id2label.items()}
    with _quiet():  # that the head is new and the vocabulary's is left out is what was asked for
        loaded, told = AutoModelForSequenceClassification.from_pretrained(
            folder, config=config, dtype=dtype, trust_remote_code=False, local_files_only=True,
            output_loading_info=True,
        )  # fmt: skip
    name = str(head_name(loaded))
    layer = loaded.get_submodule(name)
    if any(key.startswith(f"{name}.") for key in told["missing_keys"]):
        last = layer if isinstance(layer, nn.Linear) else layer.out_proj
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
    layer.float()
    made: torch.nn.Module = loaded
    return made


@contextmanager
def _quiet() -> Iterator[None]:
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


def device() -> torch.device:
    """The GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
