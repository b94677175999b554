"""Near-duplicates: against brute force, against sets of words worked by hand, and where there is nothing to compare."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data import dedup
from tunesmith.data.dedup import Bands, Pairs, clusters, jaccard, near_between, near_pairs

ROWS = 5000


def word_sets(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))} if words else set()


def resemblance(one: str, other: str) -> float:
    a, b = word_sets(one), word_sets(other)
    return len(a & b) / max(1, len(a | b))


def brute_force(texts: list[str], threshold: float) -> dict[tuple[int, int], float]:
    """All pairs that share a shingle at all, by an inverted index: the others have a Jaccard index of 0."""
    sets = [word_sets(text) for text in texts]
    holders: dict[tuple[str, ...], list[int]] = {}
    found = {}
    for right, mine in enumerate(sets):
        common: dict[int, int] = {}
        for shingle in mine:
            for left in holders.get(shingle, ()):
                common[left] = common.get(left, 0) + 1
            holders.setdefault(shingle, []).append(right)
        for left, shared in common.items():
            value = shared / (len(mine) + len(sets[left]) - shared)
            if value >= threshold:
                found[left, right] = value
    return found


def edited_copies(count: int, seed: int = 0) -> list[str]:
    """Random texts of 12 to 60 words; two of three are an earlier one with up to a tenth of its words replaced."""
    draw = np.random.default_rng(seed)
    texts: list[list[str]] = []
    for number in range(count):
        if number < 100 or number % 3 == 0:
            texts.append([f"w{i}" for i in draw.zipf(1.3, draw.integers(12, 60)) % 4000])
            continue
        copy = list(texts[draw.integers(len(texts))])
        for place in draw.integers(len(copy), size=draw.integers(1, max(2, len(copy) // 10))):
            copy[place] = f"n{number}"
        texts.append(copy)
    return [" ".join(words) for words in texts]


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.9])
def test_brute_force_on_5000_rows_finds_no_more_and_nothing_is_false(threshold: float) -> None:
    texts = edited_copies(ROWS)
    wanted = brute_force(texts, threshold)
    pairs = near_pairs(texts, threshold)
    found = dict(zip(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True), pairs.jaccard.tolist(), strict=True))
    assert len(wanted) > 100
    assert len(wanted.keys() & found.keys()) / len(wanted) >= 0.98
    assert not found.keys() - wanted.keys()
    assert all(found[pair] == pytest.approx(wanted[pair], abs=1e-12) for pair in found)


def test_between_two_sets_brute_force_finds_no_more() -> None:
    texts = edited_copies(3000, seed=1)
    ours, theirs = texts[:2000], texts[2000:]
    wanted = {(i, j - 2000) for i, j in brute_force(texts, 0.8) if i < 2000 <= j}
    pairs = near_between(ours, theirs)
    found = set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    assert len(wanted) > 100
    assert len(wanted & found) / len(wanted) >= 0.98
    assert not found - wanted


@given(st.lists(st.text("ab é.中0_", max_size=24), min_size=2, max_size=6))
def test_the_jaccard_index_is_that_of_the_sets_of_words(texts: list[str]) -> None:
    texts = [re.sub("中", " 中 ", text) for text in texts]  # for the expression, words need white space
    left, right = np.triu_indices(len(texts), 1)
    values = jaccard(texts, texts, left, right)
    assert values.tolist() == pytest.approx([resemblance(texts[i], texts[j]) for i, j in zip(left, right, strict=True)])


def test_a_pair_worked_by_hand() -> None:
    # abc bcd cde | abc bcd cdx: 2 shared of 4.
    assert jaccard(["A b, c d e!"], ["a b c d x"], np.array([0]), np.array([0])).tolist() == [0.5]
    assert len(near_pairs(["a b c d e", "a b c d x"], 0.5)) == 1
    assert len(near_pairs(["a b c d e", "a b c d x"], 0.51)) == 0


def test_short_texts_must_be_the_same_and_empty_ones_have_no_pairs() -> None:
    pairs = near_pairs(["yes", "Yes!", "no", "", "", "...", "yes yes"], 0.8)
    assert list(zip(pairs.left, pairs.right, strict=True)) == [(0, 1)]
    assert len(near_pairs([])) == len(near_between([], ["a"])) == len(near_between(["a"], [])) == 0
    assert len(near_between(["", "x"], ["", "y"])) == 0


def test_characters_of_scripts_without_spaces_are_words() -> None:
    one, other = "我想知道我的银行卡什么时候会寄到我家里", "我想知道我的银行卡什么时候会寄到我家"
    assert len(near_pairs([one, other], 0.9)) == 1
    assert len(near_pairs([one, other[::-1]], 0.3)) == 0


def test_a_text_longer_than_a_portion_and_words_longer_than_the_weights() -> None:
    long = "x" * 1000 + " " + " ".join(f"w{i % 977} v{i % 769}" for i in range(150_000))
    assert len(long) > dedup.CHARACTERS_AT_ONCE
    pairs = near_pairs([long, "between", long.upper(), f"{long} end"], 0.9)
    assert list(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)) == [(0, 2), (0, 3)]


def test_repetitions_come_as_pairs_with_the_first() -> None:
    text = "the very same words once more"
    pairs = near_pairs([text, "something else that is not near", text, text], 0.8)
    assert list(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)) == [(0, 2), (0, 3)]
    assert near_between([text], ["x y z", "x y z", text, text]).right.tolist() == [2]


def test_a_crowd_of_alike_texts_is_one_cluster_and_costs_no_square() -> None:
    stem = " ".join(f"word{i}" for i in range(40))
    texts = [f"{stem} {i}" for i in range(3000)]
    pairs = near_pairs(texts, 0.8)
    assert len(pairs) < 2 * 3000 * dedup.REACH
    assert set(clusters(pairs, 3000).tolist()) == {0}
    between = near_between(texts[:2000], texts[2000:], 0.8)
    assert set(between.left.tolist()) == set(range(2000))
    assert len(between) < 2 * 2000 * dedup.REACH


def test_clusters_join_chains_and_leave_the_others_alone() -> None:
    left, right = np.array([8, 5, 3, 0]), np.array([9, 8, 5, 7])
    assert clusters(Pairs(left, right, np.ones(4)), 11).tolist() == [0, 1, 2, 3, 4, 3, 6, 0, 3, 3, 10]
    line = np.random.default_rng(0).permutation(5000)
    assert set(clusters(Pairs(line[:-1], line[1:], np.ones(4999)), 5000).tolist()) == {0}


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_catch_what_stands_at_the_threshold(threshold: float) -> None:
    bands = Bands.of(threshold)
    assert (1 - threshold**bands.rows) ** bands.count <= dedup.MISSED
    assert bands.rows * bands.count <= dedup.COLUMNS_MOST


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5])
def test_a_threshold_that_is_none_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        near_pairs(["a"], threshold)
