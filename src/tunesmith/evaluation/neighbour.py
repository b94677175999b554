"""The training rows most like a test row: what copying them would score, and what a wrong answer may come from.

Where copying does well, the test can be passed by recall and proves little. Where an answer is wrong, the nearest rows
say what the model had to go by: none that is near, or some that contradict each other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.later import later
from ..core.messages import Example

features = later("sklearn.feature_extraction.text")

MAX_ROWS = 20_000
"""Training rows beyond these are not searched: it must stay cheap."""
NEAR = 0.3
"""Cosine below which a row is not called near."""
ALIKE = 0.8
"""Cosine from which two prompts ask nearly the same."""
_CHUNK = 256
_WORD = re.compile(r"\w")


@dataclass(frozen=True)
class Near:
    """A training row by its place, and how like its prompt is: cosine of TF-IDF, 0 to 1."""

    place: int
    similarity: float


class Neighbours:
    """The training rows, ready to be searched by their prompts (TF-IDF of words and word pairs, cosine)."""

    def __init__(self, train: Sequence[Example]):
        self.rows = train[:MAX_ROWS]
        texts = [_prompt_text(example) for example in self.rows]
        self._known: Any = None
        if any(_WORD.search(text) for text in texts):
            words = r"(?u)\b\w+\b"
            self._vectorizer = features.TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=words)
            self._known = self._vectorizer.fit_transform(texts)

    def of(self, test: Sequence[Example], count: int = 1) -> list[list[Near]]:
        """For each test row the nearest training rows, the nearest first. Where no training prompt has a word every row
        is as near as any other: the first ones, with a similarity of 0."""
        count = min(count, len(self.rows))
        if self._known is None:
            return [[Near(place, 0.0) for place in range(count)] for _ in test]
        asked, known = self._vectorizer.transform([_prompt_text(example) for example in test]), self._known.T.tocsc()
        found: list[list[Near]] = []
        for start in range(0, len(test), _CHUNK):  # a dense table of all pairs would not fit for large files
            similar = (asked[start : start + _CHUNK] @ known).toarray()
            places = np.argsort(-similar, axis=1, kind="stable")[:, :count]
            for row, nearest in zip(similar, places.tolist(), strict=True):
                found.append([Near(place, float(row[place])) for place in nearest])
        return found

    def contradicting(self, near: Sequence[Near]) -> list[int]:
        """Places of those whose prompts are nearly the same and whose answers differ."""
        places = [one.place for one in near]
        if self._known is None or len(places) < 2:
            return []
        alike = (self._known[places] @ self._known[places].T).toarray() >= ALIKE
        said = [self.rows[place].answer().strip() for place in places]
        differing = np.array([[a != b for b in said] for a in said])
        return [place for place, odd in zip(places, (alike & differing).any(axis=1), strict=True) if odd]


def copied_answers(train: Sequence[Example], test: Sequence[Example]) -> list[str]:
    """For each test row the answer of the nearest training row."""
    neighbours = Neighbours(train)
    return [neighbours.rows[nearest[0].place].answer() for nearest in neighbours.of(test)]


def recalled(
    train: Sequence[Example], test: Sequence[Example], said: Sequence[str], among: int = 3
) -> NDArray[np.bool_]:
    """Whether each answer is, word for word, that of one of the `among` nearest training rows: what a model has learned
    of such questions."""
    neighbours = Neighbours(train)
    own = [
        {neighbours.rows[one.place].answer().strip() for one in nearest if one.similarity >= NEAR}
        for nearest in neighbours.of(test, among)
    ]
    return np.array([text.strip() in answers for text, answers in zip(said, own, strict=True)], dtype=np.bool_)


def _prompt_text(example: Example) -> str:
    return "\n".join(m.content or "" for m in example.prompt() if m.role == "user")
