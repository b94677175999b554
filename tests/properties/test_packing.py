"""Packing loses nothing, learns nothing twice, and keeps documents apart."""

from __future__ import annotations

from collections import Counter
from itertools import chain, pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.packing import (
    Packed,
    best_fit,
    collate_packed,
    learned,
    pack_documents,
    pack_sequences,
    pack_stream,
    pieces,
)
from tunesmith.data.tokenize import Encoded
from tunesmith.data.tokens import TokenStore

LIMITS = st.integers(2, 24)
SEEDS = st.integers(0, 5)
COUNTED = st.lists(st.tuples(st.integers(1, 70), st.integers(1, 3)), max_size=12)


def _documents(lengths: list[tuple[int, int]]) -> list[tuple[np.ndarray, int]]:
    """Documents of which every token is another number, and how often each is seen."""
    ends = np.cumsum([0, *(length for length, _ in lengths)])
    return [
        (np.arange(start, end, dtype=np.int32), count)
        for (start, end), (_, count) in zip(pairwise(ends.tolist()), lengths, strict=True)
    ]


def _learned(row: Packed) -> list[tuple[int, int]]:
    """(token before, token) of everything that the row teaches."""
    return [
        (int(one.input_ids[at - 1]), int(one.input_ids[at]))
        for one in row.sequences
        for at in np.flatnonzero(one.loss_weight)
    ]


@settings(deadline=None)
@given(COUNTED, LIMITS, SEEDS)
def test_every_token_of_a_document_but_its_first_is_learned_exactly_as_often_as_the_document_is_seen(
    lengths: list[tuple[int, int]], limit: int, seed: int
) -> None:
    documents = _documents(lengths)
    rows = pack_documents(documents, limit, seed)
    wanted = Counter[tuple[int, int]]()
    for ids, count in documents:
        for pair in pairwise(ids.tolist()):
            wanted[pair] += count
    assert Counter(chain.from_iterable(map(_learned, rows))) == wanted
    assert all(row.length <= limit for row in rows)
    assert rows.sizes.lengths.tolist() == [row.length for row in rows]
    assert rows.sizes.labelled.tolist() == [row.labelled for row in rows] == [int(row.weight) for row in rows]


@settings(deadline=None)
@given(COUNTED, LIMITS, SEEDS)
def test_a_document_that_a_row_holds_is_never_cut_and_a_longer_one_fills_whole_rows(
    lengths: list[tuple[int, int]], limit: int, seed: int
) -> None:
    documents = _documents(lengths)
    stand = [one.input_ids.tolist() for row in pack_documents(documents, limit, seed) for one in row.sequences]
    for ids, count in documents:
        if 2 <= len(ids) <= limit:
            assert stand.count(ids.tolist()) == count
        mine = [one for one in stand if one[0] in ids]
        assert sum(len(one) < limit for one in mine) <= count, "one rest at most"


@settings(deadline=None)
@given(COUNTED, LIMITS, SEEDS)
def test_a_stream_is_all_documents_one_behind_the_other(lengths: list[tuple[int, int]], limit: int, seed: int) -> None:
    documents = _documents(lengths)
    rows = pack_stream(documents, limit, seed)
    stream = [int(token) for number, row in enumerate(rows) for token in row.input_ids[number > 0 :]]
    if sum(len(ids) * count for ids, count in documents) < 2:
        assert stream == []
        return
    heads = {int(ids[0]): ids.tolist() for ids, _ in documents}
    told, rest = Counter[int](), list(stream)
    while rest:
        head = heads[rest[0]]
        assert rest[: len(head)] == head
        told[head[0]] += 1
        rest = rest[len(head) :]
    assert told == Counter({int(ids[0]): count for ids, count in documents})
    assert all(row.length == limit for row in list(rows)[:-1])
    assert all(row.starts.tolist() == [0] and row.labelled == row.length - 1 for row in rows)
    assert all(a.input_ids[-1] == b.input_ids[0] for a, b in pairwise(rows))


@settings(deadline=None)
@given(COUNTED, LIMITS, SEEDS)
def test_the_seed_alone_decides(lengths: list[tuple[int, int]], limit: int, seed: int) -> None:
    for pack in (pack_documents, pack_stream):
        once, again = (pack(_documents(lengths), limit, seed) for _ in range(2))
        assert [row.input_ids.tolist() for row in once] == [row.input_ids.tolist() for row in again]
        assert [row.starts.tolist() for row in once] == [row.starts.tolist() for row in again]


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), max_size=40), SEEDS)
def test_best_fit_puts_every_sequence_into_one_row_and_opens_none_in_vain(lengths: list[int], seed: int) -> None:
    rows = best_fit(np.array(lengths, dtype=np.int64), 30, seed)
    assert sorted(chain.from_iterable(rows)) == list(range(len(lengths)))
    filled = [sum(lengths[place] for place in row) for row in rows]
    assert all(total <= 30 for total in filled)
    # The first sequence of a row found room in none that was open, so two rows together hold more than one can.
    assert all(a + b > 30 for place, a in enumerate(filled) for b in filled[:place])


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from([0.0, 1.0, 0.5]), min_size=2, max_size=9), min_size=1, max_size=9), SEEDS)
def test_weights_travel_with_their_sequences(weights: list[list[float]], seed: int) -> None:
    store = TokenStore()
    for number, weight in enumerate(weights):
        store.append(Encoded(np.full(len(weight), number, np.int32), np.array([0.0, *weight[1:]], np.float32)))
    rows = pack_sequences(store, [1] * len(store), store.sizes(), 12, seed)
    found = {int(one.input_ids[0]): one.loss_weight.tolist() for row in rows for one in row.sequences}
    assert found == {number: [0.0, *weight[1:]] for number, weight in enumerate(weights)}
    assert rows.sizes.labelled.sum() == store.sizes().labelled.sum()


def test_pieces_share_one_token() -> None:
    cut = [piece.tolist() for piece in pieces(np.arange(10, dtype=np.int32), 4)]
    assert cut == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    assert [piece.tolist() for piece in pieces(np.arange(5, dtype=np.int32), 4)] == [[0, 1, 2, 3], [3, 4]]
    assert list(pieces(np.arange(1, dtype=np.int32), 4)) == []


def test_positions_begin_anew_in_each_sequence_and_in_the_padding() -> None:
    rows = [Packed.of([learned(np.arange(n, dtype=np.int32)) for n in lengths]) for lengths in ((3, 2), (4, 1, 3))]
    batch = collate_packed(rows, pad_id=9)
    assert batch.positions.tolist() == [[0, 1, 2, 0, 1, 0, 1, 2], [0, 1, 2, 3, 0, 0, 1, 2]]
    assert batch.input_ids[0].tolist() == [0, 1, 2, 0, 1, 9, 9, 9]
    assert batch.loss_weight.tolist() == [[0, 1, 1, 0, 1, 0, 0, 0], [0, 1, 1, 1, 0, 0, 1, 1]]
