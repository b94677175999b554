"""A model hub over HTTP: the local cache first, then one short question, then the download."""

from __future__ import annotations

import os
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from ..core.errors import MissingError
from ..core.patience import within
from .refs import DEFAULT

HUB_SECONDS = 4.0
"""How long a hub may stay silent before it counts as out of reach."""


def fetch(name: str) -> Path:
    """The local folder of a hub model: from the cache, else downloaded. MissingError when neither can be."""
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
        within(HUB_SECONDS, lambda: HfApi().model_info(name, timeout=HUB_SECONDS))
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


def _unreachable(name: str, error: BaseException) -> MissingError:
    why = (str(error).splitlines() or [""])[0] or type(error).__name__
    return MissingError(
        f"the model hub cannot be reached for base '{name}'", why=why,
        mend=f"use the bundled base {DEFAULT} or a local folder; with the model in the cache set HF_HUB_OFFLINE=1",
    )  # fmt: skip
