"""Texts to vectors by an encoder of sentences: the mean of its last hidden states, or that of its first token.

Which of them, and how many tokens it takes, its folder says in the layout of sentence-transformers (Reimers and
Gurevych 2019, arXiv 1908.10084, section 3: mean pooling); without such files the mean, and all that its config allows.
Nothing of that library is loaded.

Shapes: N texts, B of a batch, L tokens, D width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from ..core.errors import ContentError
from .load import device
from .refs import Base
from .tokenizer import clear_errors

_BATCH = 32
_KNOWN = ("Transformer", "Pooling", "Normalize")
_LONGEST = 512
"""Tokens of a text, where the folder does not tell."""


class Encoder:
    """A model folder as an embedder of texts; ContentError for one that does more than to pool."""

    def __init__(self, base: Base):
        self._first = _takes_first(base)
        self._longest = min(_told(base, "sentence_bert_config.json").get("max_seq_length") or _LONGEST,
                            base.context or _LONGEST)  # fmt: skip
        with clear_errors(base, "tokenizer"):
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                base.folder, trust_remote_code=False, local_files_only=True
            )
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token or self._tokenizer.unk_token
        with clear_errors(base, "weights"):
            self._model: Any = AutoModel.from_pretrained(
                base.folder, dtype=torch.float32, trust_remote_code=False, local_files_only=True
            )
        self._model.eval().to(device())
        how = f"{'first' if self._first else 'mean'} of {self._longest}"
        self.name = f"encoder {base.fingerprint()} {base.tokenizer_fingerprint()} {how}"
        self.size = int(self._model.config.hidden_size)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [N, D] of length 1, or 0 of a text without tokens; of a longer text the first tokens alone."""
        found = np.zeros((len(texts), self.size), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for start in range(0, len(order), _BATCH):
            places = order[start : start + _BATCH]
            found[places] = self._batch([texts[place] for place in places])
        return found

    def _batch(self, texts: list[str]) -> NDArray[np.float32]:
        inputs = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self._longest, return_tensors="pt"
        ).to(device())  # fmt: skip
        if not inputs["input_ids"].shape[1]:
            return np.zeros((len(texts), self.size), dtype=np.float32)
        with torch.inference_mode():
            hidden_BLD = self._model(**inputs).last_hidden_state.float()
        if self._first:
            pooled_BD = hidden_BLD[:, 0]
        else:
            mask_BL1 = inputs["attention_mask"].unsqueeze(-1).float()
            pooled_BD = hidden_BLD.masked_fill(mask_BL1 == 0, 0).sum(1) / mask_BL1.sum(1).clamp(min=1)
        vectors: NDArray[np.float32] = F.normalize(pooled_BD, dim=-1).cpu().numpy()
        return vectors


def _takes_first(base: Base) -> bool:
    """Whether the first token stands for the text."""
    modules: Any = _told(base, "modules.json")
    for kind in (str(module.get("type")).rpartition(".")[2] for module in modules or ()):
        if kind not in _KNOWN:
            raise ContentError(
                f"'{base.name}' is an encoder with a layer of its own: {kind}", where=str(base.folder / "modules.json"),
                mend="use one that pools alone, such as all-MiniLM-L6-v2",
            )  # fmt: skip
    pooling = _told(base, "1_Pooling/config.json")
    first, mean = pooling.get("pooling_mode_cls_token"), pooling.get("pooling_mode_mean_tokens", True)
    if bool(first) == bool(mean):
        raise ContentError(
            f"'{base.name}' pools neither by mean nor by its first token",
            where=str(base.folder / "1_Pooling/config.json"), mend="use an encoder that does",
        )  # fmt: skip
    return bool(first)


def _told(base: Base, name: str) -> Any:
    """A file of the folder as JSON; an empty object where it is not there."""
    try:
        return json.loads((base.folder / name).read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ContentError(f"cannot read {base.folder / name}", why=str(error)) from error
