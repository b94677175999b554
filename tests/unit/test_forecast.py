"""The forecast of operations, memory and time, and the size of a base from its headers, beside the real things."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from tunesmith.adapters.config import FullSpec, LoraSpec
from tunesmith.cli import show
from tunesmith.core.errors import ContentError
from tunesmith.data.audit import TokenFacts
from tunesmith.models.find import find
from tunesmith.models.refs import DEFAULT, Base
from tunesmith.models.size import Size
from tunesmith.pipelines.check import Request, check_files, check_recipe
from tunesmith.pipelines.forecast import forecast, trained_parameters
from tunesmith.pipelines.recipe import RunSpec

TOKENS = TokenFacts(100, 10_000, labelled_tokens=2_000, length_p50=90, length_p95=200, length_max=300, truncated=0)
SIZE = Size(parameters=1300, body=1000, head=200, linear=(("a.q_proj.weight", 10, 20), ("a.up.weight", 30, 10)),
            layers=2, hidden=10, vocabulary=20)  # fmt: skip


def spec(**more: Any) -> RunSpec:
    return RunSpec.model_validate({"data": {"train": "x.jsonl"}, **more})


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen3-moe", "t5"])
def test_a_base_is_as_large_as_its_model(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    folder = tiny.base_folder(tmp_path / "base", kind)
    loader = AutoModelForSeq2SeqLM if kind in tiny.ENCODER_DECODERS else AutoModelForCausalLM
    model = loader.from_pretrained(folder)
    size = Size.of(Base("x", folder))
    assert size.parameters == sum(p.numel() for p in model.parameters())
    assert (size.hidden, size.vocabulary) == (32, model.config.vocab_size)
    assert size.layers == 2
    embedding = model.get_input_embeddings().weight.numel()
    assert size.head == embedding
    assert size.body < size.parameters - embedding + 1


def test_of_a_mixture_only_the_chosen_experts_count(tmp_path: Path) -> None:
    folder = tiny.base_folder(tmp_path / "base", "qwen3-moe")
    config = json.loads((folder / "config.json").read_text())
    bodies = []
    for chosen in (1, 2, 6):
        (folder / "config.json").write_text(json.dumps(config | {"num_experts": 6, "num_experts_per_tok": chosen}))
        bodies.append(Size.of(Base("x", folder)).body)
    one = 3 * 32 * 24 * 2  # gate, up and down of one expert in each of two layers
    assert bodies[1] - bodies[0] == one
    assert bodies[2] - bodies[1] == 4 * one


@pytest.mark.parametrize(
    "adapter", [LoraSpec(r=4), LoraSpec(r=4, dora=True), LoraSpec(r=4, targets=("q_proj", "up_proj"))]
)
def test_what_lora_trains_is_counted_as_it_is_built(adapter: LoraSpec) -> None:
    import torch

    from tunesmith.models.load import model

    base, built = find(DEFAULT), adapter.build()
    built.attach(model(base, torch.float32))
    assert trained_parameters(adapter, Size.of(base)) == sum(p.numel() for p in built.parameters().values())
    assert trained_parameters(FullSpec(), Size.of(base)) == Size.of(base).parameters


def test_operations_by_hand() -> None:
    lora = forecast(spec(training={"epochs": 2}, adapter={"type": "lora", "r": 1}), SIZE, TOKENS)
    forward = 2 * 1000 + 2 * 2 * 10 * 100 + 2 * 200 * 0.2
    assert lora.tokens == 20_000
    assert lora.trained_parameters == 30 + 40
    assert lora.operations == pytest.approx(20_000 * (2 * forward + 6 * 70))
    full = forecast(spec(training={"epochs": 2}, adapter={"type": "full"}), SIZE, TOKENS)
    assert full.operations == pytest.approx(20_000 * 3 * forward)
    cpu, gpu = full.seconds()["cpu"], full.seconds()["gpu"]
    assert 0 < gpu[0] < gpu[1] < cpu[0] < cpu[1]


def test_memory_by_hand() -> None:
    made = forecast(spec(training={"batch_size": 4}, adapter={"type": "lora", "r": 1}), SIZE, TOKENS).memory
    assert made["bf16"].weights == 2600
    assert made["bf16"].trained == 70 * 16
    batch = 4 * 200
    assert made["bf16"].activations == pytest.approx(batch * 10 * 2 * 46 + batch * 0.2 * 20 * 8)
    assert made["fp32"].activations == pytest.approx(batch * 10 * 2 * 92 + batch * 0.2 * 20 * 8)
    less = {"batch_size": 4, "devices": {"activation_checkpointing": True}, "optimizer": "adamw8bit"}
    saving = forecast(spec(training=less, adapter={"type": "full"}), SIZE, TOKENS).memory["bf16"]
    assert saving.weights == 0, "those that are trained are counted there"
    assert saving.trained == 1300 * 10
    assert saving.activations < made["bf16"].activations


def test_steps_and_samples_change_how_much_is_seen() -> None:
    few = forecast(spec(training={"max_steps": 3, "batch_size": 2, "gradient_accumulation": 2}), SIZE, TOKENS)
    assert few.tokens == 3 * 2 * 2 * 100
    assert forecast(spec(), SIZE, TOKENS, times_larger=10).tokens == 10 * forecast(spec(), SIZE, TOKENS).tokens


@pytest.mark.parametrize("content", [b"", b"\xff" * 20, b"\x02\0\0\0\0\0\0\0{]", b'\x08\0\0\0\0\0\0\0{"a": 1}'])
def test_a_damaged_header_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ContentError, match="header"):
        Size.of(Base("x", tmp_path))


def test_check_tells_it_of_rows_that_can_be_trained_on(tmp_path: Path) -> None:
    rows = [{"question": f"what is {i} in words", "answer": f"number {i}"} for i in range(30)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = check_files(Request([path])).as_json()["forecast"]
    assert told["parameters"] == Size.of(find(DEFAULT)).parameters
    assert told["memory"]["fp32"]["total"] > told["memory"]["bf16"]["total"] > 2 * told["parameters"]
    path.write_text("".join(json.dumps({"text": f"row {i}"}) + "\n" for i in range(30)))
    assert check_files(Request([path])).as_json()["forecast"] is None


def test_an_epoch_counts_rows_as_often_as_they_are_trained_on(tmp_path: Path, capsys: Any) -> None:
    """Weights, rows held out and rows left out for their length: audit, forecast and terminal agree with the rows."""
    long = {"messages": [{"role": "user", "content": "far " * 300}, {"role": "assistant", "content": "away"}]}
    tiny.write_rows(tmp_path / "a.jsonl", [*tiny.rows(0, 40), long])
    tiny.write_rows(tmp_path / "b.jsonl", tiny.rows(50, 20))
    data = {"train": [{"path": "a.jsonl", "weight": 3}, "b.jsonl"], "validation": 0.25, "on_long": "drop"}
    recipe = {"data": data, "training": {"epochs": 2, "max_length": 100}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    checked = check_recipe(tmp_path / "recipe.yaml")
    facts = checked.as_json()
    files = [file for file, times in (("a.jsonl", 3), ("b.jsonl", 1)) for _ in range(times)]
    lengths = {part: sum(len(made.encoded.input_ids) for row in checked.rows if row.origin.startswith(part)
                         for made in checked.parts(row)) for part in ("a.jsonl", "b.jsonl")}  # fmt: skip
    epoch = sum(lengths[file] for file in files)
    assert facts["lengths"]["tokens_per_epoch"] == epoch > facts["tokens"]["tokens"] * 2
    assert facts["forecast"]["tokens"] == 2 * epoch
    show.audit(facts)
    assert f"tokens per epoch: {epoch:,}" in " ".join(capsys.readouterr().out.split())
