"""The most influential training rows of lost test rows, by the gradients of what was trained.

To look at every training row would take as long as an epoch of single rows. So of each lost row the training rows with
the nearest prompts are candidates, and a sample of all: at most `lost rows x NEAREST + SAMPLED` backward passes of one
row each, beside one for each lost row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..core.events import Note, Progress, Sink
from ..core.messages import Example
from ..data.tokenize import Encoded, encode
from ..evaluation.influence import influence
from ..evaluation.neighbour import Near, Neighbours
from .bench import Bench
from .lost import Lost, Pull
from .prepare import Prepared

NEAREST, SAMPLED = 20, 100
SHOWN = 3
"""Rows told on either side: those that pull furthest away from the right answer, and those that pull towards it."""
MOST_TOLD = 10
_DRAW = 3
"""What tells the draw of candidates from other draws under one seed."""


def pulled(
    found: Sequence[Lost], prepared: Prepared, bench: Bench, regressed: Sequence[int], sink: Sink
) -> tuple[list[Lost], dict[str, Any]]:
    """The lost rows, `evaluation.influence` of them with their most influential training rows, and `influence` of
    evaluation.json. Those that the base had right (`regressed`) come first."""
    wanted = prepared.spec.evaluation.influence
    before = set(regressed)
    asked = sorted(found, key=lambda one: one.place not in before)[:wanted]
    if not asked or not len(prepared.train.conversations):
        return list(found), {}
    neighbours = Neighbours(prepared.train.conversations)
    test = [prepared.test.conversations[one.place] for one in asked]
    places, rows = _shown(bench, prepared, neighbours.rows, _candidates(neighbours, test, prepared.spec.seed))
    references = [prepared.references()[one.place] for one in asked]
    sink(Note(f"gradients of {len(rows):,} training rows are held against those of {len(asked)} lost ones"))
    made = influence(
        bench.model, list(bench.adapter.parameters().values()), references, rows, pad_id=bench.pad_id,
        number_type=bench.number_type, seed=prepared.spec.seed,
        on_progress=lambda done: sink(Progress(done, len(references) + len(rows), "rows")),
    )  # fmt: skip
    by_place = {}
    for number, one in enumerate(asked):
        pulls = _furthest(places, made.cosine_TC[number], made.dot_TC[number])
        by_place[one.place] = _contradicted(replace(one, pulls=pulls), neighbours)
    told = [by_place.get(one.place, one) for one in found]
    facts = {
        "lost_rows": len(asked), "of_lost": len(found), "candidates": len(rows),
        "training_rows": len(prepared.train.conversations), "parameters": made.parameters,
        "dimensions": made.dimensions, "away": _away(list(by_place.values()), neighbours.rows),
    }  # fmt: skip
    return told, {"influence": facts}


def _candidates(neighbours: Neighbours, test: Sequence[Example], seed: int) -> list[int]:
    """Places of training rows, each once, in their order."""
    near = {one.place for of in neighbours.of(test, NEAREST) for one in of}
    every = len(neighbours.rows)
    drawn = np.random.default_rng([seed, _DRAW]).permutation(every)[:SAMPLED]
    return sorted(near | set(drawn.tolist()))


def _shown(
    bench: Bench, prepared: Prepared, train: Sequence[Example], places: Sequence[int]
) -> tuple[list[int], list[Encoded]]:
    """The rows that have something to learn, with their places, as the training shows them."""
    limit = int(prepared.spec.training.max_length)
    made = encode(bench.tokenizer, [train[place] for place in places])
    cut = [(place, one.cut(limit)) for place, one in zip(places, made, strict=True) if isinstance(one, Encoded)]
    kept = [(place, one) for place, one in cut if one.labelled]
    return [place for place, _ in kept], [one for _, one in kept]


def _furthest(places: Sequence[int], cosine_C: Any, dot_C: Any) -> tuple[Pull, ...]:
    """Furthest away from the right answer first; then furthest towards it."""
    order = np.argsort(cosine_C, kind="stable")
    away = [number for number in order[:SHOWN] if cosine_C[number] < 0]
    towards = [number for number in order[::-1][:SHOWN] if cosine_C[number] > 0]
    return tuple(Pull(places[i], float(cosine_C[i]), float(dot_C[i])) for i in (*away, *towards))


def _contradicted(one: Lost, neighbours: Neighbours) -> Lost:
    """With contradictions among the near and the influential rows together."""
    speaking = {near.place: near for near in (*one.near, *(Near(pull.place, 0.0) for pull in one.pulls))}
    odd = tuple(neighbours.contradicting(list(speaking.values())))
    near_is_odd = any(near.place in odd for near in one.near)
    return replace(one, contradicting=odd, reason="contradicted" if near_is_odd else one.reason)


def _away(found: Sequence[Lost], train: Sequence[Example]) -> list[dict[str, Any]]:
    """The training rows that pull lost rows away, those of most lost rows first."""
    of: dict[int, list[float]] = defaultdict(list)
    odd = {place for one in found for place in one.contradicting}
    for pull in (pull for one in found for pull in one.pulls if pull.cosine < 0):
        of[pull.place].append(pull.cosine)
    order = sorted(of, key=lambda place: (-len(of[place]), sum(of[place]), place))[:MOST_TOLD]
    return [
        {
            "source": train[place].origin, "answer": train[place].answer(), "lost_rows": len(of[place]),
            "similarity": round(sum(of[place]) / len(of[place]), 4), "contradicted": place in odd,
        }
        for place in order
    ]  # fmt: skip
