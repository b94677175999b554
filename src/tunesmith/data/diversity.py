"""What a set is about: clusters of its prompts, its labels, and the most typical and the most odd rows.

A seeded sample of at most SAMPLE prompts is kept, so cost and memory do not grow with the rows. Texts become tf-idf
vectors of words and pairs of words that are in two rows or more, English function words with less weight; k-means
runs on their first DIMENSIONS singular directions (Deerwester et al. 1990, by the randomized projections of Halko et
al. 2011). How near a row is to a cluster is measured on the full vectors, the row itself left out, so that no row is
typical of a cluster that it makes by itself. Shapes in names: N rows, F words, D directions, C clusters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.events import Sink, silent, stage
from ..core.later import later
from .audit import Finding
from .excerpt import excerpt
from .labels import LONGEST_LABEL, MOST_LABELS
from .look import Row
from .pii import find as by_shape
from .pii.mask import Find

cluster, decomposition, features, preprocessing = (
    later(f"sklearn.{name}") for name in ("cluster", "decomposition", "feature_extraction.text", "preprocessing")
)

SAMPLE, CHARACTERS = 20_000, 400
DIMENSIONS, MOST_CLUSTERS, ROWS_A_CLUSTER, FEWEST_ROWS = 64, 50, 20, 20
SHOWN, TELLING = 20, 4
MOST_FEATURES = 50_000
FUNCTION_WORDS = 0.3
"""The weight of English function words: they say how is asked ("where is"), and little of what."""
LABELS_KEPT, LABELS_SHOWN = 10_000, 100
SEED = 0
Sparse = Any
"""A scipy.sparse matrix in rows (CSR) of float32."""
_WORD = r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\d_\u3040-\u30ff\u3400-\u9fff]{2,}"
"""A word; where words are written without spaces, a character."""


@dataclass(frozen=True)
class Labels:
    """Answers that are labels: how many rows have which, the most frequent LABELS_SHOWN of `different` ones."""

    different: int
    counts: dict[str, int]
    entropy: float
    """In bits; log2(different) where all are equally frequent."""
    largest_share: float


@dataclass(frozen=True)
class Cluster:
    """Prompts that share words; `size` counts the sampled ones."""

    name: str
    """Its most telling words."""
    size: int
    share: float


@dataclass(frozen=True)
class Shown:
    """One row, and how near it is to its cluster's centre: the cosine of their tf-idf vectors, 0 to 1."""

    origin: str
    excerpt: str
    """The beginning of its prompt, personal data masked."""
    cluster: str
    nearness: float


@dataclass(frozen=True)
class Diversity:
    """The `diversity` of `data-audit.json`; clusters by size, typical rows the nearest first, odd ones the farthest."""

    rows: int
    sampled: int
    clusters: tuple[Cluster, ...]
    typical: tuple[Shown, ...]
    odd: tuple[Shown, ...]
    labels: Labels | None

    def as_json(self) -> dict[str, Any]:
        """Plain objects and lists."""
        return asdict(self)


class DiversityLook:
    """Draws the sample and counts the labels; `result` says what they show. It has no findings."""

    def __init__(self, find: Find = by_shape) -> None:
        """`find` says what is masked in the rows that are shown."""
        self._find = find
        self._random = Random(SEED)  # noqa: S311  a sample, no secret
        self._rows = 0
        self._sample: list[tuple[str, str]] = []
        self._labels: Counter[str] = Counter()

    def see(self, portion: Sequence[Row]) -> None:
        """Keep each row so far with the same chance (Vitter 1985, algorithm R); count its answer if it is short."""
        for row in portion:
            self._rows += 1
            place = len(self._sample) if len(self._sample) < SAMPLE else self._random.randrange(self._rows)
            if place < SAMPLE:
                self._sample[place : place + 1] = [(row.origin, row.prompt[:CHARACTERS])]
            label = row.answer.strip()
            known = label in self._labels or len(self._labels) < LABELS_KEPT
            if known and 0 < len(label) <= LONGEST_LABEL and "\n" not in label and label[0] not in "{[":
                self._labels[label] += 1

    def findings(self) -> Iterator[Finding]:
        """None: nothing here is wrong or right."""
        yield from ()

    def told(self, sink: Sink = silent) -> dict[str, Any]:
        """The result as plain values; the sink hears that it is being made."""
        with stage(sink, "diversity"):
            return self.result().as_json()

    def result(self) -> Diversity:
        """Cluster the sample."""
        origins, texts = [origin for origin, _ in self._sample], [text for _, text in self._sample]
        clusters, typical, odd = _clustered(origins, texts, self._find)
        return Diversity(self._rows, len(texts), clusters, typical, odd, self._label_coverage())

    def _label_coverage(self) -> Labels | None:
        """None where answers are not labels: as `quality.label_counts` says, but without a look at all at once."""
        total, different = self._labels.total(), len(self._labels)
        if total < 0.95 * self._rows or not 2 <= different <= max(2, MOST_LABELS * self._rows):
            return None
        shares = np.array(list(self._labels.values())) / total
        entropy = float(-(shares * np.log2(shares)).sum())
        counts = dict(self._labels.most_common(LABELS_SHOWN))
        return Labels(different, counts, round(entropy, 3), round(float(shares.max()), 4))


