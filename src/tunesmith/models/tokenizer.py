"""Read a base's tokenizer through transformers, and clear words when a base cannot be read. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import AutoTokenizer

from ..core import clock
from ..core.errors import ContentError
from .dated import dated
from .plain_chat import quicken
from .refs import Base


def tokenizer(base: Base, plain_template: str, date: str | None = None) -> Any:
    """The base's tokenizer, with a padding token and a chat template in any case.

    `plain_template` is used where the tokenizer brings none. A template that shows the date shows `date` (YYYY-MM-DD),
    or the day on which it is loaded, and never another (see `dated`).
    """
    with clear_errors(base, "tokenizer"):
        loaded = AutoTokenizer.from_pretrained(base.folder, trust_remote_code=False, local_files_only=True)
    if loaded.pad_token_id is None:
        loaded.pad_token = loaded.eos_token or loaded.unk_token
    if not loaded.chat_template:
        loaded.chat_template = plain_template
    _hold_date(loaded, date or clock.today())
    quicken(loaded)
    return loaded


def _hold_date(loaded: Any, date: str) -> None:
    """One template or several by name, without the clock."""
    template = loaded.chat_template
    named = template if isinstance(template, dict) else {"default": template}
    fixed = {name: dated(text, date) for name, text in named.items()}
    loaded.chat_template = fixed if isinstance(template, dict) else fixed["default"]


@contextmanager
def clear_errors(base: Base, part: str) -> Iterator[None]:
    """Turn whatever transformers raises inside the block into one ContentError about `part` of the base."""
    try:
        yield
    except Exception as error:  # transformers raises many kinds; the person needs one sentence
        raise ContentError(
            f"cannot load the {part} of base '{base.name}'", where=str(base.folder),
            why=(str(error).strip().splitlines() or [type(error).__name__])[0],
            mend="check that the folder is a complete language model in the Hugging Face layout",
        ) from error  # fmt: skip
