"""Texts that say nearly the same: MinHash signatures, bands, verified pairs, clusters. Knows no rows or findings.

The resemblance of two texts is the Jaccard index of their sets of word shingles (Broder 1997). The share of equal
columns of two MinHash signatures estimates it without bias (Broder et al. 2000), and texts that agree in all columns
of some band are candidates (Leskovec, Rajaraman & Ullman, "Mining of Massive Datasets", 3.4). Every candidate is then
verified by the Jaccard index itself, so no pair is told that is none; the bands decide only what is missed.

Cost is linear in the texts: bands are sorted arrays, and in a crowded bucket each text is compared with a few others
instead of with all. Memory is the signatures (4 bytes x columns a text), for texts are read portion by portion.

Shapes: T texts, P columns of a signature (permutations), N pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .shingles import Hashes, Places, Shingles, mixed, shingles, words

Signatures = NDArray[np.uint32]
Floats = NDArray[np.float64]

THRESHOLD = 0.8
MISSED = 0.003
"""The share of pairs exactly at the threshold that no band may catch; those above it are missed less often."""
COLUMNS_MOST = 256
CHARACTERS_AT_ONCE = 1 << 20
PAIRS_AT_ONCE = 4095
_HASH_BITS = np.uint64(52)
"""With the place of a pair above them, which takes 12 bits, they fill a number of 64."""
BLOCK = 1 << 15
"""Shingles whose hashes fit in the cache, all columns one after the other."""
SURE = 4.0
"""A candidate is verified when its signatures resemble each other this many standard deviations below the threshold."""
CROWD, REACH = 32, 4
"""In a bucket of more than CROWD texts each is compared with REACH others only: the clusters come out the same."""


@dataclass(frozen=True)
class Pairs:
    """N pairs of texts with their Jaccard index; for one collection left < right."""

    left: Places
    """int64 [N]."""
    right: Places
    """int64 [N]."""
    jaccard: Floats
    """float64 [N]."""

    def __len__(self) -> int:
        return len(self.left)

    def where(self, mask: NDArray[np.bool_]) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.left[mask], self.right[mask], self.jaccard[mask])


@dataclass(frozen=True)
class Bands:
    """How a signature is cut: `count` bands of `rows` columns each."""

    count: int
    rows: int

    @staticmethod
    def of(threshold: float) -> Bands:
        """The widest bands, thus the fewest false candidates, that miss at most MISSED of the pairs at the threshold.

        A pair of Jaccard index s is caught with probability 1 - (1 - s^rows)^count.
        """
        for rows in range(8, 0, -1):
            count = 1 if threshold >= 1 else int(np.ceil(np.log(MISSED) / np.log1p(-(threshold**rows))))
            if rows * count <= COLUMNS_MOST // 2:
                return Bands(count, rows)
        return Bands(COLUMNS_MOST, 1)


def near_pairs(texts: Sequence[str], threshold: float = THRESHOLD) -> Pairs:
    """Pairs of texts whose Jaccard index is at least `threshold`, in order.

    Of texts with the same words in the same order only the first is compared with others, and each further one comes
    as a pair with that first one. Texts without words have no pairs. ValueError for a threshold outside (0, 1].
    """
    signed = sign(texts, threshold)
    first, repeats = _first_of_each(signed.ordered)
    twins = repeats[signed.filled[repeats]]
    kept = np.flatnonzero((first == np.arange(len(texts))) & signed.filled)
    found = _search(texts, signed, kept, threshold)
    left = np.concatenate((found.left, first[twins]))
    right = np.concatenate((found.right, twins))
    order = np.lexsort((right, left))
    return Pairs(left[order], right[order], np.concatenate((found.jaccard, np.ones(len(twins))))[order])


def near_between(
    texts: Sequence[str], others: Sequence[str], threshold: float = THRESHOLD, signed: Signed | None = None
) -> Pairs:
    """Pairs (index in `texts`, index in `others`) whose Jaccard index is at least `threshold`, in order.

    Repetitions inside `others` are looked at once: the pair names the first. `signed` spares the work on `texts`, if
    they were signed with the same threshold before. ValueError as in `near_pairs`.
    """
    mine, theirs = signed or sign(texts, threshold), sign(others, threshold)
    first, _ = _first_of_each(theirs.ordered)
    kept = np.flatnonzero((first == np.arange(len(others))) & theirs.filled)
    found, matched = _Found(texts, others, threshold), np.zeros(len(texts), dtype=bool)
    for band in range(mine.bands.count):
        left, right, crowded = _crossing(mine.keys(band), theirs.keys(band)[kept])
        right = kept[right]
        open_ = mine.filled[left] & ~(crowded & matched[left])
        left, right = left[open_], right[open_]
        likely = _likely(mine, theirs, left, right, threshold)
        matched[found.add(left[likely], right[likely]).left] = True
    return found.all()


def clusters(pairs: Pairs, size: int) -> Places:
    """For each of `size` texts the smallest index among those that pairs join it with; itself when none does.

    int64 [size]. Every round hands each text the smallest label of its neighbours and then follows the labels to
    their own (Shiloach & Vishkin 1982): a chain of n texts takes about log n rounds.
    """
    label = np.arange(size)
    while True:
        lowest = np.minimum(label[pairs.left], label[pairs.right])
        higher = np.maximum(label[pairs.left], label[pairs.right])
        if np.array_equal(lowest, higher):
            return label
        np.minimum.at(label, higher, lowest)
        while not np.array_equal(label, below := label[label]):
            label = below


def jaccard(texts: Sequence[str], others: Sequence[str], left: Places, right: Places) -> Floats:
    """Jaccard indices of pairs (texts[left], others[right]), float64 [N]; 0 where both have no words.

    "Exact" up to 64-bit hashes of shingles, of which 52 bits are compared: about one chance in 10^11 for a pair of
    texts of 200 words that one shingle too many counts as shared.
    """
    parts = [
        _jaccard(texts, others, left[i : i + PAIRS_AT_ONCE], right[i : i + PAIRS_AT_ONCE])
        for i in range(0, len(left), PAIRS_AT_ONCE)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


@dataclass(frozen=True)
class Signed:
    """Texts as signatures."""

    columns: Signatures
    """uint32 [T, P]."""
    ordered: Hashes
    """uint64 [T]: a hash of all words in order, equal for repetitions."""
    filled: NDArray[np.bool_]
    """bool [T]: whether the text has a word."""
    bands: Bands

    def keys(self, band: int) -> Hashes:
        """Hashes of one band's columns, uint64 [T]."""
        rows = self.bands.rows
        keys = np.full(len(self.columns), band + 1, dtype=np.uint64)
        for column in range(band * rows, (band + 1) * rows):
            keys = mixed(keys ^ self.columns[:, column])
        return keys