def _clustered(
    origins: Sequence[str], texts: Sequence[str], find: Find
) -> tuple[tuple[Cluster, ...], tuple[Shown, ...], tuple[Shown, ...]]:
    """Clusters by size, typical rows, odd rows; nothing where there are too few rows or no word is in two of them."""
    if len(texts) < FEWEST_ROWS or not (vectors := _vectors(texts)):
        return (), (), ()
    x_NF, words = vectors
    members = _k_means(x_NF)
    near_N, nearest = _nearness(x_NF, members)
    size = np.bincount(members)
    names = [_name(x_NF, members == cluster, words) for cluster in range(len(size))]

    def shown(index: int) -> Shown:
        return Shown(
            origins[index], excerpt(texts[index], find=find), names[nearest[index]], round(float(near_N[index]), 3)
        )

    by_size = np.argsort(-size, kind="stable").tolist()
    clusters = tuple(Cluster(names[c], int(size[c]), round(float(size[c] / len(texts)), 4)) for c in by_size)
    typical = tuple(shown(i) for i in _typical(near_N, members, by_size, texts))
    farthest = (i for i in np.argsort(near_N, kind="stable").tolist() if texts[i].strip())
    return clusters, typical, tuple(map(shown, islice(_different(farthest, texts), SHOWN)))


def _different(rows: Iterable[int], texts: Sequence[str]) -> Iterator[int]:
    """Each text once: one that is repeated fills no list."""
    known: set[str] = set()
    for row in rows:
        text = " ".join(texts[row].casefold().split())
        if text not in known:
            yield row
        known.add(text)


def _vectors(texts: Sequence[str]) -> tuple[Sparse, NDArray[np.object_]] | None:
    """tf-idf of words and pairs of words, each row of length 1; and the words, "" in the place of function words."""
    made = features.TfidfVectorizer(
        token_pattern=_WORD, ngram_range=(1, 2), min_df=2, max_df=0.5, max_features=MOST_FEATURES, sublinear_tf=True,
        dtype=np.float32,
    )  # fmt: skip
    try:
        x_NF = made.fit_transform(texts)
    except ValueError:  # no word is left
        return None
    words = made.get_feature_names_out()
    telling = np.array([not features.ENGLISH_STOP_WORDS.issuperset(word.split()) for word in words])
    weights = np.where(telling, 1, FUNCTION_WORDS).astype(np.float32)
    return preprocessing.normalize(x_NF.multiply(weights).tocsr()), np.where(telling, words, "")


def _k_means(x_NF: Sparse) -> NDArray[np.int32]:
    """The cluster of each row, numbered without gaps."""
    rows, features = x_NF.shape
    dimensions = min(DIMENSIONS, rows - 1, features - 1)
    x_ND = (
        decomposition.TruncatedSVD(dimensions, n_iter=2, random_state=SEED).fit_transform(x_NF)
        if dimensions
        else x_NF.toarray()
    )
    x_ND /= np.maximum(np.linalg.norm(x_ND, axis=1, keepdims=True), 1e-6)
    wanted = int(np.clip(rows // ROWS_A_CLUSTER, 1, MOST_CLUSTERS))
    wanted = min(wanted, len(np.unique(x_ND.round(4), axis=0)))
    found = cluster.KMeans(wanted, n_init=1, max_iter=50, random_state=SEED).fit_predict(x_ND)
    return np.unique(found, return_inverse=True)[1].astype(np.int32)


def _nearness(x_NF: Sparse, members: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Cosine of each row to the nearest cluster's centre, itself left out of its own; and which cluster that is."""
    sums_CF = np.vstack([np.asarray(x_NF[members == c].sum(axis=0)).ravel() for c in range(int(members.max()) + 1)])
    squares_C = (sums_CF**2).sum(axis=1)
    dots_NC = np.asarray(x_NF @ sums_CF.T)
    cosine_NC = dots_NC / np.sqrt(np.maximum(squares_C, 1e-12))
    own = np.arange(len(members)), members
    length = np.asarray(x_NF.multiply(x_NF).sum(axis=1)).ravel()  # 1, or 0 for a row without a known word
    without = np.sqrt(np.maximum(squares_C[members] - 2 * dots_NC[own] + length, 0))
    cosine_NC[own] = np.where(without > 1e-3, (dots_NC[own] - length) / np.maximum(without, 1e-3), 0)
    return cosine_NC.max(axis=1), cosine_NC.argmax(axis=1)


def _typical(
    near_N: NDArray[np.float32], members: NDArray[np.int32], by_size: Sequence[int], texts: Sequence[str]
) -> list[int]:
    """Rows nearest to the centres: one of each cluster from the largest on, then the next of each, up to SHOWN."""
    ranked = [np.flatnonzero(members == cluster) for cluster in by_size[:SHOWN]]
    ranked = [rows[np.argsort(-near_N[rows], kind="stable")] for rows in ranked]
    turns = (int(rows[turn]) for turn in range(len(near_N)) for rows in ranked if turn < len(rows))
    return sorted(islice(_different(turns, texts), SHOWN), key=lambda row: (-near_N[row], row))


def _name(x_NF: Sparse, mine: NDArray[np.bool_], words: NDArray[np.object_]) -> str:
    """The words whose mean weight in the cluster exceeds that in the set the most, each in one word or pair only."""
    excess = np.asarray(x_NF[mine].mean(axis=0) - x_NF.mean(axis=0)).ravel()
    chosen: list[str] = []
    for word in (str(words[i]) for i in np.argsort(-excess, kind="stable")[: 10 * TELLING] if excess[i] > 0):
        if word and not any(set(word.split()) & set(other.split()) for other in chosen):
            chosen.append(word)
    return ", ".join(chosen[:TELLING]) or "(no telling words)"
