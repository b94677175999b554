"""Files that are damaged, huge, or made to do harm: a clear reason, soon, in little memory; the rest is still read."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tunesmith.core.errors import ContentError, MissingError
from tunesmith.data.load import Loaded, load
from tunesmith.data.raw import MIB, Limits

GOOD = b'{"prompt": "2+2", "completion": "4"}\n'
SECONDS = 30.0
"""Far more than any takes: a busy machine is no failure."""
_CHILD = """
import json, resource, sys
from pathlib import Path
from tunesmith.data.load import load
from tunesmith.core.errors import TunesmithError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    loaded = load(Path(sys.argv[1]))
    told = {"rows": len(loaded.records), "problems": [p.place + ": " + p.reason for p in loaded.problems]}
except TunesmithError as error:
    told = {"error": str(error)}
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps(told | {"mib": (after - before) / 1024}))
"""


def written(folder: Path, content: bytes, name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def in_a_process(path: Path) -> dict[str, Any]:
    """What loading says, and how many MiB it took, in a process of its own."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path)], capture_output=True, text=True, timeout=300, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert time.monotonic() - started < SECONDS
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def reasons(loaded: Loaded) -> list[tuple[int, str]]:
    return [(p.line, p.reason) for p in loaded.problems]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_a_compressed_file_that_is_cut_off_is_read_up_to_there(tmp_path: Path, pack: Any) -> None:
    letters = random.Random(1)
    lines = [json.dumps({"prompt": letters.random(), "completion": "4"} | {"prompt": f"{letters.random()}"}).encode()
             for _ in range(20_000)]  # fmt: skip
    content = pack(b"\n".join(lines))
    loaded = load(written(tmp_path, content[: len(content) // 2]))
    assert 5_000 < len(loaded.records) < 15_000
    [(line, reason)] = reasons(loaded)
    assert line == len(loaded.records) + 1
    assert "ends in the middle: it was cut off" in reason


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_a_compressed_file_with_damage(tmp_path: Path, pack: Any) -> None:
    content = bytearray(pack(b"".join(GOOD.replace(b"2+2", b"%d" % (n * 7919 % 10007)) for n in range(9_000))))
    content[len(content) // 2] ^= 0xFF
    loaded = load(written(tmp_path, bytes(content)))
    assert loaded.problems, "the damage went unseen"
    with pytest.raises(ContentError, match=r"cannot be read|is empty"):
        load(written(tmp_path, pack(GOOD)[:9]))


def test_a_cut_array_in_gzip_gives_the_items_before_the_cut(tmp_path: Path) -> None:
    items = gzip.compress(json.dumps([{"prompt": str(n), "completion": "x"} for n in range(5000)]).encode())
    loaded = load(written(tmp_path, items[:-2000]))
    [problem] = loaded.problems
    assert "ends in the middle: it was cut off" in problem.reason
    assert problem.line == len(loaded.records) + 1 > 2000
    assert loaded.records[-1].prompt()[0].content == str(len(loaded.records) - 1)  # type: ignore[union-attr, operator]


def test_utf16_without_a_mark_is_named(tmp_path: Path) -> None:
    for encoding in ("utf-16-le", "utf-16-be"):
        with pytest.raises(ContentError, match="is not in UTF-8") as refused:
            load(written(tmp_path, GOOD.decode().encode(encoding)))
        assert f"iconv -f {encoding.replace('utf-16-', 'UTF-16').upper()}" in (refused.value.mend or "")


@pytest.mark.parametrize("name", ["data.jsonl", "data.csv", "data.txt"])
def test_latin_1_is_a_bad_row_and_the_rest_is_read(tmp_path: Path, name: str) -> None:
    texts = {
        "data.jsonl": GOOD + '{"prompt": "café", "completion": "x"}\n'.encode("latin-1") + GOOD,
        "data.csv": b"prompt,completion\n1,2\n" + "café,x\n".encode("latin-1") + b"3,4\n",
        "data.txt": b"Customer: a\nAgent: b\n---\nCustomer: " + "café\nAgent: c\n---\n".encode("latin-1")
        + b"Customer: a\nAgent: b\n",
    }  # fmt: skip
    loaded = load(written(tmp_path, texts[name], name))
    assert len(loaded.records) == 2
    [(_, reason)] = reasons(loaded)
    assert "UTF-8" in reason


def long_line(mib: int) -> bytes:
    return GOOD + b'{"prompt": "' + b"x" * (mib * MIB) + b'", "completion": "y"}\n' + GOOD


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
def test_a_line_beyond_the_limit_is_passed_over(tmp_path: Path, pack: Any) -> None:
    loaded = load(written(tmp_path, pack(long_line(20))), limits=Limits(row=4 * MIB))
    assert reasons(loaded) == [(2, "the line is longer than 4 MB")]
    assert [r.origin for r in loaded.records] == ["data.jsonl:1", "data.jsonl:3"]


@pytest.mark.slow
def test_a_line_of_200_mb_takes_no_200_mb(tmp_path: Path) -> None:
    told = in_a_process(written(tmp_path, long_line(200)))
    assert told["rows"] == 2
    assert told["problems"] == ["data.jsonl:2: the line is longer than 64 MB"]
    assert told["mib"] < 150


@pytest.mark.parametrize("name", ["data.csv", "data.txt"])
def test_long_lines_in_tables_and_texts(tmp_path: Path, name: str) -> None:
    start = b"prompt,completion\n" if name == "data.csv" else b""
    content = start + b"1,2\n" + b"x" * 300_000 + b",y\n3,4\n"
    loaded = load(written(tmp_path, content, name), limits=Limits(row=100_000))
    assert [reason for _, reason in reasons(loaded)] == ["the line is longer than 0.0954 MB"]
    assert len(loaded.records) == 2


def test_an_open_quote_does_not_take_the_rest_with_it_in_silence(tmp_path: Path) -> None:
    loaded = load(written(tmp_path, b'prompt,completion\n1,2\n"3,4\n5,6\n', "data.csv"))
    assert len(loaded.records) == 1
    [(line, reason)] = reasons(loaded)
    assert (line, "not a row of a table" in reason) == (3, True)


def test_100_000_columns(tmp_path: Path) -> None:
    names = [f"c{n}" for n in range(100_000)]
    with pytest.raises(ContentError, match="100000 columns; at most 2000"):
        load(written(tmp_path, (",".join(names) + "\n" + ",".join("1" * 100_000) + "\n").encode(), "data.csv"))
    loaded = load(written(tmp_path, GOOD + json.dumps(dict.fromkeys(names, 1)).encode() + b"\n" + GOOD))
    assert reasons(loaded) == [(2, "an object has 100000 keys; at most 2000 are read")]
    assert len(loaded.records) == 2
    pq.write_table(pa.table({name: [1] for name in names[:5000]}), tmp_path / "data.parquet")
    with pytest.raises(ContentError, match="5000 columns; at most 2000"):
        load(tmp_path / "data.parquet")


@pytest.mark.parametrize("depth", [150, 1000, 10_000, 1_000_000])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_nested_deep(tmp_path: Path, depth: int, brackets: str) -> None:
    opening = "[" if brackets == "[]" else '{"a":'
    deep = opening * depth + "1" + brackets[1] * depth
    row = f'{{"prompt": "x", "completion": "y", "metadata": {{"m": {deep}}}}}\n'.encode()
    loaded = load(written(tmp_path, GOOD + row + GOOD))
    [(line, _)] = reasons(loaded)
    assert (line, len(loaded.records)) == (2, 2)
    assert load(written(tmp_path, b"[" + row + b"]", "data.json")).problems


def test_nul_bytes(tmp_path: Path) -> None:
    escaped = b'{"prompt": "a\\u0000b", "completion": "y"}\n'
    raw = b'{"prompt": "a\0b", "completion": "y"}\n'
    fine = b'{"prompt": "a\\\\u0000b", "completion": "y"}\n'
    loaded = load(written(tmp_path, GOOD + escaped + raw + fine + b"\0" * 50 + b"\n" + GOOD))
    assert [line for line, _ in reasons(loaded)] == [2, 3, 5]
    assert reasons(loaded)[0][1] == "a text holds a NUL character"
    assert len(loaded.records) == 3
    loaded = load(written(tmp_path, b"prompt,completion\n1,2\na\0b,c\n3,4\n", "data.csv"))
    assert reasons(loaded) == [(3, "a text holds a NUL character")]


def test_mixed_formats_in_one_file(tmp_path: Path) -> None:
    chat = b'{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}\n'
    loaded = load(written(tmp_path, GOOD + chat + b'{"chosen": "a", "rejected": "b"}\n' + b"1,2,3\n" + GOOD))
    assert len(loaded.records) == 2
    [chat_told, preference_told, table_told] = [reason for _, reason in reasons(loaded)]
    assert "this row is 'chat', the file is 'prompt_completion'" in chat_told
    assert "this row is 'preference'" in preference_told
    assert "invalid JSON" in table_told


def test_links_in_a_circle_and_into_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to("b.jsonl")
    (tmp_path / "b.jsonl").symlink_to("a.jsonl")
    (tmp_path / "c.jsonl").symlink_to("nowhere")
    for name in ("a.jsonl", "c.jsonl"):
        with pytest.raises(MissingError, match="leads nowhere, or in a circle"):
            load(tmp_path / name)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ContentError, match="not a file"):
            load(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04....", "zip archive"),
        (b"%PDF-1.7", "a PDF"),
        (b"BZh91AY", "bzip2"),
        (gzip.compress(gzip.compress(GOOD, mtime=0), mtime=0), "compressed twice"),
        (gzip.compress(b"PAR1....", mtime=0), "a compressed Parquet file"),
    ],
)
def test_what_is_packed_otherwise_is_named(tmp_path: Path, content: bytes, what: str) -> None:
    with pytest.raises(ContentError, match=what):
        load(written(tmp_path, content))


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_a_compressed_file_is_read_up_to_its_budget(tmp_path: Path, pack: Any) -> None:
    limits = Limits(expanded=len(GOOD) * 5000, expansion=1)
    loaded = load(written(tmp_path, pack(GOOD * 9000)), limits=limits)
    assert 1000 < len(loaded.records) <= 5000
    [(line, reason)] = reasons(loaded)
    assert (line, "grows beyond" in reason) == (len(loaded.records) + 1, True)


def zstd_bomb(path: Path) -> None:
    compressor = zstandard.ZstdCompressor().compressobj()
    with path.open("wb") as file:
        file.write(compressor.compress(GOOD))
        for _ in range(2000):
            file.write(compressor.compress(b" " * MIB))
        file.write(compressor.flush())


def gzip_bomb(path: Path) -> None:
    member = gzip.compress(b" " * (8 * MIB))
    path.write_bytes(gzip.compress(GOOD) + member * 100)


def repeated_value(path: Path) -> None:
    """80 kB that stand for 100 GB."""
    value = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), pa.array(["x" * MIB]))
    pq.write_table(pa.table({"text": value}), path, compression="zstd")


