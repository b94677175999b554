"""A trained run to a folder that others load, with proof that it is the same model."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from ..core import files
from ..core.errors import ConflictError, TunesmithError
from ..evaluation.forgetting import general_rows
from ..models import load
from ..models.find import find
from . import bench as benches
from .rundir import RunDir

PROBE_ROWS, PROBE_TOKENS = 8, 96
LARGEST_DIFFERENCE = {"float32": 1e-3, "bfloat16": 2.0}
"""Logits may differ this much at most; bfloat16 keeps 8 bits, so merged weights are rounded."""


@dataclass(frozen=True)
class Parity:
    """Merged against adapter, on packaged text in float32: logits' largest difference, and equal best tokens."""

    tokens: int
    largest_difference: float
    same_best_token: float


def merged(path: Path, out: Path, *, dtype: str) -> Parity:
    """Write base + adapter as one plain model folder in `dtype`, read it back with transformers, compare.

    Raises ConflictError when `out` is there; TunesmithError, leaving nothing behind, when the two differ too much.
    """
    if out.exists():
        raise ConflictError(f"{out} is there already", mend="choose another --out, or remove it")
    run = RunDir.open(path)
    spec = run.recipe()
    exact = spec.model_copy(update={"training": spec.training.model_copy(update={"precision": "fp32"})})
    bench = benches.open_run(run, exact)
    rows = [row.cut(PROBE_TOKENS).input_ids for row in general_rows(bench.tokenizer, PROBE_TOKENS)[:PROBE_ROWS]]
    ids_BL = [torch.tensor(row, dtype=torch.long).unsqueeze(0) for row in rows]
    before = _logits(bench.model, ids_BL)
    bench.adapter.merge()
    files.make_folder(out.parent)
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.tmp")
    with files.writing(out):
        try:
            bench.model.to(getattr(torch, dtype)).save_pretrained(temporary)
            bench.tokenizer.save_pretrained(temporary)
            parity = _compare(before, _logits(_plain(temporary), ids_BL))
            _require(parity, dtype)
            temporary.rename(out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return parity


def stored_dtype(path: Path) -> str:
    """The type that the base's weights are stored in: what `--dtype auto` means."""
    spec = RunDir.open(path).recipe()
    config = find(spec.base).config()
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return name if name in LARGEST_DIFFERENCE else "float32"


def _plain(folder: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return model.to(load.device()).eval()


def _logits(model: Any, rows: list[torch.Tensor]) -> list[torch.Tensor]:
    device = next(model.parameters()).device
    with torch.inference_mode():
        return [model(input_ids=ids.to(device), use_cache=False).logits.float().cpu() for ids in rows]


def _compare(before: list[torch.Tensor], after: list[torch.Tensor]) -> Parity:
    pairs = list(zip(before, after, strict=True))
    tokens = sum(a.shape[1] for a, _ in pairs)
    largest = max(float((a - b).abs().max()) for a, b in pairs)
    same = sum(int((a.argmax(-1) == b.argmax(-1)).sum()) for a, b in pairs)
    return Parity(tokens, largest, same / tokens)


def _require(parity: Parity, dtype: str) -> None:
    if not parity.largest_difference <= LARGEST_DIFFERENCE[dtype]:
        raise TunesmithError(
            "the merged model is not the one that was trained",
            why=f"its logits differ by {parity.largest_difference:.3g}", mend="export with --dtype float32",
        )  # fmt: skip
