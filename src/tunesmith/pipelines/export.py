"""A trained run to a folder that others load, with proof that it is the same model."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

import torch

from ..core import files
from ..core.errors import ConflictError, ContentError, TunesmithError
from ..models import load
from ..models.find import find
from . import bench as benches
from .parity import Parities, Parity, Probe, in_fewer_bits, parity
from .rundir import RunDir

DTYPES = ("float32", "bfloat16")
LARGEST_DIFFERENCE = 1e-3
"""Of a logit between merged and unmerged model in float32: more than the order of sums explains."""


def merged(path: Path, out: Path, *, dtype: str) -> Parities:
    """Write base + adapter as one plain model folder in `dtype`, read it back with transformers, compare.

    Two things are required: in float32 the merged model gives the adapter's logits, and what transformers reads back
    is, number for number, what was merged. What rounding to `dtype` does to logits and answers is measured and
    returned, and what holding the merged model in fewer bits would.
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
    probe = Probe.of(bench, run, headed=spec.method.head is not None)
    before = probe.ask(bench.model)
    bench.adapter.merge()
    _require_merged(parity(before, probe.ask(bench.model)))
    files.make_folder(out.parent)
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with files.writing(out):
            bench.model.to(getattr(torch, dtype)).save_pretrained(temporary)
            bench.tokenizer.save_pretrained(temporary)
        plain = _plain(temporary, headed=spec.method.head is not None)
        _require_stored(bench.model, plain)
        found = Parities(parity(before, probe.ask(plain)), in_fewer_bits(plain, before, probe))
        with files.writing(out):
            temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return found


def stored_dtype(path: Path) -> str:
    """The type that the base's weights are stored in: what `--dtype auto` means."""
    spec = RunDir.open(path).recipe()
    config = find(spec.base).config()
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return name if name in DTYPES else "float32"


def _plain(folder: Path, *, headed: bool) -> Any:
    return load.from_folder(folder, torch.float32, headed=headed).to(load.device()).eval()


def _require_merged(found: Parity) -> None:
    if not found.largest_difference <= LARGEST_DIFFERENCE:
        raise TunesmithError(
            "the merged model is not the one that was trained",
            why=f"in float32 its logits differ by {found.largest_difference:.3g}", mend="use the adapter as it is",
        )  # fmt: skip


def _require_stored(written: Any, read: Any) -> None:
    """Every weight as transformers reads it back is the one that was written."""
    stored = read.state_dict()
    for name, weight in written.state_dict().items():
        if not torch.equal(weight.float(), stored[name].float()):
            raise TunesmithError("the merged folder does not hold what was written", where=name)
