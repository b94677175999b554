"""ROUGE-L through the rouge-score library."""

from __future__ import annotations

import re

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer

_WORD = re.compile(r"\w+")


class _AnyScript(Tokenizer):  # type: ignore[misc]  # the library has no types
    """Lower-case words of any script; the library's own tokenizer sees Latin letters only."""

    def tokenize(self, text: str) -> list[str]:
        """Words in order."""
        return _WORD.findall(text.lower().replace("_", " "))


class RougeL:
    """F-measure of the longest common subsequence of words (Lin 2004), without stemming."""

    name = "rouge_l"
    uses_reference = True

    def __init__(self) -> None:
        self._scorer = RougeScorer(["rougeL"], tokenizer=_AnyScript())

    def score(self, prediction: str, reference: str) -> float:
        """In [0, 1]."""
        return float(self._scorer.score(reference, prediction)["rougeL"].fmeasure)
