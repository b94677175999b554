"""A trained run to a folder that others load, with proof that it is the same model."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..core import files
from ..core.errors import ConflictError, ContentError, TunesmithError
from ..data.branches import Family
from ..data.tokenize import Encoded
from ..engine.branches import sequences
from ..evaluation.forgetting import general_rows
from ..evaluation.general_loss import scored
from ..models import load
from ..models.find import find
from ..models.head import labelled
from ..models.pooling import head_name
from ..models.pooling import scored as head_scores
from . import bench as benches
from .rundir import RunDir

PROBE_ROWS, PROBE_TOKENS = 8, 96
DTYPES = ("float32", "bfloat16")
LARGEST_DIFFERENCE = 1e-3
"""Of a logit between merged and unmerged model in float32: more than the order of sums explains."""


@dataclass(frozen=True)
class Parity:
    """Merged against adapter, on packaged text in float32: logits' largest difference, and equal best tokens."""

    tokens: int
    largest_difference: float
    same_best_token: float


def merged(path: Path, out: Path, *, dtype: str) -> Parity:
    """Write base + adapter as one plain model folder in `dtype`, read it back with transformers, compare.

    Two things are required: in float32 the merged model gives the adapter's logits, and what transformers reads back
    is, number for number, what was merged. What rounding to `dtype` does to the logits is measured and returned.
    Raises ConflictError when `out` is there, ContentError for an adapter that cannot be merged; TunesmithError,
    leaving nothing behind, when the two differ too much.
    """
    if out.exists():
        raise ConflictError(f"{out} is there already", mend="choose another --out, or remove it")
    run = RunDir.open(path)
    spec = run.recipe()
    if spec.adapter.cannot_merge:
        raise ContentError(
            f"{path} cannot be merged into one plain model", where=f"adapter: {{type: {spec.adapter.type}}}",
            why=spec.adapter.cannot_merge, mend="use the run as it is: base and adapter together",
        )  # fmt: skip
    exact = spec.model_copy(update={"training": spec.training.model_copy(update={"precision": "fp32"})})
    bench = benches.open_run(run, exact)
    rows = scored(bench.model, general_rows(bench.tokenizer, PROBE_TOKENS)[:PROBE_ROWS])
    before = _logits(bench.model, rows)
    bench.adapter.merge()
    _require_merged(_compare(before, _logits(bench.model, rows)))
    files.make_folder(out.parent)
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with files.writing(out):
            bench.model.to(getattr(torch, dtype)).save_pretrained(temporary)
            bench.tokenizer.save_pretrained(temporary)
        plain = _plain(temporary, headed=spec.method.head is not None)
        _require_stored(bench.model, plain)
        parity = _compare(before, _logits(plain, rows))
        with files.writing(out):
            temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return parity


def stored_dtype(path: Path) -> str:
    """The type that the base's weights are stored in: what `--dtype auto` means."""
    spec = RunDir.open(path).recipe()
    config = find(spec.base).config()
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return name if name in DTYPES else "float32"


def _plain(folder: Path, *, headed: bool) -> Any:
    return load.from_folder(folder, torch.float32, headed=headed).to(load.device()).eval()


def _logits(model: Any, rows: list[Encoded]) -> list[torch.Tensor]:
    """For each text, the logits [tokens, vocabulary] that it is scored by; of another head [1, labels]."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        return [_of_one(model, row, device).float().cpu() for row in rows]


def _of_one(model: Any, row: Encoded, device: torch.device) -> torch.Tensor:
    ids_BL = torch.tensor(row.input_ids, dtype=torch.long, device=device).unsqueeze(0)
    if head_name(model):
        return head_scores(model, *sequences([Family((row,), 0)], 0, device, share=False).ends(model))
    weight_BL = torch.tensor(row.loss_weight, device=device).unsqueeze(0)
    return labelled(model, ids_BL, torch.ones_like(ids_BL), weight_BL).logits_NV


def _compare(before: list[torch.Tensor], after: list[torch.Tensor]) -> Parity:
    pairs = list(zip(before, after, strict=True))
    tokens = sum(len(a) for a, _ in pairs)
    largest = max(float((a - b).abs().max()) for a, b in pairs)
    same = sum(int((a.argmax(-1) == b.argmax(-1)).sum()) for a, b in pairs)
    return Parity(tokens, largest, same / tokens)


def _require_merged(parity: Parity) -> None:
    if not parity.largest_difference <= LARGEST_DIFFERENCE:
        raise TunesmithError(
            "the merged model is not the one that was trained",
            why=f"in float32 its logits differ by {parity.largest_difference:.3g}", mend="use the adapter as it is",
        )  # fmt: skip


def _require_stored(written: Any, read: Any) -> None:
    """Every weight as transformers reads it back is the one that was written."""
    stored = read.state_dict()
    for name, weight in written.state_dict().items():
        if not torch.equal(weight.float(), stored[name].float()):
            raise TunesmithError("the merged folder does not hold what was written", where=name)