def repeated_in_a_row(path: Path) -> None:
    """One row: a list of the same long text a hundred thousand times."""
    value = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), pa.array(["x" * MIB]))
    table = pa.table({"text": pa.array(["fine", "bad"]), "more": pa.ListArray.from_arrays([0, 0, 100_000], value)})
    pq.write_table(table, path, compression="zstd")


def repeated_arrow(path: Path) -> None:
    value = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), pa.array(["x" * MIB]))
    table = pa.table({"text": value})
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


def many_rows(path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array(np.zeros(20_000_000, np.int8))}), path, compression="zstd")


def many_nulls(path: Path) -> None:
    """A list of nothing, twenty million times, in one row."""
    nulls = pa.ListArray.from_arrays([0, 20_000_000], pa.nulls(20_000_000))
    with pa.ipc.new_stream(path, pa.schema({"text": nulls.type})) as writer:
        writer.write_batch(pa.record_batch({"text": nulls}))


@pytest.mark.parametrize(
    "bomb", [zstd_bomb, gzip_bomb, repeated_value, repeated_in_a_row, repeated_arrow, many_rows, many_nulls]
)
def test_a_small_file_that_stands_for_a_huge_one(tmp_path: Path, bomb: Any) -> None:
    bomb(tmp_path / "bomb")
    told = in_a_process(tmp_path / "bomb")
    assert "grows beyond" in str(told) or "larger than 64 MB" in str(told) or "longer than 64 MB" in str(told), told
    assert told["mib"] < 900, told


@pytest.mark.parametrize("name", ["parquet", "arrow"])
@pytest.mark.parametrize("seed", range(12))
def test_damaged_columns_are_told(tmp_path: Path, name: str, seed: int) -> None:
    table = pa.table({"prompt": [f"q{n}" for n in range(500)], "completion": [f"a{n}" for n in range(500)]})
    path = tmp_path / "data"
    if name == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    content, letters = bytearray(path.read_bytes()), random.Random(seed)
    if seed % 2:
        content = content[: letters.randrange(10, len(content))]
    else:
        for _ in range(20):
            content[letters.randrange(8, len(content))] = letters.randrange(256)
    told = in_a_process(written(tmp_path, bytes(content), "damaged"))
    assert "unexpected" not in str(told)


def test_garbage_without_end_is_not_listed_without_end(tmp_path: Path) -> None:
    loaded = load(written(tmp_path, GOOD + b"x\n" * 5000), limits=Limits(problems=100))
    assert len(loaded.problems) == 101
    assert loaded.problems[-1].reason == "after 100 bad rows nothing more is read"
