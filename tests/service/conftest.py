"""An app in this process with keys of two projects, for tests of the server's routes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import House


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A server's app over a database of its own."""
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path / "home"))
    with House.open(tmp_path / "home") as made:
        yield made