def sign(texts: Sequence[str], threshold: float = THRESHOLD) -> Signed:
    """MinHash signatures of the texts. A portion of them is in memory at a time."""
    if not 0 < threshold <= 1:
        raise ValueError(f"a threshold is above 0 and at most 1, not {threshold}")
    bands = Bands.of(threshold)
    columns = np.zeros((len(texts), bands.count * bands.rows), dtype=np.uint32)
    ordered = np.zeros(len(texts), dtype=np.uint64)
    filled = np.zeros(len(texts), dtype=bool)
    for begin, portion in _portions(texts):
        end = begin + len(portion)
        read = words(portion)
        made = shingles(read)
        columns[begin:end] = _minima(made, columns.shape[1])
        ordered[begin:end] = read.ordered()
        filled[begin:end] = made.counts > 0
    return Signed(columns, ordered, filled, bands)


def _portions(texts: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """(index of the first, texts) with about CHARACTERS_AT_ONCE characters each."""
    portion: list[str] = []
    begin = size = 0
    for index, text in enumerate(texts):
        portion.append(text)
        size += len(text)
        if size >= CHARACTERS_AT_ONCE:
            yield begin, portion
            begin, portion, size = index + 1, [], 0
    if portion:
        yield begin, portion


def _minima(made: Shingles, count: int) -> Signatures:
    """MinHash of each text, uint32 [T, count]: column p is the smallest of a_p x + b_p mod 2^32, all a_p odd.

    x are 32 bits of the shingles' hashes, which are mixed already; rows of texts without shingles stay 0.
    """
    draw = np.random.default_rng(0x3A5)
    factors = draw.integers(0, 2**32, count, dtype=np.uint32) | np.uint32(1)
    offsets = draw.integers(0, 2**32, count, dtype=np.uint32)
    result = np.zeros((len(made.counts), count), dtype=np.uint32)
    filled = np.flatnonzero(made.counts)
    hashes = (made.hashes >> np.uint64(32)).astype(np.uint32)
    begin = 0
    while begin < len(filled):
        low = made.start[filled[begin]]
        end = max(begin + 1, int(np.searchsorted(made.start[filled + 1], low + BLOCK, side="right")))
        block = hashes[low : made.start[filled[end - 1] + 1]]
        heads = made.start[filled[begin:end]] - low
        for column in range(count):
            result[filled[begin:end], column] = np.minimum.reduceat(block * factors[column] + offsets[column], heads)
        begin = end
    return result


def _first_of_each(keys: Hashes) -> tuple[Places, Places]:
    """(for each key the first index that has it, indices that are not the first)."""
    _, index, inverse = np.unique(keys, return_index=True, return_inverse=True)
    first = index[inverse]
    return first, np.flatnonzero(first != np.arange(len(keys)))


class _Found:
    """The near pairs among all candidates so far; each candidate is verified once."""

    def __init__(self, texts: Sequence[str], others: Sequence[str], threshold: float):
        self.texts, self.others, self.threshold = texts, others, threshold
        self.tried = np.zeros(0, dtype=np.int64)
        self.near = [Pairs(self.tried, self.tried, np.zeros(0))]

    def add(self, left: Places, right: Places) -> Pairs:
        """The pairs among the candidates that are near and new."""
        width = max(len(self.others), 1)
        codes = np.setdiff1d(left * width + right, self.tried)
        self.tried = np.union1d(self.tried, codes)
        left, right = np.divmod(codes, width)
        values = jaccard(self.texts, self.others, left, right)
        self.near.append(Pairs(left, right, values).where(values >= self.threshold))
        return self.near[-1]

    def all(self) -> Pairs:
        """The near pairs in order."""
        left, right, values = (np.concatenate(parts) for parts in zip(*map(_columns, self.near), strict=True))
        order = np.lexsort((right, left))
        return Pairs(left[order], right[order], values[order])


def _columns(pairs: Pairs) -> tuple[Places, Places, Floats]:
    return pairs.left, pairs.right, pairs.jaccard


def _search(texts: Sequence[str], signed: Signed, kept: Places, threshold: float) -> Pairs:
    """Near pairs among the kept texts, left < right. In crowds only texts that no pair joins yet are compared."""
    draw = np.random.default_rng(0x9E3)
    found, label = _Found(texts, texts, threshold), np.arange(len(texts))
    for band in range(signed.bands.count):
        # Another order for each band: in crowded buckets each text meets other neighbours every time.
        shuffled = draw.permutation(kept)
        one, other, crowded = _together(signed.keys(band)[shuffled])
        left, right = np.minimum(shuffled[one], shuffled[other]), np.maximum(shuffled[one], shuffled[other])
        if crowded.any():
            label = clusters(found.all(), len(texts))
            left, right = (side[~crowded | (label[left] != label[right])] for side in (left, right))
        likely = _likely(signed, signed, left, right, threshold)
        found.add(left[likely], right[likely])
    return found.all()


def _together(keys: Hashes) -> tuple[Places, Places, NDArray[np.bool_]]:
    """Pairs of places with equal keys, all in small buckets, each with the next REACH in those above CROWD; and
    which pairs are from such a crowd."""
    order = np.argsort(keys, kind="stable")
    head, size = _buckets(keys[order])
    partners = size - 1 - (np.arange(len(keys)) - head)
    partners = np.where(size > CROWD, np.minimum(partners, REACH), partners)
    one = np.repeat(np.arange(len(keys)), partners)
    step = np.arange(len(one)) - np.repeat(np.cumsum(partners) - partners, partners) + 1
    return order[one], order[one + step], size[one] > CROWD


def _crossing(keys: Hashes, others: Hashes) -> tuple[Places, Places, NDArray[np.bool_]]:
    """Pairs (place in `keys`, place in `others`) with equal keys, REACH of them for each key where there are more
    than CROWD others; and which pairs are from such a crowd."""
    order = np.argsort(others, kind="stable")
    ranked = others[order]
    low, high = np.searchsorted(ranked, keys, "left"), np.searchsorted(ranked, keys, "right")
    size = high - low
    taken = np.where(size > CROWD, REACH, size)
    one = np.repeat(np.arange(len(keys)), taken)
    step = np.arange(len(one)) - np.repeat(np.cumsum(taken) - taken, taken)
    return one, order[low[one] + (one + step) % size[one]], size[one] > CROWD


def _buckets(ranked: Hashes) -> tuple[Places, Places]:
    """For each of the sorted keys (where its bucket begins, the bucket's size)."""
    heads = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1]))) if len(ranked) else np.zeros(0, int)
    sizes = np.diff(np.append(heads, len(ranked)))
    return np.repeat(heads, sizes), np.repeat(sizes, sizes)


