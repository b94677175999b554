"""A fork server, a task of six steps, and runs of it that nothing disturbed."""

from __future__ import annotations

from collections.abc import Iterator

import faulty
import pytest

import tiny

TRAINING = {
    "epochs": 10, "max_steps": 6, "batch_size": 4, "learning_rate": 0.005, "checkpoint_every": 2, "evaluate_every": 3,
    "early_stopping": None, "precision": "fp32",
}  # fmt: skip


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[faulty.Ground]:
    """The server with everything imported. Do not change the runs."""
    folder = tmp_path_factory.mktemp("ground").resolve()
    recipe = tiny.write_task(folder / "task", tiny.base_folder(folder / "base"), training=TRAINING)
    server = faulty.Server(folder, faulty.compiled(folder) if faulty.compiler() else None)
    try:
        made = faulty.Ground(server, recipe, folder / "trained", folder / "whole")
        for command, out in (("train", made.trained), ("run", made.whole)):
            ended = server.learn(command, recipe, "--out", out)
            assert ended.code == 0, ended.said
        yield made
    finally:
        server.close()


@pytest.fixture
def shim(ground: faulty.Ground) -> faulty.Ground:
    """`ground`, with faults below the C library's calls; skips where they cannot be made."""
    if not faulty.compiler():
        pytest.skip("no C compiler (cc) on Linux: the faults made in Python stand in")
    return ground
