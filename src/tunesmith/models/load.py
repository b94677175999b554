"""Read a base model and its tokenizer through transformers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from ..core.errors import ContentError
from .refs import Base

transformers_logging.disable_progress_bar()


def tokenizer(base: Base, plain_template: str) -> Any:
    """The base's tokenizer, with a padding token and a chat template in any case.

    `plain_template` is used where the tokenizer brings none.
    """
    with _clear_errors(base, "tokenizer"):
        loaded = AutoTokenizer.from_pretrained(base.folder, trust_remote_code=False, local_files_only=True)
    if loaded.pad_token_id is None:
        loaded.pad_token = loaded.eos_token or loaded.unk_token
    if not loaded.chat_template:
        loaded.chat_template = plain_template
    return loaded


def model(base: Base, dtype: torch.dtype) -> torch.nn.Module:
    """The base as a causal language model in evaluation mode, on the CPU or the GPU when there is one."""
    with _clear_errors(base, "weights"):
        loaded = AutoModelForCausalLM.from_pretrained(
            base.folder, dtype=dtype, trust_remote_code=False, local_files_only=True
        )
    loaded.eval()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    moved: torch.nn.Module = loaded.to(device)
    return moved


@contextmanager
def _clear_errors(base: Base, part: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # transformers raises many kinds; the person needs one sentence
        raise ContentError(
            f"cannot load the {part} of base '{base.name}'", where=str(base.folder),
            why=(str(error).strip().splitlines() or [type(error).__name__])[0],
            mend="check that the folder is a complete causal language model in the Hugging Face layout",
        ) from error  # fmt: skip
