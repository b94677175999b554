"""Pre-training, the whole way: on a trained base, on one made from nothing, killed and resumed, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import processes
import tiny

Cli = Callable[..., tiny.Result]
SPEC = {
    "vocabulary": 300, "layers": 2, "hidden": 32, "heads": 4, "key_value_heads": 2, "intermediate": 56, "context": 64,
    "seed": 5,
}  # fmt: skip
FULL = {"type": "full"}


def _documents(first: int, count: int) -> list[dict[str, Any]]:
    """Little stories, and every fifth of them a conversation."""
    rows: list[dict[str, Any]] = []
    for number in range(first, first + count):
        name, thing = tiny.NAMES[number % 5], tiny.THINGS[number // 5 % 6]
        story = f"{name} had a {thing}. The {thing} was number {number}. " + f"{name} liked the {thing}. " * (
            number % 4
        )
        if number % 5 == 2:
            said = [("user", f"What has {name}, no {number}?"), ("assistant", f"A {thing}."), ("user", "Good.")]
            rows.append({"source": "talk", "messages": [{"role": role, "content": text} for role, text in said]})
        else:
            rows.append({"source": "story", "text": story})
    return rows


def _task(folder: Path, base: Path | str, method: Any = "pretrain", rows: Any = _documents, **sections: Any) -> Path:
    given = {"max_steps": 12, "learning_rate": 0.01, "evaluate_every": 4, "max_length": 48, "batch_size": 2}
    training = tiny.recipe(base)["training"] | given
    data = {"train": "train.jsonl", "validation": 0.1, "test": "test.jsonl"}
    gate = {"max_forgetting": None}
    recipe = tiny.write_task(folder, base, **{
        "method": method, "training": training, "data": data, "gate": gate,
        "evaluation": {"slices": ["source"]}} | sections)  # fmt: skip
    tiny.write_rows(folder / "train.jsonl", rows(0, 120))
    tiny.write_rows(folder / "test.jsonl", rows(200, 24))
    return recipe


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """A finished run. Do not change it."""
    folder = tmp_path_factory.mktemp("pretrain")
    done = tiny.tunesmith("run", _task(folder, base), "--out", folder / "run", "--json")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_text_is_learned_and_the_loss_decides(run: Path) -> None:
    evaluation = _read(run / "evaluation.json")
    assert [metric["name"] for metric in evaluation["metrics"]] == ["loss", "perplexity"]
    loss = evaluation["metrics"][0]
    assert loss["tuned"] < loss["base"] - 0.5
    assert loss["ci95"][1] < 0
    assert evaluation["verdict"] == "pass"
    assert evaluation["rows"] == 24, "a document is a row, packed or not"
    assert evaluation["outcomes"]["win"] == 24
    assert {part["value"] for part in evaluation["slices"]} == {"talk", "story"}
    facts = _read(run / "run.json")
    assert facts["tokens_per_s"] > 0
    steps = [line for line in _lines(run / "metrics.jsonl") if "learning_rate" in line]
    assert max(step["tokens"] for step in steps) == 2 * 48, "rows are full"
    [part] = _read(run / "data-audit.json")["mixture"]
    assert part["rows"] == 108, "documents, those held out for validation left out"


def test_the_page_shows_texts_and_losses_and_no_empty_answers(run: Path) -> None:
    page = (run / "report.html").read_text("utf-8")
    assert "pre-training on packed documents" in page
    assert "(empty)" not in page
    assert "<dt>Text</dt>" in page
    assert "<dt>Expected</dt>" not in page
    first = _lines(run / "predictions.jsonl")[0]
    assert (first["reference"], first["base"], first["tuned"]) == (None, None, None)
    assert f"Base, loss <b>{first['base_loss']:.3f}</b>" in page
    assert "wrong before and after" not in page


def test_it_writes_text(run: Path, cli: Cli) -> None:
    done = cli("generate", run, "--prompt", "Tom had", "--max-tokens", 4, "--json")
    assert done.code == 0, done.err


@pytest.mark.slow
@pytest.mark.parametrize("pack", ["documents", "stream"])
def test_killed_and_resumed_equals_uninterrupted(pack: str, run: Path, base: Path, tmp_path: Path, cli: Cli) -> None:
    recipe = _task(tmp_path, base, {"type": "pretrain", "pack": pack})
    whole = run
    if pack == "stream":
        whole = tmp_path / "whole"
        assert cli("run", recipe, "--out", whole).code == 0

    processes.require_killed_and_resumed_equals(whole, recipe, tmp_path, steps=7)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained base made of the documents. Do not change it."""
    folder = tmp_path_factory.mktemp("fresh")
    tiny.write_rows(folder / "train.jsonl", _documents(0, 120))
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC), "utf-8")
    done = tiny.tunesmith(
        "init", folder / "train.jsonl", "--from-scratch", folder / "spec.yaml", "--out", folder / "base"
    )
    assert done.returncode == 0, done.stderr
    assert "300 tokens from 120 rows" in " ".join(done.stdout.split())
    return folder / "base"


