"""Retrieval's figures and scores against scikit-learn's, and against the formula of `data/lexical`."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from tunesmith.data.lexical import K, Lexical, words
from tunesmith.retrieval.bm25 import Bm25
from tunesmith.retrieval.quality import ndcg


@pytest.mark.parametrize("k", [1, 3, 10, 20])
def test_ndcg_is_that_of_scikit_learn(k: int) -> None:
    rng = np.random.default_rng(k)
    for _ in range(200):
        gains = rng.integers(0, 4, size=12).astype(float)
        gains[rng.integers(12)] += 1
        scores = rng.permutation(12).astype(float)
        ranked = [str(i) for i in np.argsort(-scores)]
        held = {str(i): float(gain) for i, gain in enumerate(gains) if gain}
        assert ndcg(ranked, held, k) == pytest.approx(ndcg_score([gains], [scores], k=k), abs=1e-12)


def test_bm25_is_the_formula_but_for_a_factor() -> None:
    rng = np.random.default_rng(0)
    vocabulary = [f"w{i}" for i in range(50)]
    weights = 1 / np.arange(1, 51)
    weights /= weights.sum()
    texts = [" ".join(rng.choice(vocabulary, size=rng.integers(0, 40), p=weights)) for _ in range(300)]
    ours, formula = Bm25.of(texts), Lexical(texts)
    for _ in range(50):
        question = " ".join(rng.choice([*vocabulary, "unknown"], size=6))
        wanted = formula.scores(words(question))
        got = ours.scores(question)
        np.testing.assert_allclose(got * (K + 1), wanted, rtol=2e-5, atol=1e-5)
        ranked = ours.ranking(got, 20)
        assert ranked == sorted(np.flatnonzero(got > 0), key=lambda i: (-got[i], i))[:20]
