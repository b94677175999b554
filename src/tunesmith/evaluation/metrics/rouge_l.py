"""ROUGE-L through the rouge-score library."""

from __future__ import annotations

from rouge_score.rouge_scorer import RougeScorer


class RougeL:
    """F-measure of the longest common subsequence of words (Lin 2004), without stemming."""

    name = "rouge_l"
    uses_reference = True

    def __init__(self) -> None:
        self._scorer = RougeScorer(["rougeL"], use_stemmer=False)

    def score(self, prediction: str, reference: str) -> float:
        """In [0, 1]."""
        return float(self._scorer.score(reference, prediction)["rougeL"].fmeasure)
