"""Where an answer ends."""

from __future__ import annotations

from typing import Any

from ..data.tokenize import end_of_turn_id


def stop_ids(model: Any, tokenizer: Any) -> set[int]:
    """Tokens that end an answer: the tokenizer's end of sequence, the model's own list, the template's end of turn."""
    listed = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = {*(listed if isinstance(listed, list) else [listed]), tokenizer.eos_token_id, end_of_turn_id(tokenizer)}
    return {int(i) for i in ids if i is not None}
