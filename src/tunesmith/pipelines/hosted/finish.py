"""From a run's folder to what the API shows of it: model, checkpoints, verdict, result file. Reads JSON, no torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ...core import files
from ...jobs import told
from ...jobs.model import Outcome, Snapshot
from ...models.find import find
from ..recipe import RunSpec
from ..rundir import RunDir
from . import recipe as recipes

EARLIER = 2
"""Checkpoints that can be asked besides the final model."""
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
"""PEFT's names, as in `adapters/folders.py`, which loads torch."""
_TRAINABLE = "trainable.safetensors"
_PREFIX = "base_model.model."


def outcome(store_folder: Path, job_folder: Path, run_folder: Path, fence: int) -> Outcome:
    """What a finished run has become. May be called again: it then gives the same."""
    run = RunDir.open(run_folder)
    spec, facts = run.recipe(), run.read_json("run.json")
    figures = _by_step(run)
    kept = int(facts["kept_step"])
    every = recipes.steps_an_epoch(spec)
    steps = [step for step in _checkpoints(run) if step % every == 0 and step < kept][-EARLIER:]
    made = [_snapshot(store_folder, job_folder, run, spec, step, fence) for step in steps]
    final = Snapshot(
        kept, spec.base, str((run.path / "adapter").relative_to(store_folder)),
        told.checkpoint_metrics(figures[kept]) if kept in figures else {"step": kept},
    )  # fmt: skip
    return Outcome(
        run=str(run.path.relative_to(store_folder)), final=final, earlier=tuple(made),
        trained_tokens=int(facts["trained_tokens"]), verdict=_verdict(run),
        results=told.results([figures[step] for step in sorted(figures)]),
    )  # fmt: skip


def newest(store_folder: Path, job_folder: Path, run_folder: Path, fence: int) -> Snapshot | None:
    """The newest checkpoint of a run that is not finished, as a model."""
    if not (run_folder / "run.json").is_file():
        return None
    run = RunDir.open(run_folder)
    steps = _checkpoints(run)
    return _snapshot(store_folder, job_folder, run, run.recipe(), steps[-1], fence) if steps else None


def _checkpoints(run: RunDir) -> list[int]:
    found = run.checkpoints.glob("step-*") if run.checkpoints.is_dir() else ()
    return sorted(int(entry.name.partition("-")[2]) for entry in found if (entry / _TRAINABLE).is_file())


def _snapshot(store_folder: Path, job_folder: Path, run: RunDir, spec: RunSpec, step: int, fence: int) -> Snapshot:
    """A checkpoint's weights as an adapter in PEFT's layout. A checkpoint names them as PEFT does."""
    folder = job_folder / "models" / f"{fence}-step-{step}"
    figures = _by_step(run).get(step, {"step": step})
    if not folder.exists():
        temporary = files.beside(files.make_folder(folder.parent) / folder.name)
        with files.writing(folder):
            temporary.mkdir()
            header, body = _read_tensors(run.checkpoints / f"step-{step}" / _TRAINABLE)
            _write_tensors(temporary / WEIGHTS, header, body)
            config = run.path / "adapter" / CONFIG
            if config.is_file():
                shutil.copy(config, temporary / CONFIG)
            else:
                files.write_json(temporary / CONFIG, _peft_config(spec, list(header)))
            files.put_folder(temporary, folder)
    return Snapshot(
        step, spec.base, str(folder.relative_to(store_folder)), told.checkpoint_metrics(figures)
    )  # fmt: skip


def _read_tensors(path: Path) -> tuple[dict[str, Any], bytes]:
    """The header and the numbers of a safetensors file: 8 bytes of the header's length, JSON, numbers."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    return header, content[8 + length :]


def _write_tensors(path: Path, header: dict[str, Any], body: bytes) -> None:
    """The same numbers under a header that says what PEFT looks for."""
    text = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
    text += b" " * (-len(text) % 8)
    files.write_bytes(path, len(text).to_bytes(8, "little") + text + body)


def _peft_config(spec: RunSpec, names: list[str]) -> dict[str, Any]:
    """What `adapters/lora.py` writes beside an adapter, from the recipe and the tensors' names."""
    base, adapter = find(spec.base), spec.adapter.model_dump()
    layers = {name.removeprefix(_PREFIX).partition(".lora_")[0].rpartition(".")[2] for name in names}
    return {
        "base_model_name_or_path": base.name, "bias": "none",
        "fan_in_fan_out": base.config().get("model_type") == "gpt2",
        "inference_mode": True, "init_lora_weights": True, "lora_alpha": adapter["alpha"],
        "lora_dropout": adapter["dropout"], "modules_to_save": None, "peft_type": "LORA", "r": adapter["r"],
        "target_modules": sorted(layers), "task_type": "SEQ_2_SEQ_LM" if base.encoder_decoder else "CAUSAL_LM",
        "use_dora": adapter["dora"], "use_rslora": adapter["rslora"],
    }  # fmt: skip


def _by_step(run: RunDir) -> dict[int, dict[str, Any]]:
    """All figures of each step: those of its training and of its validation together."""
    found: dict[int, dict[str, Any]] = {}
    for row in run.read_lines("metrics.jsonl"):
        found[row["step"]] = found.get(row["step"], {}) | row
    return found


def _verdict(run: RunDir) -> dict[str, Any] | None:
    """What the gate said; None where nothing was compared."""
    if not (run.path / "evaluation.json").is_file():
        return None
    facts = run.read_json("evaluation.json")
    return {"passed": facts["verdict"] == "pass", "reasons": facts["reasons"]}
