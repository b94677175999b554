"""`data convert`, rows of other kinds in a recipe, and columns of a recipe's source."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny
from tunesmith.data.load import load

Cli = Callable[..., tiny.Result]
ROW = {"prompt": "2+2?", "completion": "4"}
PAIR = {"prompt": "2+2?", "chosen": "4", "rejected": "5"}
CALLS = {
    "messages": [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": "{}"}}]},
    ]
}


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.mark.parametrize("ending", ["jsonl", "json", "jsonl.gz", "json.zst"])
def test_convert_there_and_back(tmp_path: Path, cli: Cli, ending: str) -> None:
    source = lines(tmp_path / "in.jsonl", ROW, ROW | {"id": 7})
    done = cli("data", "convert", source, "--to", "sharegpt", "--out", tmp_path / f"out.{ending}", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["read_as"], told["written_as"], told["rows"]) == ("prompt_completion", "sharegpt", 2)
    back = cli("data", "convert", tmp_path / f"out.{ending}", "--to", "prompt_completion", "--out", tmp_path / "b.json")
    assert "read as sharegpt (supervised)" in back.out
    assert json.loads((tmp_path / "b.json").read_text("utf-8")) == [ROW, ROW | {"metadata": {"id": 7}}]


def test_convert_writes_gzip_that_does_not_tell_the_time(tmp_path: Path, cli: Cli) -> None:
    source = lines(tmp_path / "in.jsonl", ROW)
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        assert cli("data", "convert", source, "--to", "chat", "--out", tmp_path / name).code == 0
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert b"messages" in gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes())


def test_convert_takes_columns_and_the_assistant(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "in.csv").write_text("frage,antwort\n1,2\n", "utf-8")
    columns = ("--column", "question=frage", "--column", "answer=antwort")
    assert (
        cli("data", "convert", tmp_path / "in.csv", "--to", "chat", "--out", tmp_path / "a.jsonl", *columns).code == 0
    )
    assert load(tmp_path / "a.jsonl").examples[0].answer() == "2"
    (tmp_path / "in.txt").write_text("Anna: 1\nBert: 2\n", "utf-8")
    named = ("--assistant", "Bert")
    assert cli("data", "convert", tmp_path / "in.txt", "--to", "chat", "--out", tmp_path / "b.jsonl", *named).code == 0
    assert load(tmp_path / "b.jsonl").examples[0].answer() == "2"


@pytest.mark.parametrize(
    ("rows", "arguments", "code", "says"),
    [
        ([ROW, CALLS], ["--to", "chat"], 3, ["in.jsonl:2", "one format a file"]),
        ([CALLS], ["--to", "instruction"], 3, ["in.jsonl:1", "no place for 'tool_calls' of messages[1]"]),
        ([PAIR], ["--to", "chat"], 3, ["in.jsonl:1", "a row of kind 'preference' cannot be written as 'chat'"]),
        ([ROW | {"n": 2**70}], ["--to", "chat", "--format", "prompt_completion"], 0, []),
        ([ROW], ["--to", "chatt"], 2, ["did you mean 'chat'", "sharegpt"]),
        ([ROW], ["--to", "chat", "--column", "x"], 2, ["KEY=NAME"]),
    ],
)
def test_convert_stops_rather_than_lose(
    tmp_path: Path, cli: Cli, rows: list[object], arguments: list[str], code: int, says: list[str]
) -> None:
    source, out = lines(tmp_path / "in.jsonl", *rows), tmp_path / "out.jsonl"
    done = cli("data", "convert", source, "--out", out, *arguments)
    assert done.code == code, done.err
    assert all(word in done.err for word in says), done.err
    assert out.exists() == (code == 0)


def test_convert_never_replaces(tmp_path: Path, cli: Cli) -> None:
    source = lines(tmp_path / "in.jsonl", ROW)
    assert cli("data", "convert", source, "--to", "chat", "--out", source).code == 6
    assert cli("data", "convert", source, "--to", "chat", "--out", tmp_path / "out.xlsx").code == 2
    assert json.loads(source.read_text("utf-8")) == ROW


@pytest.mark.parametrize(
    ("row", "kind", "method"),
    [
        (PAIR, "preference", "preference (dpo, simpo, ...) or reward"),
        (ROW | {"label": True}, "labelled", "preference (loss: kto)"),
        ({"prompt": "2+2?", "reference": "4"}, "prompt", "reinforcement learning, which is not there yet"),
        ({"text": "once upon a time"}, "text", "pretrain"),
    ],
)
def test_rows_of_another_kind_name_their_method(
    tmp_path: Path, cli: Cli, base: Path, row: object, kind: str, method: str
) -> None:
    source = lines(tmp_path / "in.jsonl", row)
    checked = cli("check", source, "--base", base, "--json")
    assert checked.code in (0, 3), checked.err
    told = {f["code"]: f["message"] for f in json.loads(checked.out)["findings"]}
    assert kind in told["other_method"]
    assert method in told["other_method"]
    recipe = {"base": str(base), "data": {"train": str(source), "validation": 0.0}}
    (tmp_path / "r.yaml").write_text(json.dumps(recipe), "utf-8")
    done = cli("train", tmp_path / "r.yaml", "--out", tmp_path / "run")
    assert done.code == 3, done.err
    assert f"holds rows of kind '{kind}'" in done.err
    assert f"these rows are for another method: {method}" in done.err


def test_check_lists_every_format(tmp_path: Path, cli: Cli) -> None:
    done = cli("check", lines(tmp_path / "in.jsonl", ROW), "--format", "share")
    assert done.code == 2
    assert all(name in done.err for name in ("sharegpt", "kto", "openai_preference", "transcript", "text"))


def test_a_recipe_names_columns(tmp_path: Path, cli: Cli, base: Path) -> None:
    recipe = tiny.write_task(tmp_path, base)
    rows = load(tmp_path / "train.jsonl").examples
    lines(tmp_path / "other.jsonl", *({"frage": e.prompt()[-1].content, "antwort": e.answer()} for e in rows))
    values = json.loads(recipe.read_text("utf-8"))
    values["data"]["train"] = {"path": "other.jsonl", "columns": {"question": "frage", "answer": "antwort"}}
    recipe.write_text(json.dumps(values), "utf-8")
    done = cli("check", recipe, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["files"][0]["format"] == "question_answer"
