"""Distillation on logits: the teacher reads every row once, before the first step, and is gone when training begins.

Hinton et al. 2015, arXiv 1503.02531, for each labelled token. Student and teacher read the same tokens, so that the
teacher's view depends on nothing that changes: its likeliest tokens are computed once and kept (see `kept`).
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core import fingerprints
from ...core.events import Note, Progress
from ...data.batch import collate, evaluation_batches
from ...data.tokenize import Encoded
from ...engine.evaluate import EVALUATION_TOKENS, FEWEST_TOKENS
from ...engine.objective import Tally, TorchBatch
from ..base import Figures, Learned, Scene, Scores
from . import live
from .config import DistillSpec
from .kept import PORTION_BYTES, Kept
from .losses import top_k
from .taught import Likely, Taught, TaughtBatch, batch_of, mixed_loss, student_says
from .teacher import Teacher, find_teacher, fingerprint

FOLDER = "teacher"
"""In the run's folder."""
_LARGEST = 1 << 26
"""Logits that are looked at together, where every token of a batch is labelled."""


class OnLogits:
    """Learns from the kept view of a teacher."""

    figures: tuple[str, ...] = ("divergence", "agreement")

    def __init__(self, spec: DistillSpec):
        self.spec = spec
        self.tally = Tally()
        self._words = 0
        self._folder: Path | None = None

    def prepare(self, scene: Scene) -> Learned:
        """Ask the teacher, once; what an earlier start of this run asked is not asked again."""
        teacher = find_teacher(str(self.spec.teacher))
        self._words = live.shared_vocabulary(scene.model, teacher)
        kept = [self._kept(scene, "train", scene.train), self._kept(scene, "validation", scene.validation)]
        scene.world.only_main(lambda: self._ask(scene, teacher, kept))
        train, validation = (one.read() for one in kept)
        places, mass = int(kept[0].starts[-1]), kept[0].mass()
        summary = f"the teacher's {self._top_k} likeliest tokens at {places:,} places, {mass:.1%} of its probability"
        facts = {"places": places, "top_k": self._top_k, "mass": round(mass, 6), "summary": summary}
        return Learned(train, validation, facts={"teacher": facts})

    @property
    def _top_k(self) -> int:
        return min(self.spec.top_k, self._words)

    def _kept(self, scene: Scene, name: str, rows: Sequence[Encoded]) -> Kept:
        if self._folder is None and scene.folder:
            self._folder = scene.folder / FOLDER
        elif self._folder is None:
            self._folder = Path(tempfile.mkdtemp())
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        identity = fingerprints.of_object([scene.identity, fingerprint(self.spec), self.spec.divergence.temperature])
        return Kept(self._folder, name, rows, self._top_k, identity, PORTION_BYTES)

    def _ask(self, scene: Scene, teacher: Teacher, kept: Sequence[Kept]) -> None:
        missing = [one.missing() for one in kept]
        total = sum(portion.end - portion.first for some in missing for portion in some)
        if not total:
            return
        scene.sink(Note(f"the teacher {teacher.name} reads {total:,} rows, once"))
        done = 0

        def told(rows: int) -> None:
            nonlocal done
            done += rows
            scene.sink(Progress(done, total, "rows read by the teacher"))

        with live.opened(teacher, scene.number_type) as model:
            for one, some in zip(kept, missing, strict=True):
                one.compute(some, lambda rows: self._view(model, rows, scene.pad_id), told)

    def _view(self, model: Any, rows: Sequence[Encoded], pad_id: int) -> Iterator[tuple[int, Likely]]:
        """The teacher's likeliest tokens at each row's labels."""
        device = next(model.parameters()).device
        tokens = max(FEWEST_TOKENS, min(EVALUATION_TOKENS, _LARGEST // self._words))
        for places in evaluation_batches([row.length for row in rows], tokens):
            batch = TorchBatch.of(collate([rows[i] for i in places], pad_id), device)
            logits_NV = live.teacher_logits(model, batch, self._words)
            found = top_k(logits_NV, self._top_k, self.spec.divergence.temperature)
            kept = (found.ids_NK.int(), found.logp_NK, found.rest_N)
            parts = [tensor.cpu().numpy() for tensor in kept if tensor is not None]
            at = 0
            for place in places:
                end = at + rows[place].labelled
                yield place, Likely(*(part[at:end] for part in parts))
                at = end

    def step_rows(self, model: Any, rows: Sequence[Taught], step: int | None) -> Sequence[Taught]:
        """Those of the data."""
        return rows

    def batch(self, rows: Sequence[Taught], pad_id: int, device: torch.device) -> TaughtBatch:
        """Padded on the right, with the teacher's view."""
        return batch_of(rows, pad_id, device)

    def loss_sum(self, model: Any, batch: TaughtBatch) -> Tensor:
        """See `taught`."""
        said = student_says(model, batch)
        return mixed_loss(said, batch.likely, batch.own_B, self._words, self.spec, self.tally)

    def regulariser(self, model: Any, step: int) -> Tensor | None:
        """None."""
        return None

    def held_out(self, model: Any, rows: Sequence[Encoded], *, pad_id: int, number_type: str) -> Figures:
        """Nothing: answers and losses say it all."""
        return {}

    def compared(self, base: Figures, tuned: Figures) -> dict[str, tuple[Scores, Scores]]:
        """Nothing besides."""
        return {}
