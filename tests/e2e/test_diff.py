"""`data diff` as a user meets it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from tunesmith.data.load import load

Cli = Callable[..., tiny.Result]


def written(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def row(number: int, answer: str = "", **more: Any) -> dict[str, Any]:
    return {"prompt": f"What is {number}?", "completion": answer or f"It is {number}."} | more


def test_what_changed_came_and_went(tmp_path: Path, cli: Cli) -> None:
    a = written(tmp_path / "a.jsonl", *(row(i) for i in range(6)), row(0))
    b = written(tmp_path / "b.jsonl", row(5), row(9), row(3, "It was 3."), row(2, source="x"), row(1), row(0))
    done = cli("data", "diff", a, b, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["counts"] == {"same": 3, "changed": 2, "only_a": 2, "only_b": 1}
    assert told["equal"] is False
    assert [(c["a"], c["b"], c["parts"], c["difference"]) for c in told["changed"]] == [
        ("a.jsonl:3", "b.jsonl:4", ["metadata.source"], {"metadata.source": "{+x+}"}),
        ("a.jsonl:4", "b.jsonl:3", ["answer"], {"answer": "It [-is-]{+was+} 3."}),
    ]
    assert [x["place"] for x in told["only_a"]] == ["a.jsonl:5", "a.jsonl:7"]
    assert told["only_b"] == [{"place": "b.jsonl:2", "text": "What is 9?  →  It is 9."}]
    shown = cli("data", "diff", a, b).out
    for words in (
        "same 3, changed 2, only in A 2, only in B 1", "a.jsonl:4 -> b.jsonl:3", "answer: It [-is-]{+was+} 3.",
        "only in A: 2\n  a.jsonl:5  What is 4?  →  It is 4.\n", told["a"]["root"][:12], told["b"]["root"][:12],
    ):  # fmt: skip
        assert words in shown, shown
    few = cli("data", "diff", a, b, "--show", 1)
    assert "changed (same prompt): 2, the first 1 of them" in few.out
    assert "a.jsonl:4" not in few.out
    assert cli("data", "diff", a, b, "--exit-code").code == 1


@pytest.mark.parametrize("to", ["chat", "sharegpt", "instruction"])
def test_another_format_order_and_name_are_no_change(tmp_path: Path, cli: Cli, to: str) -> None:
    a = written(tmp_path / "a.jsonl", *(row(i, id=i) for i in range(9)))
    assert cli("data", "convert", a, "--to", to, "--out", tmp_path / "b.json").code == 0
    rows = json.loads((tmp_path / "b.json").read_text("utf-8"))
    b = written(tmp_path / "b.jsonl", *rows[::-1])
    done = cli("data", "diff", a, b, "--exit-code")
    assert (done.code, "the same 9 rows in both" in done.out) == (0, True), done.out + done.err
    table = "".join(f'{r["id"]},"{r["prompt"]}",{r["completion"]}\n' for r in (row(i, id=i) for i in range(9)))
    (tmp_path / "c.csv").write_text(f"id,prompt,completion\n{table}", "utf-8")
    done = cli("data", "diff", b, tmp_path / "c.csv", "--exit-code", "--json")
    assert (done.code, json.loads(done.out)["equal"]) == (0, True), done.out


def test_rows_that_cannot_be_read_are_told_and_make_nothing_equal(tmp_path: Path, cli: Cli) -> None:
    a, b = written(tmp_path / "a.jsonl", row(1), "{broken"), written(tmp_path / "b.jsonl", row(1))
    done = cli("data", "diff", a, b, "--exit-code")
    assert done.code == 1
    assert "1 rows cannot be read and are not compared: a.jsonl:2: invalid JSON" in done.out


def test_what_cannot_be_compared(tmp_path: Path, cli: Cli) -> None:
    a = written(tmp_path / "a.jsonl", row(1))
    b = written(tmp_path / "b.jsonl", {"prompt": "x", "chosen": "y", "rejected": "z"})
    done = cli("data", "diff", a, b)
    assert (done.code, "of kind 'supervised'" in done.err, "of kind 'preference'" in done.err) == (3, True, True)
    assert cli("data", "diff", a, tmp_path / "absent.jsonl").code == 4


@pytest.mark.parametrize("name", ["gsm8k", "banking77"])
def test_real_files_are_equal_to_themselves_and_a_row_less_is_found(shared: Path, tmp_path: Path, name: str) -> None:
    from tunesmith.pipelines.diff import diff

    path = shared / "data" / name / "train.jsonl"
    lines = path.read_text("utf-8").rstrip("\n").split("\n")
    other = written(tmp_path / "other.jsonl", *lines[100:], *lines[:99])
    found = diff(path, other, show=5)
    assert found.counts == {"same": len(load(path).records) - 1, "changed": 0, "only_a": 1, "only_b": 0}
    assert found.only_a[0].place in (
        "train.jsonl:100",
        f"train.jsonl:{max(i for i, x in enumerate(lines, 1) if x == lines[99])}",
    )
    assert diff(path, path, show=5).equal
