"""What a fresh base looks like. Loads no torch."""

from __future__ import annotations

import math

from pydantic import Field, model_validator

from ...core.spec import Spec

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
"""Start and end of a document, start and end of a turn, padding; their ids are 0 to 3."""
START, END_OF_TURN, PAD = SPECIAL_TOKENS[0], SPECIAL_TOKENS[2], SPECIAL_TOKENS[3]
BYTES = 256
LEAST_VOCABULARY = len(SPECIAL_TOKENS) + BYTES


def learning_rate(parameters: int) -> float:
    """A peak rate for AdamW, and for Muon scaled to it, on a fresh model with so many weights beside its tables.

    Kaplan et al. 2020, arXiv 2001.08361, equation D.1; above a thousand million weights, where it falls too low, 1e-4.
    """
    return max(1e-4, float(f"{0.003239 - 0.0001395 * math.log(max(parameters, 1)):.1e}"))


class ScratchSpec(Spec):
    """A Llama with a byte-level BPE tokenizer of its own. The defaults are the bundled base's shape: 8 M parameters."""

    vocabulary: int = Field(default=8192, ge=LEAST_VOCABULARY)
    """Entries of the tokenizer: 4 special tokens, 256 bytes, and what the text's commonest pieces make."""
    layers: int = Field(default=8, ge=1)
    """Transformer blocks."""
    hidden: int = Field(default=256, ge=2)
    """Width."""
    heads: int = Field(default=4, ge=1)
    """Attention heads; the width is shared out among them."""
    key_value_heads: int = Field(default=2, ge=1)
    """Heads of keys and values, shared by the others evenly (Ainslie et al. 2023, arXiv 2305.13245)."""
    intermediate: int = Field(default=704, ge=1)
    """Width of the feed-forward layers."""
    context: int = Field(default=1024, ge=8)
    """Longest sequence in tokens."""
    rope_theta: float = Field(default=10000.0, gt=1)
    """Base of the rotary positions' wave lengths."""
    tie_embeddings: bool = True
    """One table for the embeddings and the vocabulary head: right for small models."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of the random weights."""

    @model_validator(mode="after")
    def _divides(self) -> ScratchSpec:
        if self.hidden % self.heads:
            raise ValueError(
                f"hidden {self.hidden} cannot be shared out among {self.heads} heads: "
                f"take {max(1, round(self.hidden / self.heads)) * self.heads}, or other heads"
            )
        if self.head_width % 2:
            raise ValueError(
                f"heads of width {self.head_width} cannot be turned in pairs (rotary positions): "
                "hidden / heads must be even"
            )
        if self.heads % self.key_value_heads:
            raise ValueError(f"{self.heads} heads cannot share {self.key_value_heads} key_value_heads evenly")
        return self

    @property
    def head_width(self) -> int:
        """Of each attention head."""
        return self.hidden // self.heads

    @property
    def parameters(self) -> int:
        """Weights of the model, tied ones once."""
        attention = 2 * self.hidden * self.hidden + 2 * self.hidden * self.key_value_heads * self.head_width
        block = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        tables = self.vocabulary * self.hidden * (1 if self.tie_embeddings else 2)
        return tables + self.layers * block + self.hidden
