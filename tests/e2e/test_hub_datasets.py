"""Data sets of the hub, against a small server that answers as the hub does. Everything happens on this machine."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith.core.errors import ContentError
from tunesmith.core.patience import within
from tunesmith.data import hub
from tunesmith.data.hub import Reference, chosen
from tunesmith.data.load import load

COMMIT = "c" * 40
SOON = 15.0
"""Seconds: the 4 that a hub is given, and the start of Python on a busy machine."""


def parquet(first: int, count: int, **columns: Any) -> bytes:
    numbers = range(first, first + count)
    out = io.BytesIO()
    table = {"question": [f"What is {i}?" for i in numbers], "answer": [f"It is {i}." for i in numbers]} | columns
    pq.write_table(pa.table(table), out)
    return out.getvalue()


class Hub(http.server.BaseHTTPRequestHandler):
    """One public data set in two files, one that needs a name, one that has no Parquet form."""

    files: ClassVar[dict[str, bytes]] = {
        "default/train/0000.parquet": parquet(0, 30),
        "default/train/0001.parquet": parquet(30, 12),
        "default/test/0000.parquet": parquet(100, 5),
        "other/train/0000.parquet": parquet(200, 3),
    }
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        self.asked.append(self.path)
        prefix = f"/datasets/some/rows/resolve/{COMMIT}/"
        if self.path == "/api/datasets/some/rows/revision/refs%2Fconvert%2Fparquet":
            siblings = [{"rfilename": name} for name in (".gitattributes", *self.files)]
            self._send(200, json.dumps({"id": "some/rows", "sha": COMMIT, "siblings": siblings}).encode(), body)
        elif self.path.startswith(prefix):
            self._send(200, self.files[self.path.removeprefix(prefix)], body)
        else:
            code = "RevisionNotFound" if "some/raw" in self.path else "RepoNotFound"
            self._send(404, b"{}", body, {"X-Error-Code": code})

    def _send(self, status: int, content: bytes, body: bool, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {"Content-Length": str(len(content)), "X-Repo-Commit": COMMIT} | (more or {})
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Hub.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()


def fetched(home: Path, endpoint: str, name: str, offline: str = "0") -> subprocess.CompletedProcess[str]:
    """`local` in a process of its own, for the hub's client reads the environment when it is loaded."""
    code = (
        "import sys\nfrom tunesmith.core.errors import TunesmithError\nfrom tunesmith.data.hub import local\n"
        "try:\n    print(local(sys.argv[1]))\nexcept TunesmithError as e:\n    print(e, file=sys.stderr)\n"
        "    sys.exit(e.exit_code)"
    )
    environment = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": offline}
    return subprocess.run(
        [sys.executable, "-c", code, name], capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment, "HF_HUB_DISABLE_XET": "1"},
    )  # fmt: skip


def test_a_split_of_several_files_becomes_one_that_is_kept(tmp_path: Path, server: str) -> None:
    done = fetched(tmp_path, server, "hf://some/rows")
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    assert path == tmp_path / "tunesmith/datasets/some/rows/-/rows-train.parquet"
    rows = load(path)
    assert [row.answer() for row in rows.examples] == [f"It is {i}." for i in range(42)]
    assert rows.examples[40].origin == "rows-train.parquet:41"
    asked = len(Hub.asked)
    again = fetched(tmp_path, "http://127.0.0.1:9", "hf:/some/rows?split=train", offline="1")
    assert (again.returncode, again.stdout) == (0, done.stdout), "what was fetched once needs no hub"
    assert len(Hub.asked) == asked
    assert sorted(p.name for p in path.parent.iterdir()) == ["rows-train.parquet"]


def test_another_split_and_configuration(tmp_path: Path, server: str) -> None:
    done = fetched(tmp_path, server, "hf://some/rows/other")
    assert load(Path(done.stdout.strip())).examples[0].answer() == "It is 200."
    done = fetched(tmp_path, server, "hf://some/rows/default?split=test")
    path = Path(done.stdout.strip())
    assert (path.name, load(path).rows) == ("rows-test.parquet", 5)
    assert not any("train" in name for name in Hub.asked if "default" in name), "only what is needed is fetched"


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("hf://some/absent", 4, "the hub has no data set some/absent for you"),
        ("hf://some/raw", 4, "the hub has no Parquet form of the data set some/raw"),
        ("hf://some/rows?split=tets", 3, "did you mean 'test'"),
        ("hf://some/rows/othr", 3, "did you mean 'other'"),
        ("hf://rows", 3, "names no data set of the hub"),
        ("hf://some/rows/../../etc", 3, "names no data set of the hub"),
    ],
)
def test_what_the_hub_has_not(tmp_path: Path, server: str, name: str, code: int, says: str) -> None:
    done = fetched(tmp_path, server, name)
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr
    assert "mend" in done.stderr
    assert not (tmp_path / "tunesmith").exists()


