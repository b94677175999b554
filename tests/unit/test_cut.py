"""The first layers of a base: what they compute is what they computed inside the whole, in every family of decoders."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

import families
import tiny
from tunesmith.core.errors import ConflictError, ContentError, MissingError
from tunesmith.models.cut import first_layers
from tunesmith.models.find import find
from tunesmith.models.load import from_folder

SCRIPT = Path(__file__).parents[2] / "recipes" / "first_layers.py"
IDS = torch.tensor([[1, 5, 9, 13, 17, 21, 7, 30]])


def _layers(model: Any) -> tuple[Any, str, torch.nn.ModuleList]:
    """The list of a model's layers, and who holds it under which name."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList):
            owner, _, leaf = name.rpartition(".")
            return model.get_submodule(owner), leaf, module
    raise AssertionError("no layers")


def _cut_in_memory(model: Any, n: int) -> Any:
    owner, leaf, layers = _layers(model)
    setattr(owner, leaf, layers[:n])
    config = model.config
    for key in ("num_hidden_layers", "n_layer"):
        if hasattr(config, key):
            setattr(config, key, n)
    return model


@pytest.mark.parametrize("kind", families.DECODERS)
def test_the_first_layers_of_every_family(kind: str, tmp_path: Path) -> None:
    config = families.CONFIGS[kind]()
    names = [key for key in ("num_hidden_layers", "n_layer") if key in config.to_dict()]
    plain = {key: value for key, value in config.to_dict().items() if "layer_types" not in key}
    whole = tiny.random_model(type(config)(**plain | dict.fromkeys(names, 4)), seed=3)
    whole.save_pretrained(tmp_path / "whole")
    tiny.tokenizer().save_pretrained(tmp_path / "whole")
    made = first_layers(str(tmp_path / "whole"), 3, tmp_path / "cut" / "three")
    cut: Any = from_folder(made, torch.float32)
    assert len(_layers(cut)[2]) == 3
    with torch.no_grad():
        found = cut.eval()(IDS, use_cache=False).logits
        assert torch.allclose(found, _cut_in_memory(whole, 3)(IDS, use_cache=False).logits, atol=1e-5)
        assert not torch.allclose(found, from_folder(tmp_path / "whole", torch.float32)(IDS).logits, atol=1e-2)
    told = find(str(made)).config()
    assert [value for key, value in told.items() if key in names] == [3]
    assert all(len(value) == 3 for key, value in told.items() if key == "layer_types" and value)
    assert find(str(made)).tokenizer_fingerprint() == find(str(tmp_path / "whole")).tokenizer_fingerprint()


def test_weights_in_several_files_stay_so_with_their_types(tmp_path: Path) -> None:
    model = tiny.model("llama", vocabulary=384).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "whole", max_shard_size="30KB")
    files = {path.name for path in (tmp_path / "whole").glob("*.safetensors")}
    assert len(files) == 3
    made = first_layers(str(tmp_path / "whole"), 1, tmp_path / "cut")
    kept = {path.name for path in made.glob("*.safetensors")}
    assert kept <= files
    index = json.loads((made / "model.safetensors.index.json").read_text("utf-8"))
    assert set(index["weight_map"].values()) == kept
    assert not [name for name in index["weight_map"] if ".layers.1." in name]
    cut = from_folder(made, torch.bfloat16)
    for name, weight in cut.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name


def test_what_cannot_be_cut_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    base = tiny.base_folder(tmp_path / "base")
    for n in (0, 2, 9):
        with pytest.raises(ContentError, match=f"has 2 layers: its first {n} make no smaller one"):
            first_layers(str(base), n, tmp_path / "out")
    t5 = tiny.base_folder(tmp_path / "t5", "t5")
    with pytest.raises(ContentError, match="no one plain list"):
        first_layers(str(t5), 1, tmp_path / "out")
    with pytest.raises(MissingError):
        first_layers("nowhere", 1, tmp_path / "out")
    with pytest.raises(ConflictError, match="is there already"):
        first_layers(str(base), 1, base)
    config = json.loads((base / "config.json").read_text("utf-8"))
    (base / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5}), "utf-8")
    with pytest.raises(ContentError, match="make no whole model"):
        first_layers(str(base), 4, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"base", "t5"}


def test_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    base = tiny.base_folder(tmp_path / "base")

    def run(n: str, out: Path) -> Any:
        monkeypatch.setattr("sys.argv", [str(SCRIPT), str(base), n, str(out)])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return capsys.readouterr().out.strip()

    assert run("1", tmp_path / "cut") == str(tmp_path / "cut")
    assert (tmp_path / "cut" / "tokenizer.json").is_file()
    with pytest.raises(SystemExit, match="3"):
        run("7", tmp_path / "seven")
    assert "error: base" in capsys.readouterr().err
    assert not (tmp_path / "seven").exists()
    with pytest.raises(SystemExit, match="BASE N OUT_FOLDER"):
        run("x", tmp_path / "seven")
