"""Every kind of adapter through the command line: train, answer as tuned and as base, export or refuse to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from tunesmith.adapters.config import ADAPTERS
from tunesmith.core.events import silent
from tunesmith.pipelines import bench as benches
from tunesmith.pipelines import journey
from tunesmith.pipelines.read_recipe import read_recipe
from tunesmith.pipelines.recipe import RunSpec
from tunesmith.pipelines.rundir import RunDir

Cli = Callable[..., tiny.Result]
WAYS: dict[str, dict[str, Any]] = {
    "lora": {"type": "lora", "r": 4, "lora_plus": 4},
    "qlora": {"type": "lora", "r": 4, "quantize": "nf4"},
    "qlora int8": {"type": "lora", "r": 4, "quantize": "int8", "targets": ["q_proj"]},
    "full": {"type": "full"},
    "layers": {"type": "layers", "last": 1},
    "bitfit": {"type": "bitfit"},
    "ia3": {"type": "ia3"},
    "vera": {"type": "vera", "r": 16},
    "bottleneck": {"type": "bottleneck", "style": "houlsby", "width": 8},
    "prompt": {"type": "prompt", "tokens": 4},
    "p_tuning": {"type": "p_tuning", "tokens": 4, "width": 16},
    "prefix": {"type": "prefix", "tokens": 4},
}
RATES = {"ia3": 0.05, "prompt": 0.05, "prefix": 0.05, "vera": 0.5}
"""So high that four steps change an answer."""
SHORT = {"epochs": 4, "max_steps": 4, "batch_size": 4, "checkpoint_every": 2, "evaluate_every": 4, "precision": "fp32"}


@pytest.fixture(scope="session")
def biased(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base with biases. Do not change it."""
    return tiny.base_folder(tmp_path_factory.mktemp("base") / "gpt2", "gpt2")


def test_every_kind_is_here() -> None:
    assert {way["type"] for way in WAYS.values()} == set(ADAPTERS)


@pytest.mark.parametrize("name", WAYS)
def test_train_generate_and_export(name: str, base: Path, biased: Path, cli: Cli, tmp_path: Path) -> None:
    if name == "qlora":
        pytest.importorskip("bitsandbytes")
    training = SHORT | {"learning_rate": RATES.get(name, 0.01)}
    recipe = tiny.write_task(tmp_path, biased if name == "bitfit" else base, adapter=WAYS[name], training=training)
    run = tmp_path / "run"
    done = cli("train", recipe, "--out", run)
    assert done.code == 0, done.err
    assert "Warning" not in done.err
    spec = RunSpec.model_validate(json.loads(recipe.read_text("utf-8")))
    folder = "model" if spec.adapter.trains_base else "adapter"
    assert (run / folder / f"{folder if folder == 'model' else 'adapter_model'}.safetensors").is_file()

    texts = {}
    for which, options in {"tuned": [], "base": ["--base"]}.items():
        asked = cli("generate", run, "--prompt", "Tom has a car. What?", "--max-tokens", 8, "--json", *options)
        assert asked.code == 0, asked.err
        texts[which] = json.loads(asked.out)["text"]
    assert texts["tuned"] != texts["base"], "the training left no trace"

    out = tmp_path / "merged"
    if spec.adapter.cannot_merge:
        shutil.move(run / folder, tmp_path / "aside")  # it is told before anything is loaded
    exported = cli("export", run, "--out", out, "--dtype", "float32", "--json")
    if spec.adapter.cannot_merge:
        assert exported.code == 3
        assert "merged" in exported.err
        assert not out.exists()
        return
    assert exported.code == 0, exported.err
    assert json.loads(exported.out)["largest_difference"] < 1e-3
    opened = benches.open_run(RunDir.open(run))
    plain = benches.load.from_folder(out, torch.float32).eval()
    ids = torch.tensor([[1, 5, 9, 13]])
    with torch.no_grad():
        torch.testing.assert_close(plain(ids).logits, opened.model(ids).logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("adapter", "more", "word"),
    [
        ({"type": "lora", "r": 64}, {}, "adapter.r is 64"),
        ({"type": "lora", "targets": ["q_prj"]}, {}, "q_proj"),
        ({"type": "bitfit"}, {}, "biases"),
        ({"type": "layers", "last": 9}, {}, "2 blocks"),
        ({"type": "layers", "names": ["nothing"]}, {}, "known:"),
        ({"type": "layers"}, {}, "last"),
        ({"type": "bottleneck", "width": 999}, {}, "hidden size"),
        ({"type": "ia3", "outputs": ["k_prj"]}, {}, "k_proj"),
        ({"type": "prompt", "tokens": 159}, {}, "no place is left"),
        ({"type": "prefix"}, {"devices": {"activation_checkpointing": True}}, "checkpointing"),
        ({"type": "full", "quantize": "nf4"}, {}, "quantize"),
    ],
)
def test_what_cannot_be_ends_with_exit_3_and_leaves_nothing(
    adapter: dict[str, Any], more: dict[str, Any], word: str, base: Path, cli: Cli, tmp_path: Path
) -> None:
    recipe = tiny.write_task(tmp_path, base, adapter=adapter, training=SHORT | {"learning_rate": 0.01} | more)
    done = cli("train", recipe, "--out", tmp_path / "run")
    assert done.code == 3, done.err
    assert word in done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("way", ["full", "layers", "lora", "qlora"])
def test_a_base_stored_quantised_is_refused(way: str, base: Path, cli: Cli, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    shutil.copytree(base, packed)
    config = json.loads((packed / "config.json").read_text("utf-8"))
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (packed / "config.json").write_text(json.dumps(config), "utf-8")
    recipe = tiny.write_task(tmp_path, packed, adapter=WAYS[way], training=SHORT)
    done = cli("train", recipe, "--out", tmp_path / "run")
    assert done.code == 3
    assert "bitsandbytes" in done.err
    assert "nf4" in done.err
    assert not (tmp_path / "run").exists()


def test_virtual_tokens_take_their_places_of_the_context(base: Path, cli: Cli, tmp_path: Path) -> None:
    recipe = tiny.write_task(tmp_path, base, adapter={"type": "prompt", "tokens": 20}, training=SHORT)
    wrong = cli("train", recipe, "--out", tmp_path / "run", "--set", "training.max_length=150")
    assert wrong.code == 3
    assert f"at most {tiny.CONTEXT - 20}" in wrong.err
    assert "virtual tokens" in wrong.err
    spec = RunSpec.model_validate(json.loads(recipe.read_text("utf-8")))
    from tunesmith.models.refs import Base
    from tunesmith.pipelines.prepare import length_limit

    assert length_limit(spec, Base("x", base)) == tiny.CONTEXT - 20


@pytest.mark.slow
def test_the_base_is_scored_without_untrained_virtual_tokens(base: Path, tmp_path: Path) -> None:
    """What `run` tells of the base is what it says with nothing in front of it, as under LoRA, which starts at zero."""
    found = []
    for name, adapter in (("lora", {"type": "lora", "r": 2}), ("prompt", {"type": "prompt", "tokens": 4})):
        recipe = tiny.write_task(tmp_path / name, base, adapter=adapter, training=SHORT)
        journey.run(read_recipe(recipe), tmp_path / name / "run", resume=False, sink=silent)
        told = json.loads((tmp_path / name / "run/evaluation.json").read_text("utf-8"))
        found.append({metric["name"]: metric["base"] for metric in told["metrics"]})
    assert found[0] == pytest.approx(found[1], abs=1e-4)
