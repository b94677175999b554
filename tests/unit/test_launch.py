"""The exit code of several processes: what one of them failed by wins over the others' having lost it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tunesmith.core.errors import InterruptedRunError
from tunesmith.pipelines import launch

END = "import os, sys; code = int(sys.argv[1]); os.kill(os.getpid(), -code) if code < 0 else sys.exit(code)"


def _launched(codes: Sequence[int], monkeypatch: pytest.MonkeyPatch) -> int:
    """Real processes that end with these codes."""

    def start(arguments: Sequence[str], rank: int, processes: int, port: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-S", "-c", END, str(codes[rank])])

    monkeypatch.setattr(launch, "_start", start)
    return launch.launch(["train"], len(codes))


@pytest.mark.parametrize(
    ("codes", "wanted"),
    [
        ((0, 0), 0),
        ((75, 1), 1),  # rank 0 only lost its peer
        ((1, 75), 1),
        ((75, 75, 3), 3),
        ((0, 7), 7),
        ((10, 0), 10),
        ((7, 1), 7),
        ((-signal.SIGKILL, 1), 1),
        ((75, 75), 75),
        ((130, 130), 130),
        ((130, 75), 130),
        ((0, 75), 75),
        ((75, -signal.SIGKILL), 75),
    ],
)
def test_an_error_of_one_process_is_the_error_of_all(
    codes: tuple[int, ...], wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _launched(codes, monkeypatch) == wanted


@pytest.mark.parametrize("codes", [(-signal.SIGKILL, 75), (-signal.SIGKILL, 0), (0, -signal.SIGKILL)])
def test_a_process_that_was_killed_can_be_resumed(codes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InterruptedRunError, match="was killed") as told:
        _launched(codes, monkeypatch)
    assert told.value.exit_code == 75


def test_after_a_shortage_all_start_again_and_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    tries, said = [[75, 76], [-signal.SIGTERM, 76], [0, 0]], list[str]()
    seen: list[Sequence[str]] = []

    def start(arguments: Sequence[str], rank: int, processes: int, port: int) -> subprocess.Popen[bytes]:
        seen.append(arguments)
        return subprocess.Popen([sys.executable, "-S", "-c", END, str(tries[(len(seen) - 1) // 2][rank])])

    monkeypatch.setattr(launch, "_start", start)
    assert launch.launch(["train"], 2, said.append) == 0
    assert seen == 2 * [["train"]] + 4 * [["train", "--resume"]]
    assert len(said) == 2


@pytest.mark.parametrize(("codes", "wanted"), [((76, 1), 76), ((3, 76), 3)])
def test_an_error_beside_a_shortage_ends_the_run(
    codes: tuple[int, ...], wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _launched(codes, monkeypatch) == wanted
