"""`check --quick`: a seeded sample of lines under their own numbers, or a file's first rows, and said to be so."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith.core.errors import UsageError
from tunesmith.data import sample
from tunesmith.data.sample import Sampled, Sampler
from tunesmith.data.source import rows
from tunesmith.pipelines.check import Request, check_files
from tunesmith.pipelines.fix import fix


def known(_: list[str]) -> bool:
    return True


def taken(sampler: Sampler, path: Path) -> dict[int, Any]:
    return {raw.line: raw.reason or raw.value for raw in sampler(path, asked=None, known=known)}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.one_of(st.text("ab\u00e9", max_size=30), st.none()), min_size=1, max_size=40),
    block=st.integers(1, 60), size=st.integers(1, 45), ended=st.booleans(), seed=st.integers(0, 3),
)  # fmt: skip
def test_sampled_lines_are_the_files_own(
    texts: list[str | None], block: int, size: int, ended: bool, seed: int, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    lines = ['{"text": "first"}', *("" if t is None else json.dumps({"text": t}, ensure_ascii=False) for t in texts)]
    path = tmp_path / "rows.jsonl"
    path.write_bytes("\n".join(lines).encode() + (b"\n" if ended else b""))
    monkeypatch.setattr(sample, "_BLOCK", block)
    sampler = Sampler(size, seed)
    found = taken(sampler, path)
    every = {raw.line: raw.value for raw in rows(path, asked=None, known=known)}
    assert found.items() <= every.items()
    how = sampler.files[str(path)]
    total = path.read_bytes().count(b"\n") + (not path.read_bytes().endswith(b"\n"))
    assert (how.of, how.rows, how.estimated) == (total, min(size, total), False)
    if size >= total:
        assert found == every


def test_the_same_seed_draws_the_same_rows_from_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": str(i)}) + "\n" for i in range(2000)))
    first, again, other = (taken(Sampler(200, seed), path) for seed in (0, 0, 1))
    assert first == again
    assert first.keys() != other.keys()
    assert all(value == {"text": str(line - 1)} for line, value in first.items())
    thirds = [sum(low < line <= low + 667 for line in first) for low in (0, 667, 1334)]
    assert min(thirds) > 45, "the rows come from all over the file"


def test_bad_and_endless_lines_are_told_at_their_place(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n{"text": \n{"text": "' + "x" * 500 + '"}\n{"text": "b"}\n')
    sampler = Sampler(10)
    found = {
        raw.line: raw.reason or raw.value
        for raw in sampler(path, asked=None, known=known, limits=sample.Limits(row=100))
    }
    assert found[1] == {"text": "a"}
    assert found[4] == {"text": "b"}
    assert "invalid JSON" in found[2]
    assert "longer than" in found[3]


def test_of_other_files_the_first_rows_are_taken_and_the_rest_estimated(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"row {i:04}"}) for i in range(1000)]
    array, packed, small = tmp_path / "a.json", tmp_path / "a.jsonl.gz", tmp_path / "b.json"
    array.write_text("[" + ",\n".join(lines) + "]")
    packed.write_bytes(gzip.compress("\n".join(lines).encode()))
    small.write_text("[" + ",".join(lines[:5]) + "]")
    sampler = Sampler(50)
    assert list(taken(sampler, array)) == list(range(1, 51))
    assert list(taken(sampler, packed)) == list(range(1, 51))
    assert len(taken(sampler, small)) == 5
    how = sampler.files[str(array)]
    assert (how.rows, how.estimated, how.spread) == (50, True, False)
    assert how.of is not None
    assert 900 < how.of < 1300
    assert sampler.files[str(packed)] == Sampled(50, None, estimated=False, spread=False)
    assert sampler.files[str(small)] == Sampled(5, 5, estimated=False, spread=False)


def test_a_quick_check_says_that_it_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    made = [{"question": f"what is {i} in words", "answer": f"number {i}"} for i in range(300)]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    checked = check_files(Request([path], quick=True))
    assert checked.as_json()["quick"] == {str(path): {"rows": 300, "of": 300, "estimated": False, "spread": False}}
    monkeypatch.setattr(Sampler, "__init__", lambda self: vars(self).update(rows=120, seed=0, files={}))
    checked = check_files(Request([path], quick=True))
    facts = checked.as_json()
    assert facts["quick"] == {str(path): {"rows": 120, "of": 300, "estimated": False, "spread": True}}
    assert facts["rows"] == facts["tokens"]["rows"] == 120
    assert "quick" not in check_files(Request([path])).as_json()
    with pytest.raises(UsageError, match="needs all rows"):
        fix(Request([path], quick=True), checked, tmp_path / "out.jsonl")
