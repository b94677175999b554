"""Converting holds one row at a time, and what does not fit leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import tiny
from tunesmith.core.errors import ContentError
from tunesmith.data.load import load
from tunesmith.pipelines import convert


def test_a_row_is_written_before_the_next_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    as_json, write = convert.as_json, convert.files.write_pieces

    def counting(*parts: Any) -> bytes:
        made.append(parts)
        return as_json(*parts)

    def taking(path: Path, pieces: Iterable[bytes]) -> None:
        for number, piece in enumerate(pieces, start=1):
            assert len(made) == number
            assert piece.endswith(b"}\n")
        write(path, [b"end"])

    monkeypatch.setattr(convert, "as_json", counting)
    monkeypatch.setattr(convert.files, "write_pieces", taking)
    convert.convert(tiny.write_rows(tmp_path / "in.jsonl", tiny.rows(0, 9)), tmp_path / "out.jsonl", to="chat")
    assert len(made) == 9


def test_rows_that_do_not_fit_are_all_told_and_nothing_is_left(tmp_path: Path) -> None:
    rows = tiny.rows(0, 9)
    for place in (3, 7):
        rows[place]["messages"].append({"role": "user", "content": "and more?"})
    source = tiny.write_rows(tmp_path / "in.jsonl", rows)
    with pytest.raises(ContentError, match="2 of 9 rows") as caught:
        convert.convert(source, tmp_path / "new" / "out.jsonl", to="prompt_completion")
    assert "in.jsonl:4" in str(caught.value.why)
    assert "in.jsonl:8" in str(caught.value.why)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl"]
    done = convert.convert(source, tmp_path / "new" / "out.jsonl", to="chat")
    assert done.rows == len(load(tmp_path / "new" / "out.jsonl").records) == 9
