"""Token F1, as in SQuAD."""

from __future__ import annotations

import re
import string
from collections import Counter

from .base import f1

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


class TokenF1:
    """F1 between the words of answer and reference, after SQuAD's normalisation (Rajpurkar et al. 2016)."""

    name = "token_f1"
    uses_reference = True

    def score(self, prediction: str, reference: str) -> float:
        """In [0, 1]."""
        return f1(Counter(_words(prediction)), Counter(_words(reference)))


def _words(text: str) -> list[str]:
    """Lower case, without punctuation and English articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()
