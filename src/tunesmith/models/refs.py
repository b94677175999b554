"""Bases: the bundled ones, and what a base's folder tells. Loads neither torch nor transformers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import fingerprints
from ..core.errors import ContentError

BUNDLED = Path(__file__).parent / "bundled"
DEFAULT = "bundled/tunesmith-8m"
_TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json",
                    "tokenizer.model", "vocab.json", "merges.txt", "spiece.model", "added_tokens.json", "vocab.txt",
                    "chat_template.json"]  # fmt: skip


FRESH = "from-scratch.json"
"""In the folder of a base with random weights: what it was made of. No trained model has it."""


@dataclass(frozen=True)
class Base:
    """A base model's name as given, and the folder that holds it."""

    name: str
    folder: Path

    def config(self) -> dict[str, Any]:
        """The content of config.json."""
        try:
            content: dict[str, Any] = json.loads((self.folder / "config.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ContentError(f"cannot read {self.folder / 'config.json'}", why=str(error)) from error
        return content

    @property
    def context(self) -> int | None:
        """The longest sequence in tokens, where the config tells and the model is bound to it."""
        config = self.config()
        if "relative_attention_num_buckets" in config:  # T5: its n_positions notes the pre-training, and binds nothing
            return None
        for key in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"):
            if isinstance(config.get(key), int):
                return int(config[key])
        return None

    @property
    def untrained(self) -> bool:
        """Whether its weights are random: `tunesmith init --from-scratch` made it."""
        return (self.folder / FRESH).is_file()

    @property
    def encoder_decoder(self) -> bool:
        """Whether the config says that the model reads with an encoder and answers with a decoder."""
        return bool(self.config().get("is_encoder_decoder"))

    def fingerprint(self) -> str:
        """SHA-256 over config and weights."""
        weights = [p.name for p in self.folder.glob("*.safetensors")]
        return fingerprints.of_folder(self.folder, ["config.json", *weights])

    def tokenizer_fingerprint(self) -> str:
        """SHA-256 over the tokenizer's files."""
        return fingerprints.of_folder(self.folder, _TOKENIZER_FILES)


def bundled_names() -> list[str]:
    """The bases that come with the package."""
    return sorted(f"bundled/{p.name}" for p in BUNDLED.iterdir() if (p / "config.json").is_file())
