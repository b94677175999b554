"""How an answer's tokens are chosen. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. temperature 0 is greedy; top_p keeps the smallest set with that probability."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    min_tokens: int = 0
    presence_penalty: float = 0.0
    """Taken once from the logit of each token that the answer holds already."""
    frequency_penalty: float = 0.0
    """Taken from it as often as the answer holds the token."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of these tokens; -100 bans one in effect, 100 forces it."""

    @property
    def plain(self) -> bool:
        """Whether the model's own logits are chosen from."""
        return not (self.presence_penalty or self.frequency_penalty or self.logit_bias)
