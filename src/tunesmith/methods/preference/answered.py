"""Items of preference learning: a row's answers, what the base gives for them, and answers that belong elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ...core import files
from ...core.events import Note
from ...data.answers import Judged, Pair
from ...data.batch import evaluation_batches
from ...data.branches import Family
from ...data.rows import Lazy, Mapped
from ...data.tokenize import Encoded
from ...engine import precision
from ...engine.branches import sequences
from ...engine.evaluate import EVALUATION_TOKENS
from ..base import Learned, Scene
from .config import PreferenceSpec

NAME = "reference-{}.safetensors"
_MISMATCHES = 5
"""What tells the draw of answers from elsewhere from other draws under one seed."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Answered:
    """A pair or a judged answer, as the loss wants it. Log-probabilities in nats."""

    row: Pair | Judged
    reference: tuple[float, ...] = ()
    """Of the row's answers under the base; empty where the loss has no reference."""
    mismatch: Encoded | None = None
    """The row's prompt with another row's answer (KTO)."""
    mismatch_reference: float = 0.0
    baseline: float = 0.0

    @property
    def family(self) -> Family:
        """The sequences, the chosen one first."""
        return self.row.family()

    @property
    def good(self) -> tuple[bool, ...]:
        """Which of the answers are good."""
        return (True, False) if isinstance(self.row, Pair) else (self.row.good,)

    @property
    def length(self) -> int:
        """Tokens that are computed."""
        return self.row.length

    @property
    def weight(self) -> float:
        """One."""
        return self.row.weight

    @property
    def labelled(self) -> int:
        """Tokens of the answers."""
        return self.row.labelled

    def measured_from(self, baseline: float) -> Answered:
        """The same with the distance from the reference at this step."""
        return replace(self, baseline=baseline)


class AnsweredRows(Lazy[Answered]):
    """Items made when they are read, of rows that need not fit into memory."""

    def __init__(
        self, rows: Sequence[Pair | Judged], elsewhere: NDArray[np.int64] | None, reference: Numbers | None = None,
        mismatch_reference: Numbers | None = None,
    ):  # fmt: skip
        self._rows, self._elsewhere = rows, elsewhere
        self._reference, self._mismatch_reference = reference, mismatch_reference
        """Log-probabilities of the answers in order, one or two for each row; of the answers from elsewhere."""

    def __len__(self) -> int:
        return len(self._rows)

    def at(self, place: int) -> Answered:
        """The item at a place."""
        item = Answered(self._rows[place])
        if self._reference is not None:
            each = len(item.good)
            item = replace(item, reference=tuple(self._reference[each * place : each * (place + 1)].tolist()))
        if self._elsewhere is None:
            return item
        said = self._rows[int(self._elsewhere[place])].family().sequences[0]
        known = 0.0 if self._mismatch_reference is None else float(self._mismatch_reference[place])
        return replace(item, mismatch=_grafted(item.family.sequences[0], said), mismatch_reference=known)


def answered(scene: Scene, spec: PreferenceSpec, *, share: bool) -> Learned:
    """The items of training and validation; the base is asked once, in rank 0, and what it gives is kept."""
    train = _answered(scene, spec, "train", scene.train, share=share)
    return Learned(train, _answered(scene, spec, "validation", scene.validation, share=share))


def _answered(
    scene: Scene, spec: PreferenceSpec, name: str, rows: Sequence[Pair | Judged], *, share: bool
) -> AnsweredRows:
    elsewhere = _elsewhere(len(rows), scene.seed) if spec.takes == "judged" else None
    if not spec.needs_reference or not len(rows):
        return AnsweredRows(rows, elsewhere)
    items = AnsweredRows(rows, elsewhere)
    known = scene.world.from_main(lambda: _reference(scene, name, items, share=share))
    return AnsweredRows(rows, elsewhere, known["answers"], known.get("elsewhere"))


def log_probabilities(
    model: Any, families: Sequence[Family], pad_id: int, *, share: bool, number_type: str | None = None
) -> tuple[Numbers, Numbers]:
    """(log-probability of each sequence's answer, its tokens), [S] each, of all families in order; without gradients
    and without dropout. Without `number_type` under the precision that is in force."""
    first = np.concatenate([[0], np.cumsum([len(family.sequences) for family in families])]).astype(np.int64)
    sums, tokens = np.zeros(first[-1]), np.zeros(first[-1])
    lengths = [sum(one.length - family.shared for one in family.sequences) + family.shared for family in families]
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    with torch.no_grad(), precision.context(number_type, model) if number_type else nullcontext():
        for places in evaluation_batches(lengths, EVALUATION_TOKENS):
            batch = sequences([families[i] for i in places], pad_id, device, share=share)
            found = (values.double().cpu().numpy() for values in batch.logprobs(model))
            at = np.concatenate([np.arange(first[i], first[i + 1]) for i in places])
            sums[at], tokens[at] = found
    model.train(was_training)
    return sums, tokens


def _elsewhere(rows: int, seed: int) -> NDArray[np.int64]:
    """For each row another whose answer is taken to its prompt [rows], by a draw in which nobody keeps their own."""
    order = np.random.default_rng([seed, _MISMATCHES]).permutation(rows)
    other = np.empty(rows, dtype=np.int64)
    other[order] = np.roll(order, 1)  # one ring through all rows
    return other


def _grafted(asked: Encoded, said: Encoded) -> Encoded:
    """The prompt of one row with the answer of another."""
    prompt, answer = (int(np.flatnonzero(one.loss_weight)[0]) for one in (asked, said))
    ids = np.concatenate([asked.input_ids[:prompt], said.input_ids[answer:]])
    weight = np.concatenate([np.zeros(prompt, dtype=np.float32), said.loss_weight[answer:]])
    return Encoded(ids, weight)


def _reference(scene: Scene, name: str, items: AnsweredRows, *, share: bool) -> dict[str, Numbers]:
    """Log-probabilities under the base: of all answers, and of those from elsewhere."""
    path = scene.folder / NAME.format(name) if scene.folder else None
    known = _kept(path, scene.identity) if path else None
    if known is not None:
        return known
    scene.sink(Note(f"the base scores the answers of {len(items):,} {name} rows, once"))
    families = {"answers": Mapped(items, lambda item: item.family)}
    if items[0].mismatch:
        families["elsewhere"] = Mapped(items, lambda item: Family((item.mismatch,), 0))
    # Nothing is trained yet: a model that is trained whole is still its own reference.
    base = scene.adapter.disabled() if scene.adapter.keeps_base else nullcontext()
    with base:
        found = {
            what: log_probabilities(
                scene.model, some, scene.pad_id, share=share and what == "answers", number_type=scene.number_type
            )[0]
            for what, some in families.items()
        }
    if path:
        files.write_bytes(path, save(found, metadata={"identity": scene.identity}))
    return found


def _kept(path: Path, identity: str) -> dict[str, Numbers] | None:
    """What an earlier start of this run computed; None where there is nothing of these rows and this base."""
    try:
        with safe_open(path, framework="numpy") as stored:
            if (stored.metadata() or {}).get("identity") != identity:
                return None
            return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  (no dict)
    except (OSError, SafetensorError, json.JSONDecodeError):
        return None