def _likely(mine: Signed, theirs: Signed, left: Places, right: Places, threshold: float) -> NDArray[np.bool_]:
    """Whether the signatures leave it open that a pair is near: it spares the costly verification of most."""
    width = mine.columns.shape[1]
    least = threshold - SURE * np.sqrt(threshold * (1 - threshold) / width)
    equal = np.zeros(len(left), dtype=np.int64)
    for begin in range(0, len(left), BLOCK):
        part = slice(begin, begin + BLOCK)
        equal[part] = (mine.columns[left[part]] == theirs.columns[right[part]]).sum(axis=1)
    enough: NDArray[np.bool_] = equal >= least * width
    return enough


def _jaccard(texts: Sequence[str], others: Sequence[str], left: Places, right: Places) -> Floats:
    """Of at most PAIRS_AT_ONCE pairs: in one sorted list of both sides' shingles, shared ones are neighbours."""
    mine, theirs = _sets(texts, left), _sets(others, right)
    both = np.sort(np.concatenate((mine, theirs)))
    shared = both[1:][both[1:] == both[:-1]] >> _HASH_BITS
    count = len(left)
    common = np.bincount(shared.astype(np.int64), minlength=count)
    sizes = [np.bincount((side >> _HASH_BITS).astype(np.int64), minlength=count) for side in (mine, theirs)]
    result: Floats = common / np.maximum(sizes[0] + sizes[1] - common, 1)
    return result


def _sets(texts: Sequence[str], wanted: Places) -> Hashes:
    """Sets of shingles of the wanted texts one behind the other: the place in `wanted` above 52 bits of each hash."""
    rows, inverse = np.unique(wanted, return_inverse=True)
    made = shingles(words([texts[int(row)] for row in rows]))
    owner = np.repeat(np.arange(len(rows), dtype=np.uint64), made.counts)
    ones = np.unique((owner << _HASH_BITS) | (made.hashes >> (np.uint64(64) - _HASH_BITS)))
    start = np.searchsorted(ones, np.arange(len(rows) + 1, dtype=np.uint64) << _HASH_BITS)
    counts = np.diff(start)[inverse]
    place = np.repeat(np.arange(len(wanted)), counts)
    within = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
    found = ones[np.repeat(start[inverse], counts) + within]
    placed: Hashes = (place.astype(np.uint64) << _HASH_BITS) | (found & ((np.uint64(1) << _HASH_BITS) - np.uint64(1)))
    return placed
