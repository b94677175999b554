"""The copy baseline: answer each test row with the answer of the most similar training row.

Where copying does well, the test can be passed by recall and proves little.
"""

from __future__ import annotations

from collections.abc import Sequence

from sklearn.feature_extraction.text import TfidfVectorizer

from ..core.messages import Example

MAX_ROWS = 20_000
"""Training rows beyond these are not searched: the baseline must stay cheap."""


def copied_answers(train: Sequence[Example], test: Sequence[Example]) -> list[str]:
    """For each test row the answer of the nearest training row (TF-IDF of words and word pairs, cosine)."""
    pool = train[:MAX_ROWS]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")  # noqa: S106  (a word pattern, no password)
    known = vectorizer.fit_transform([_prompt_text(e) for e in pool])
    similarity = vectorizer.transform([_prompt_text(e) for e in test]) @ known.T
    return [pool[int(row)].answer() for row in similarity.toarray().argmax(axis=1)]


def _prompt_text(example: Example) -> str:
    return "\n".join(m.content or "" for m in example.prompt() if m.role == "user")
