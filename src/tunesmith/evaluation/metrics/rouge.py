"""ROUGE through the rouge-score library."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

from ...core.later import later

porter, rouge_scorer = later("nltk.stem.porter"), later("rouge_score.rouge_scorer")

_WORD = re.compile(r"\w+")
_LIBRARY = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}


class _AnyScript:
    """Lower-case words of any script; the library's own tokenizer sees Latin letters only."""

    def __init__(self, stem: bool):
        self._stemmer = porter.PorterStemmer() if stem else None

    def tokenize(self, text: str) -> list[str]:
        """Words in order; stems of those longer than three letters, as the library takes them."""
        words = _WORD.findall(text.lower().replace("_", " "))
        return [self._stemmer.stem(word) if len(word) > 3 else word for word in words] if self._stemmer else words


class Rouge:
    """F-measure of common words (1), of word pairs (2), or of the longest common subsequence of words (l; Lin 2004)."""

    uses_reference = True

    def __init__(self, name: str, *, stem: bool = False) -> None:
        self.name, self._kind, self._stem = name, _LIBRARY[name], stem

    @cached_property
    def _scorer(self) -> Any:
        return rouge_scorer.RougeScorer([self._kind], tokenizer=_AnyScript(self._stem))

    def score(self, prediction: str, reference: str) -> float:
        """In [0, 1]."""
        return float(self._scorer.score(reference, prediction)[self._kind].fmeasure)
