"""What the command line says of an error of the system that no part of it expected."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tunesmith.cli import main


def _ended(monkeypatch: pytest.MonkeyPatch, error: OSError) -> int:
    def fail(**_: Any) -> None:
        raise error

    monkeypatch.setattr(main, "app", fail)
    return main._run([])


def _error(number: int, path: Path | None) -> OSError:
    return OSError(number, os.strerror(number), *[str(path)] * (path is not None))


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.ENOSPC, 7, "cannot write "),
        (errno.EROFS, 7, "cannot write "),
        (errno.EDQUOT, 7, "cannot write "),
        (errno.EACCES, 7, "cannot read or write "),
        (errno.EPERM, 7, "cannot read or write "),
        (errno.EMFILE, 1, "unexpected: OSError"),
    ],
)
def test_the_exit_code_and_the_words(
    number: int, code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert _ended(monkeypatch, _error(number, tmp_path / "absent")) == code
    said = capsys.readouterr().err
    assert f"error: {words}" in said
    assert os.strerror(number) in said
    assert _ended(monkeypatch, _error(number, None)) == code


def test_a_file_that_is_there_and_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    secret = tmp_path / "secret"
    secret.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.F_OK)
    assert _ended(monkeypatch, _error(errno.EACCES, secret)) == 4
    assert f"error: cannot read {secret}" in capsys.readouterr().err
