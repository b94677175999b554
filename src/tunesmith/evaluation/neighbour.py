"""The copy baseline: answer each test row with the answer of the most similar training row.

Where copying does well, the test can be passed by recall and proves little.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sklearn.feature_extraction.text import TfidfVectorizer

from ..core.messages import Example

MAX_ROWS = 20_000
"""Training rows beyond these are not searched: the baseline must stay cheap."""
_CHUNK = 256
_WORD = re.compile(r"\w")


def copied_answers(train: Sequence[Example], test: Sequence[Example]) -> list[str]:
    """For each test row the answer of the nearest training row (TF-IDF of words and word pairs, cosine)."""
    pool = train[:MAX_ROWS]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")  # noqa: S106  (a word pattern, no password)
    known_texts, asked_texts = ([_prompt_text(e) for e in rows] for rows in (pool, test))
    if not any(_WORD.search(text) for text in known_texts):
        return [pool[0].answer()] * len(test)  # nothing to compare by: every row is as near as any other
    known = vectorizer.fit_transform(known_texts).T.tocsc()
    asked = vectorizer.transform(asked_texts)
    nearest: list[int] = []
    for start in range(0, len(test), _CHUNK):  # a dense table of all pairs would not fit for large files
        nearest += (asked[start : start + _CHUNK] @ known).toarray().argmax(axis=1).tolist()
    return [pool[row].answer() for row in nearest]


def _prompt_text(example: Example) -> str:
    return "\n".join(m.content or "" for m in example.prompt() if m.role == "user")