def test_from_nothing_to_a_model(fresh: Path, tmp_path: Path, cli: Cli) -> None:
    recipe = _task(tmp_path, fresh, adapter=FULL)
    training = ["--set", "training.learning_rate=auto", "--set", "training.optimizer=muon"]
    done = cli("run", recipe, "--out", tmp_path / "run", *training, "--set", "training.max_steps=30")
    assert done.code == 0, done.err
    loss = _read(tmp_path / "run/evaluation.json")["metrics"][0]
    assert loss["base"] == pytest.approx(math.log(300), abs=0.1), "random weights know nothing"
    assert loss["tuned"] < loss["base"] - 0.5
    lock = yaml.safe_load((tmp_path / "run/recipe.lock.yaml").read_text("utf-8"))
    assert lock["training"]["learning_rate"] == pytest.approx(1.9e-3), "Kaplan's rate, not that of fine-tuning"
    # What comes out is a base like any: its folder is tuned further, without being called untrained.
    more = _task(tmp_path / "more", tmp_path / "run/model")
    done = cli("train", more, "--out", tmp_path / "more/run", "--set", "training.max_steps=2")
    assert done.code == 0, done.err


def test_the_same_corpus_and_spec_give_the_same_bytes(fresh: Path, tmp_path: Path, cli: Cli) -> None:
    corpus, spec = fresh.parent / "train.jsonl", fresh.parent / "spec.yaml"
    made = cli("init", corpus, "--from-scratch", spec, "--out", tmp_path / "base")
    assert made.code == 0, made.err
    names = {path.name for path in fresh.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "from-scratch.json"} <= names
    for name in names:
        assert tiny.sha256(tmp_path / "base" / name) == tiny.sha256(fresh / name), name
    again = cli("init", corpus, "--from-scratch", spec, "--out", tmp_path / "base")
    assert again.code == 0, "it is there already, made of the same"
    spec.with_name("other.yaml").write_text(yaml.safe_dump(SPEC | {"seed": 6}), "utf-8")
    other = cli("init", corpus, "--from-scratch", spec.with_name("other.yaml"), "--out", tmp_path / "base")
    assert other.code == 6, other.err
    elsewhere = cli("init", corpus, "--from-scratch", spec.with_name("other.yaml"), "--out", tmp_path / "elsewhere")
    assert elsewhere.code == 0, elsewhere.err
    weights = "model.safetensors"
    assert tiny.sha256(tmp_path / "elsewhere" / weights) != tiny.sha256(fresh / weights)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"vocabulary": 5000}, ["the text gives", "5000", "set vocabulary to"]),
        ({"vocabulary": 200}, ["260", "vocabulary"]),
        ({"heads": 5}, ["hidden 32", "5 heads"]),
        ({"key_value_heads": 3}, ["4 heads", "3 key_value_heads"]),
        ({"hidden": 12}, ["width 3", "even"]),
        ({"layer": 2}, ["layer", "layers"]),
    ],
)
def test_a_base_that_cannot_be(wrong: Any, says: list[str], fresh: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC | wrong), "utf-8")
    done = cli(
        "init", fresh.parent / "train.jsonl", "--from-scratch", tmp_path / "spec.yaml", "--out", tmp_path / "base"
    )
    assert done.code == 3, done.err
    assert all(word in done.err for word in says), done.err
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]


@pytest.mark.parametrize(
    ("method", "rows", "says"),
    [
        ("pretrain", tiny.rows, ["kind 'supervised'", "format: text"]),
        ("sft", _documents, ["kind 'text'", "pretrain"]),
        ({"type": "pretrain", "rehearsal": {"rows": 4}}, _documents, ["no rehearsal", "general text"]),
        ({"type": "pretrain", "document_end": "<|end|>"}, _documents, ["document_end", "<|end|>", "</s>"]),
        ({"type": "pretrain", "pack": "docments"}, _documents, ["pack", "documents"]),
    ],
)
def test_rows_and_method_that_do_not_go_together(
    method: Any, rows: Any, says: list[str], base: Path, tmp_path: Path, cli: Cli
) -> None:
    done = cli("train", _task(tmp_path, base, method, rows), "--out", tmp_path / "run")
    assert done.code == 3, done.err
    assert all(word in done.err for word in says), done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"method": "sft"}, ["untrained", "pretrain"]),
        ({"adapter": {"type": "lora"}}, ["untrained", "full"]),
        ({"data": {"train": "train.jsonl", "curriculum": {"by": "length"}}, "adapter": FULL}, ["curriculum", "packed"]),
    ],
)
def test_what_an_untrained_base_cannot_do(
    sections: Any, says: list[str], fresh: Path, tmp_path: Path, cli: Cli
) -> None:
    rows = tiny.rows if sections.get("method") == "sft" else _documents
    done = cli(
        "train", _task(tmp_path, fresh, rows=rows, **{"method": "pretrain"} | sections), "--out", tmp_path / "run"
    )
    assert done.code == 3, done.err
    assert all(word in done.err for word in says), done.err


def test_an_encoder_decoder_is_refused_before_anything_is_read(tmp_path: Path, cli: Cli) -> None:
    recipe = _task(tmp_path, tiny.base_folder(tmp_path / "t5", "t5"))
    done = cli("train", recipe, "--out", tmp_path / "run")
    assert done.code == 3, done.err
    assert "encoder-decoder" in done.err


def test_a_file_of_conversations_and_texts_is_read_as_text_when_it_is_told_to(
    base: Path, tmp_path: Path, cli: Cli
) -> None:
    """The first row is a conversation: without a format it is a file of answers."""
    data = {"train": {"path": "train.jsonl", "format": "text"}}
    recipe = _task(tmp_path, base, data=data, rows=lambda first, count: _documents(first + 2, count))
    done = cli("train", recipe, "--out", tmp_path / "run", "--set", "training.max_steps=2")
    assert done.code == 0, done.err
    [file] = _read(tmp_path / "run/data-audit.json")["files"]
    assert (file["rows"], file["accepted"]) == (120, 120)
    checked = cli("check", recipe)
    assert checked.code == 0, checked.err
