"""Read a base model through transformers."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from .refs import Base
from .tokenizer import clear_errors

transformers_logging.disable_progress_bar()


def model(base: Base, dtype: torch.dtype) -> torch.nn.Module:
    """The base as a causal language model in evaluation mode, on the CPU or the GPU when there is one."""
    with clear_errors(base, "weights"):
        loaded = AutoModelForCausalLM.from_pretrained(
            base.folder, dtype=dtype, trust_remote_code=False, local_files_only=True
        )
    loaded.eval()
    moved: torch.nn.Module = loaded.to(device())
    return moved


def device() -> torch.device:
    """The GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