@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "never answers"])
def test_a_hub_out_of_reach_is_told_soon(tmp_path: Path, silent: bool) -> None:
    with socket.socket() as quiet:
        quiet.bind(("127.0.0.1", 0))
        quiet.listen()
        port = quiet.getsockname()[1] if silent else 9
        started = time.monotonic()
        done = fetched(tmp_path, f"http://127.0.0.1:{port}", "hf://some/rows")
        assert time.monotonic() - started < SOON
    assert done.returncode == 4
    assert "the hub cannot be reached for the data set hf://some/rows?split=train" in done.stderr


def test_offline_is_offline(tmp_path: Path, server: str) -> None:
    done = fetched(tmp_path, server, "hf://some/rows", offline="1")
    assert (done.returncode, "HF_HUB_OFFLINE forbids" in done.stderr) == (4, True)
    assert Hub.asked == []


def test_a_recipe_names_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.pipelines.check import Request, check_files, check_recipe

    monkeypatch.setattr(hub.constants, "HF_HOME", str(tmp_path / "hf"))
    kept = Reference.of("hf://some/rows").kept
    kept.parent.mkdir(parents=True)
    kept.write_bytes(parquet(0, 20))
    test = Reference.of("hf://some/rows/default?split=test").kept
    test.parent.mkdir(parents=True)
    test.write_bytes(parquet(50, 6))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text('data: {train: hf://some/rows, test: "hf://some/rows/default?split=test", validation: 0}\n')
    audit = check_recipe(recipe).audit
    assert [(f.path, f.format, f.rows) for f in audit.files] == [
        ("hf://some/rows", "question_answer", 20), ("hf://some/rows/default?split=test", "question_answer", 6)
    ]  # fmt: skip
    assert "outside_folder" not in {f.code for f in audit.findings}
    loose = check_files(Request([Path("hf://some/rows")]))
    assert loose.audit.files[0].rows == 20


@pytest.mark.parametrize(
    ("names", "wanted", "found"),
    [
        (["default/train/0000.parquet", "a/train/0000.parquet"], "hf://o/n", ["default/train/0000.parquet"]),
        (["a/train/0001.parquet", "a/train/0000.parquet", "README.md"], "hf://o/n",
         ["a/train/0000.parquet", "a/train/0001.parquet"]),
        (["a/train/0.parquet", "b/train/0.parquet"], "hf://o/n", "several configurations: a, b"),
        (["a/partial-train/0.parquet"], "hf://o/n", "no split 'train'"),
        (["a/partial-train/0.parquet"], "hf://o/n?split=partial-train", ["a/partial-train/0.parquet"]),
        (["README.md", "data.csv"], "hf://o/n", "no rows in Parquet"),
    ],
)  # fmt: skip
def test_which_files_are_a_split(names: list[str], wanted: str, found: list[str] | str) -> None:
    if isinstance(found, list):
        assert chosen(names, Reference.of(wanted)) == found
    else:
        with pytest.raises(ContentError, match=found):
            chosen(names, Reference.of(wanted))


def test_files_that_do_not_go_together_leave_nothing(tmp_path: Path) -> None:
    for name, content in (("a", parquet(0, 3)), ("b", parquet(3, 3, answer=[[1], [2], [3]]))):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ContentError, match="cannot be joined"):
        hub.keep([tmp_path / "a", tmp_path / "b"], tmp_path / "out.parquet")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_patience() -> None:
    def fails() -> None:
        raise KeyError("x")

    assert within(5, lambda: 7) == 7
    with pytest.raises(KeyError):
        within(5, fails)
    with pytest.raises(TimeoutError, match=r"no answer within 0[.]05 s"):
        within(0.05, lambda: time.sleep(1))
