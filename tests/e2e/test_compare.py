"""`tunesmith compare`: every way on the same rows, by the command line."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import tiny
from tunesmith.data import identity
from tunesmith.data.load import load
from tunesmith.models.cut import first_layers


class Echo(BaseHTTPRequestHandler):
    """An endpoint that always says "cat"."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        said = {"choices": [{"message": {"role": "assistant", "content": "cat"}, "finish_reason": "stop"}]}
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    """The URL of a running endpoint."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_every_way_that_can_be_had_stands_in_the_table(trained: Path, tmp_path: Path, endpoint: str) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/things.md").write_text("# Things\n\nTom has a ball. Lily has a cat. Sue has a dog.\n", "utf-8")
    done = tiny.tunesmith(
        "compare", trained / "recipe.lock.yaml", "--out", tmp_path / "table", "--run", run, "--docs",
        tmp_path / "docs", "--shots", 2, "--rows", 6, "--endpoint", endpoint, "--model", "big", "--price-hour", 3,
        "--price-in", 1, "--price-out", 2, "--system", "Say a thing.", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "table/compare.json").read_text("utf-8"))
    names = [way["name"] for way in found["ways"]]
    plain = ["prompt", "2-shot random", "2-shot BM25", "retrieval"]
    assert names == [*plain, "fine-tuned", "fine-tuned + retrieval", *(f"big, {name}" for name in plain)]
    by_name = {way["name"]: way for way in found["ways"]}
    assert by_name["2-shot BM25"]["tokens_in"] > by_name["prompt"]["tokens_in"] > 0
    assert by_name["fine-tuned"]["set_up_cost"] > 0 == by_name["prompt"]["set_up_cost"]
    for way in found["ways"]:
        low, high = way["metrics"]["exact_match"]["ci95"]
        assert low <= way["metrics"]["exact_match"]["value"] <= high
        assert way["cost_per_1000"] > 0
    assert found["recommendation"]["take"] in names
    assert found["recommendation"]["reasons"]


def test_a_distilled_model_has_a_row_of_its_own(
    trained: Path, base: Path, tmp_path: Path, cli: Callable[..., tiny.Result]
) -> None:
    student, run, small = tmp_path / "student", tmp_path / "run", tmp_path / "small"
    first_layers(str(base), 1, student)
    method = {"type": "distill", "teacher": str(trained)}
    training = {"max_steps": 2, "batch_size": 4, "learning_rate": 0.001, "precision": "fp32"}
    recipe = tiny.write_task(tmp_path / "task", student, method=method, adapter={"type": "full"}, training=training)
    assert cli("train", recipe, "--out", small).code == 0
    shutil.copytree(trained, run)
    asked = ("compare", trained / "recipe.lock.yaml", "--run", run, "--distilled", small, "--shots", 0, "--rows", 8,
             "--price-hour", 3, "--json")  # fmt: skip
    done = cli(*asked, "--out", tmp_path / "table")
    assert done.code == 0, done.err
    prompt, tuned, distilled = json.loads(done.out)["ways"]
    assert [way["name"] for way in (prompt, tuned, distilled)] == ["prompt", "fine-tuned", "distilled"]
    assert prompt["model"] == str(base)
    assert tuned["model"] == f"{base}, LoRA, rank 4, alpha 8"
    assert distilled["model"].startswith(f"{student}, ")
    assert distilled["memory_mb"] < prompt["memory_mb"] < tuned["memory_mb"]
    seconds = [json.loads((folder / "run.json").read_text("utf-8"))["train_seconds"] for folder in (small, run)]
    assert distilled["set_up_seconds"] == pytest.approx(sum(seconds)), "without its teacher there were none"
    assert distilled["set_up_cost"] == pytest.approx(3 * sum(seconds) / 3600)
    assert str(student) in (run / "report.html").read_text("utf-8")

    row = load(tmp_path / "task/test.jsonl").examples[0]
    with (small / "training-rows.tsv").open("a", encoding="utf-8") as rows:
        rows.write(f"{identity.digest(row).hex()}\t1\ttrain.jsonl:99\n")
    leaked = cli(*asked, "--out", tmp_path / "other")
    assert leaked.code == 3
    assert "1 of the test rows were among the training rows" in leaked.err


def test_what_cannot_be_had_is_absent(trained: Path, tmp_path: Path) -> None:
    recipe, table, run = trained / "recipe.lock.yaml", tmp_path / "table", tmp_path / "run"
    shutil.copytree(trained, run)
    done = tiny.tunesmith("compare", recipe, "--out", table, "--run", run, "--shots", 0, "--rows", 4)
    assert done.returncode == 0, done.stderr
    found = json.loads((table / "compare.json").read_text("utf-8"))
    assert [way["name"] for way in found["ways"]] == ["prompt", "fine-tuned"]
    assert all(way["cost_per_1000"] is None for way in found["ways"])
    assert "take:" in done.stdout
    assert f"report   {run / 'report.html'}" in done.stdout
    page = (run / "report.html").read_text("utf-8")
    assert "Other ways to the same task" in page
    assert f"Take: {found['recommendation']['take']}." in page
    assert "ways-wide" in page, "the chart"
    half = tiny.tunesmith("compare", recipe, "--out", tmp_path / "x", "--endpoint", "http://x")
    assert half.returncode == 2
    assert "belong together" in half.stderr
