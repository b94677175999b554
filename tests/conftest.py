"""What several test files need: real data beside the repository, and the packaged tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and models beside the repository; skips where it is missing."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real data in {SHARED}, which is not on this machine")
    return SHARED


@pytest.fixture(scope="session")
def bundled_tokenizer() -> Any:
    """The tokenizer of the packaged base, loaded once. Do not change it."""
    from tunesmith.data.template import PLAIN_TEMPLATE
    from tunesmith.models.find import find
    from tunesmith.models.refs import DEFAULT
    from tunesmith.models.tokenizer import tokenizer

    return tokenizer(find(DEFAULT), PLAIN_TEMPLATE)
