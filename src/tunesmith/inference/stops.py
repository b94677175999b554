"""Where an answer ends."""

from __future__ import annotations

import json
from typing import Any

from ..data.tokenize import end_of_turn_id
from ..models.refs import Base


def stop_ids(model: Any, tokenizer: Any) -> set[int]:
    """Tokens that end an answer: the tokenizer's end of sequence, the model's own list, the template's end of turn."""
    return _stop_ids(getattr(getattr(model, "generation_config", None), "eos_token_id", None), tokenizer)


def stop_ids_of(base: Base, tokenizer: Any) -> set[int]:
    """The same from a base's folder, without its weights."""
    listed = base.config().get("eos_token_id")
    file = base.folder / "generation_config.json"
    if file.is_file():
        listed = json.loads(file.read_text("utf-8")).get("eos_token_id")
    return _stop_ids(listed, tokenizer)


def _stop_ids(listed: Any, tokenizer: Any) -> set[int]:
    ids = {*(listed if isinstance(listed, list) else [listed]), tokenizer.eos_token_id, end_of_turn_id(tokenizer)}
    return {int(i) for i in ids if i is not None}
