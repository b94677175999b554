"""A model hub over HTTP: the local cache first, then one short question, then the download."""

from __future__ import annotations

import os
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from ..core.errors import MissingError
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
    """One short request. A daemon thread makes it: name look-ups and proxies ignore a client's time-outs."""
    outcome: Queue[Exception | None] = Queue()

    def ask() -> None:
        try:
            HfApi().model_info(name, timeout=HUB_SECONDS)
        except Exception as error:  # handed over, and raised where it was asked
            outcome.put(error)
        else:
            outcome.put(None)

    Thread(target=ask, daemon=True).start()
    try:
        error = outcome.get(timeout=HUB_SECONDS)
    except Empty as late:
        raise _unreachable(name, late) from late
    if error is not None:
        raise error


def _unreachable(name: str, error: BaseException) -> MissingError:
    why = (str(error).splitlines() or [""])[0] or f"no answer within {HUB_SECONDS:g} s"
    return MissingError(
        f"the model hub cannot be reached for base '{name}'", why=why,
        mend=f"use the bundled base {DEFAULT} or a local folder; with the model in the cache set HF_HUB_OFFLINE=1",
    )  # fmt: skip
