"""From the name of a base to its folder, with an error that names the mend. Loads no torch."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import fingerprints
from ..core.errors import ContentError, MissingError, nearest

BUNDLED = Path(__file__).parent / "bundled"
DEFAULT = "bundled/tunesmith-8m"
HUB_SECONDS = 4.0
"""How long a hub may stay silent before it counts as out of reach."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json",
                    "tokenizer.model", "vocab.json", "merges.txt"]  # fmt: skip


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
        """The longest sequence in tokens, where the config tells."""
        config = self.config()
        for key in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"):
            if isinstance(config.get(key), int):
                return int(config[key])
        return None

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


def find(name: str, relative_to: Path | None = None) -> Base:
    """The base called `name`: bundled, else a local folder, else a hub id (from the local cache, then the hub).

    Raises MissingError (exit 4) when there is none or the hub cannot be reached.
    """
    if name.startswith("bundled/"):
        folder = BUNDLED / name.removeprefix("bundled/")
        if name not in bundled_names():
            raise MissingError(f"no bundled base '{name}'", mend=nearest(name, bundled_names()))
        return Base(name, folder)
    for folder in _candidates(name, relative_to):
        if folder.exists():
            return Base(name, _checked(folder))
    if _HUB_ID.fullmatch(name) and not name.startswith("."):
        return Base(name, _checked(_from_hub(name)))
    raise MissingError(
        f"no base '{name}'", why="it is neither a bundled name, nor a folder, nor a hub id (owner/name)",
        mend=f"use {DEFAULT}, or the path of a Hugging Face model folder",
    )  # fmt: skip


def _candidates(name: str, relative_to: Path | None) -> list[Path]:
    path = Path(name).expanduser()
    return [path] if path.is_absolute() or relative_to is None else [relative_to / path, path]


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise MissingError(
            f"{folder} is no model folder", why="it holds no config.json",
            mend=f"name a folder in the Hugging Face layout, or use {DEFAULT}",
        )  # fmt: skip
    if not any(folder.glob("*.safetensors")):
        raise MissingError(
            f"{folder} holds no weights in safetensors", why="pickled weights are never loaded",
            mend="convert them: save_pretrained(..., safe_serialization=True)",
        )  # fmt: skip
    return folder


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "merges.txt"]
    try:
        return Path(snapshot_download(name, local_files_only=True, allow_patterns=wanted))
    except LocalEntryNotFoundError:
        pass
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise MissingError(
            f"base '{name}' is not in the local cache, and HF_HUB_OFFLINE forbids to fetch it",
            mend=f"unset HF_HUB_OFFLINE, or use {DEFAULT} or a local folder",
        )
    try:
        _ask_hub(name)
        return Path(snapshot_download(name, allow_patterns=wanted))
    except MissingError:
        raise
    except HfHubHTTPError as error:
        raise MissingError(
            f"the hub has no base '{name}' for you", why=str(error).splitlines()[0],
            mend="check the name; for a gated model accept its terms and set HF_TOKEN",
        ) from error  # fmt: skip
    except Exception as error:  # whatever a transport raises: the person needs one sentence
        raise _unreachable(name, error) from error


def _ask_hub(name: str) -> None:
    """One short request in a thread of its own: name look-ups and proxies ignore a client's time-outs."""
    from concurrent.futures import ThreadPoolExecutor
    from concurrent.futures import TimeoutError as TooLate

    from huggingface_hub import HfApi

    pool = ThreadPoolExecutor(1)
    try:
        pool.submit(HfApi().model_info, name, timeout=HUB_SECONDS).result(HUB_SECONDS)
    except TooLate as error:
        raise _unreachable(name, error) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _unreachable(name: str, error: BaseException) -> MissingError:
    why = (str(error).splitlines() or [""])[0] or f"no answer within {HUB_SECONDS:g} s"
    return MissingError(
        f"the model hub cannot be reached for base '{name}'", why=why,
        mend=f"use the bundled base {DEFAULT} or a local folder; with the model in the cache set HF_HUB_OFFLINE=1",
    )  # fmt: skip
