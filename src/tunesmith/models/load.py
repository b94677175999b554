"""Read a base model through transformers."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM
from transformers.utils import logging as transformers_logging

from .refs import Base
from .targets import is_encoder_decoder, start_id
from .tokenizer import clear_errors

transformers_logging.disable_progress_bar()
# bitsandbytes, which peft imports where it is there, tells of a kernel that nobody here asks for.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def model(base: Base, dtype: torch.dtype) -> torch.nn.Module:
    """The base in evaluation mode, on the CPU or the GPU when there is one.

    A causal language model, or the encoder-decoder that its config says it is. Whatever config.json settles holds in
    training too: soft caps, sliding windows, dropout, and for a mixture of experts the router's loss (set
    `"output_router_logits": true` there to train with it; most published configs leave it off).
    """
    with clear_errors(base, "weights"):
        loaded = from_folder(base.folder, dtype)
    if is_encoder_decoder(loaded):
        start_id(loaded)  # a base without one is refused here rather than in the first step
    loaded.eval()
    moved: torch.nn.Module = loaded.to(device())
    return moved


def from_folder(folder: Path, dtype: torch.dtype) -> torch.nn.Module:
    """A model folder in the Hugging Face layout, by the class that fits its config."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    loaded: torch.nn.Module = kind.from_pretrained(folder, dtype=dtype, trust_remote_code=False, local_files_only=True)
    return loaded


def device() -> torch.device:
    """The GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
