"""A teacher's answers on disk, one line each, added as they come in: what was answered is never asked again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from ...core import files


@dataclass(frozen=True)
class Given:
    """An answer, and whether its author ended it."""

    text: str
    ended: bool


class AnswerFile:
    """The answers by the places of their rows. Without a path nothing is kept.

    The first line says what the answers belong to; those of other rows or of another teacher are not read. A last line
    that a kill cut short is written again.
    """

    def __init__(self, path: Path | None, identity: str):
        self.given: dict[int, Given] = {}
        self._path, self._identity = path, identity
        self._file: BinaryIO | None = None

    def __enter__(self) -> AnswerFile:
        if self._path is None:
            return self
        good = self._read(self._path)
        with files.writing(self._path):
            self._file = self._path.open("r+b" if good else "wb")
            self._file.truncate(good)
            self._file.seek(good)
            if not good:
                _write(self._file, [{"identity": self._identity}])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()

    def add(self, answers: Mapping[int, Given]) -> None:
        """Keep some more. OutputError where the disk takes no more."""
        if self._path and self._file:
            with files.writing(self._path):
                _write(self._file, [{"row": row, "text": a.text, "ended": a.ended} for row, a in answers.items()])
        self.given |= answers

    def _read(self, path: Path) -> int:
        """Take the answers up to the first line that is none; where that line begins, in bytes."""
        try:
            lines = path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return 0
        good = 0
        for number, line in enumerate(lines):
            try:
                told: Any = json.loads(line) if line.endswith(b"\n") else None
                if number == 0:
                    if told != {"identity": self._identity}:
                        return 0
                else:
                    self.given[int(told["row"])] = Given(str(told["text"]), bool(told["ended"]))
            except (ValueError, LookupError, TypeError):
                break
            good += len(line)
        return good


def _write(file: BinaryIO, lines: list[dict[str, object]]) -> None:
    file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
    file.flush()
