"""A smaller base out of a larger one: its first layers, its embeddings and its head. Loads no model, but to prove it.

Works on files: of every weight whose name holds a layer's number (the first number in it), those of later layers are
left out; config.json says the smaller number, and its lists with an entry for each layer are cut. What results is a
start for distillation, no model to talk to.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from ..core import files
from ..core.errors import ConflictError, ContentError
from .find import find
from .refs import Base
from .tokenizer import clear_errors

_NUMBER = re.compile(r"(?:^|\.)(\d+)\.")
_COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_INDEX = "model.safetensors.index.json"
_BESIDE = ("tokenizer*", "generation_config.json", "chat_template*", "special_tokens_map.json", "added_tokens.json",
           "vocab.json", "merges.txt")  # fmt: skip


def first_layers(base: str, n: int, out: Path) -> Path:
    """Write the first `n` layers of `base` (as a recipe names it) into the new folder `out`; gives it back.

    ContentError where the base has fewer layers, or is no decoder with one plain list of them; ConflictError where
    `out` is there already, OutputError where it cannot be written.
    """
    if out.exists():
        raise ConflictError(f"{out} is there already", mend="remove it, or name another folder")
    whole = find(base)
    config = _config(whole, n)
    files.make_folder(out.parent)
    temporary = files.beside(out)
    with files.writing(out):
        try:
            temporary.mkdir()
            _weights(whole.folder, temporary, n)
            (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
            for pattern in _BESIDE:
                for file in whole.folder.glob(pattern):
                    shutil.copyfile(file, temporary / file.name)
            _require_sound(Base(base, temporary))
            files.put_folder(temporary, out)
        except BaseException:
            files.discard(temporary)
            raise
    return out


def _config(base: Base, n: int) -> dict[str, Any]:
    """The base's config with `n` layers."""
    config = base.config()
    owner = config if _count(config) else config.get("text_config") or {}
    counted = _count(owner)
    if counted is None or base.encoder_decoder or "vision_config" in config:
        raise ContentError(
            f"base '{base.name}' has no one plain list of layers", mend="name a decoder that reads text alone"
        )
    key, layers = counted
    if not 1 <= n < layers:
        raise ContentError(f"base '{base.name}' has {layers} layers: its first {n} make no smaller one")
    owner |= {name: value[:n] for name, value in owner.items() if _of_layers(name, value, layers)} | {key: n}
    return config


def _count(config: dict[str, Any]) -> tuple[str, int] | None:
    """The key that says how many layers there are, and how many."""
    return next(((key, int(config[key])) for key in _COUNTS if isinstance(config.get(key), int)), None)


def _of_layers(name: str, value: Any, layers: int) -> bool:
    """Whether a key of a config has an entry for each layer (`layer_types`, `no_rope_layers`)."""
    return "layer" in name and isinstance(value, list) and len(value) == layers


def _weights(source: Path, target: Path, n: int) -> None:
    """The files of weights without those of later layers, one file at a time."""
    places: dict[str, str] = {}
    size = 0
    for file in sorted(source.glob("*.safetensors")):
        kept = {name: tensor for name, tensor in load_file(file).items() if _stays(name, n)}
        if kept:
            save_file(kept, target / file.name, metadata={"format": "pt"})
        places |= dict.fromkeys(kept, file.name)
        size += sum(tensor.nbytes for tensor in kept.values())
    if (source / _INDEX).is_file():
        index = {"metadata": {"total_size": size}, "weight_map": places}
        (target / _INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def _stays(name: str, n: int) -> bool:
    found = _NUMBER.search(name)
    return found is None or int(found.group(1)) < n


def _require_sound(base: Base) -> None:
    """ContentError unless transformers finds every weight that it looks for, and no other."""
    with clear_errors(base, "first layers"):
        _, told = AutoModelForCausalLM.from_pretrained(
            base.folder, dtype="auto", trust_remote_code=False, local_files_only=True, output_loading_info=True
        )
    wrong = sorted({*told["missing_keys"], *told["unexpected_keys"]})
    if wrong:
        raise ContentError(
            f"the first layers of base '{base.name}' make no whole model",
            why=f"{len(wrong)} weights are missing or too many, as {wrong[0]}",
            mend="name a decoder with one plain list of layers",
        )
