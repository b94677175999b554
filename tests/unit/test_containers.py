"""The same rows in every packing; columns by other names; text files and transcripts."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tunesmith.core.errors import ContentError
from tunesmith.data.load import load
from tunesmith.data.raw import Limits

ROWS = [{"prompt": f"question {n}, é", "completion": f"answer\n{n}", "id": n} for n in range(100)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def as_csv(delimiter):
    def cell(value):
        return '"' + str(value).replace('"', '""') + '"'

    lines = [delimiter.join(ROWS[0]), *(delimiter.join(cell(v) for v in row.values()) for row in ROWS)]
    return "\r\n".join(lines).encode()


def parquet(path):
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=30)


def feather(path):
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(table, max_chunksize=30)


def stream(path):
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


PACKED = {
    "lines": LINES,
    "bom": b"\xef\xbb\xbf" + LINES,
    "array": json.dumps(ROWS, indent=1).encode(),
    "gzip": gzip.compress(LINES),
    "two gzips": gzip.compress(LINES[:-1]) + gzip.compress(LINES[-1:]),
    "zstd": zstandard.compress(LINES),
    "two zstds": zstandard.compress(LINES[:100]) + zstandard.compress(LINES[100:]),
    "gzip array": gzip.compress(json.dumps(ROWS).encode()),
    "csv": as_csv(","),
    "tsv": as_csv("\t"),
    "semicolons": as_csv(";"),
    "gzip csv": gzip.compress(as_csv(",")),
    "parquet": parquet,
    "feather": feather,
    "arrow stream": stream,
}


@pytest.mark.parametrize("name", ["data", "data.jsonl"])
@pytest.mark.parametrize("packed", PACKED)
def test_the_same_rows_in_every_packing(tmp_path, packed, name):
    if name == "data.jsonl" and ("csv" in packed or packed in ("tsv", "semicolons")):
        pytest.skip("a name that says JSON Lines is believed of a text")
    path, content = tmp_path / name, PACKED[packed]
    content(path) if callable(content) else path.write_bytes(content)
    loaded = load(path)
    assert loaded.problems == []
    assert loaded.format == "prompt_completion"
    assert [e.answer() for e in loaded.examples] == [row["completion"] for row in ROWS]
    assert [e.prompt()[0].content for e in loaded.examples] == [row["prompt"] for row in ROWS]
    assert [int(e.metadata["id"]) for e in loaded.examples] == list(range(100))
    assert all(e.origin.startswith(name + ":") for e in loaded.examples)


def test_a_table_says_on_which_line_a_row_begins(tmp_path):
    (tmp_path / "d.csv").write_text('question,answer\n"two\nlines",a\nonly one\nlast,z\n', "utf-8")
    loaded = load(tmp_path / "d.csv")
    assert [e.origin for e in loaded.examples] == ["d.csv:2", "d.csv:5"]
    assert [(p.place, p.reason) for p in loaded.problems] == [
        ("d.csv:4", "the row has 1 cells, but the header names 2")
    ]  # fmt: skip


def test_json_in_the_cells_of_a_table(tmp_path):
    messages = json.dumps([{"role": "user", "content": "a"}, {"role": "assistant", "content": '{"b": 1}'}])
    cell = messages.replace('"', '""')
    (tmp_path / "d.csv").write_text(f'messages,label,tools\n"{cell}",TRUE,\n"[",true,\n', "utf-8")
    loaded = load(tmp_path / "d.csv")
    assert (loaded.format, [row.label for row in loaded.records]) == ("kto", [True])
    assert "the cell 'messages' is not JSON" in loaded.problems[0].reason


def test_an_answer_of_json_stays_text_in_a_table(tmp_path):
    (tmp_path / "d.csv").write_text('prompt,completion\nx,"{""a"": 1}"\n', "utf-8")
    assert load(tmp_path / "d.csv").examples[0].answer() == '{"a": 1}'


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_columns_by_other_names(tmp_path, suffix):
    path = tmp_path / f"d.{suffix}"
    path.write_text("frage,antwort\n1,2\n" if suffix == "csv" else '{"frage": "1", "antwort": "2"}\n', "utf-8")
    loaded = load(path, columns={"prompt": "frage", "completion": "antwort"})
    assert loaded.format == "prompt_completion"
    assert loaded.examples[0].answer() == "2"
    assert "its keys are 'frage', 'antwort'" in load(path).problems[0].reason
    absent = load(path, columns={"prompt": "question", "completion": "antwort"}).problems[0].reason
    assert absent == "there is no column 'question'; the row has 'frage', 'antwort'"


def test_a_column_may_not_hide_another(tmp_path):
    (tmp_path / "d.jsonl").write_text('{"prompt": "p", "q": "x", "completion": "c"}', "utf-8")
    [problem] = load(tmp_path / "d.jsonl", columns={"prompt": "q"}).problems
    assert "names 'q' as 'prompt', but there is a 'prompt' too" in problem.reason
    swapped = load(tmp_path / "d.jsonl", columns={"prompt": "q", "completion": "prompt", "note": "completion"})
    assert swapped.examples[0].answer() == "p"


@pytest.mark.parametrize(("header", "why"), [("a,a", "two columns 'a'"), (",".join(map(str, range(9))), "9 columns")])
def test_a_header_that_is_none(tmp_path, header, why):
    (tmp_path / "d.csv").write_text(header + "\n1,2\n", "utf-8")
    with pytest.raises(ContentError, match=why):
        load(tmp_path / "d.csv", limits=Limits(columns=8))


def test_a_text_is_a_document_and_a_long_one_several(tmp_path):
    paragraphs = [f"# Part {n}\n\n" + "some words " * 20 + "\n" for n in range(50)]
    text = "\n".join(paragraphs)
    (tmp_path / "book.md").write_text(text, "utf-8")
    whole = load(tmp_path / "book.md")
    assert (whole.format, whole.kind, [row.text for row in whole.records]) == ("text", "text", [text])
    pieces = load(tmp_path / "book.md", limits=Limits(document=1000)).records
    assert len(pieces) > 5
    assert "".join(piece.text for piece in pieces) == text
    lines = text.split("\n")
    assert all(lines[int(p.origin.split(":")[1]) - 1] == p.text.split("\n")[0] for p in pieces)


def test_a_text_file_of_conversations(tmp_path):
    (tmp_path / "calls.txt").write_text("Customer: a\nAgent: b\n\n---\n[10:00] Customer: c\nAgent: d\n", "utf-8")
    loaded = load(tmp_path / "calls.txt")
    assert loaded.format == "transcript"
    assert [(e.origin, e.answer()) for e in loaded.examples] == [("calls.txt:1", "b"), ("calls.txt:5", "d")]


def test_who_the_assistant_is_and_what_a_text_is_can_be_said(tmp_path):
    path = tmp_path / "calls.txt"
    path.write_text("[10:00] Anna: a\n[10:01] Bert: b\n", "utf-8")
    assert load(path, assistant="Bert").examples[0].answer() == "b"
    assert load(path, format="text").kind == "text"
    (tmp_path / "d.jsonl").write_bytes(LINES)
    with pytest.raises(ContentError, match="'assistant' is only for transcripts"):
        load(tmp_path / "d.jsonl", assistant="Bert")
