"""Texts to vectors by the mean of a base's token embeddings: its table alone, none of its layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer

from .load import from_folder
from .refs import Base
from .tokenizer import clear_errors


class MeanOfTokens:
    """An embedder of texts. The table's own mean is taken off first, for all tokens share it and it says nothing.

    Mu and Viswanath 2018, arXiv 1702.01417, algorithm 1, without its second step.
    """

    def __init__(self, base: Base):
        with clear_errors(base, "tokenizer"):
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                base.folder, trust_remote_code=False, local_files_only=True
            )
        with clear_errors(base, "weights"):
            model: Any = from_folder(base.folder, torch.float32)
        table_VD: NDArray[np.float32] = model.get_input_embeddings().weight.detach().numpy()
        self._table_VD = table_VD - table_VD.mean(axis=0)
        self.name = f"tokens {base.fingerprint()} {base.tokenizer_fingerprint()}"
        self.size = int(table_VD.shape[1])

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [N, D] of length 1; 0 for a text without tokens."""
        found = np.zeros((len(texts), self.size), dtype=np.float32)
        for place, text in enumerate(texts):
            ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
            if ids:
                mean_D = self._table_VD[ids].mean(axis=0)
                found[place] = mean_D / max(float(np.linalg.norm(mean_D)), 1e-12)
        return found
