"""Who may teach: names, vocabularies, runs; and the recipe's part on distillation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import tiny
from tunesmith.adapters.config import FullSpec, LoraSpec
from tunesmith.core.errors import ContentError, MissingError
from tunesmith.methods.distill import live, teacher
from tunesmith.methods.distill.config import DistillSpec, JsdSpec
from tunesmith.methods.distill.teacher import find_teacher, require_fit
from tunesmith.models.find import find
from tunesmith.pipelines.read_recipe import read_recipe

IDS = torch.tensor([[1, 5, 9, 13, 17, 21, 7]])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base. Do not change it."""
    return tiny.base_folder(tmp_path_factory.mktemp("base"))


def _run(folder: Path, base: Path, spec: LoraSpec | FullSpec) -> tuple[Path, Any]:
    """The folder of a run that has trained something, and its model."""
    model = tiny.model(vocabulary=len(tiny.tokenizer()))
    adapter = spec.build()
    adapter.attach(model)
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            parameter.add_(0.1)
    (folder / adapter.folder_name).mkdir(parents=True)
    adapter.save(folder / adapter.folder_name, str(base))
    tiny.tokenizer().save_pretrained(folder / adapter.folder_name)
    (folder / "run.json").write_text("{}")
    recipe = {"base": str(base), "adapter": spec.model_dump(mode="json")}
    (folder / "recipe.lock.yaml").write_text(yaml.safe_dump(recipe))
    return folder, model


@pytest.mark.parametrize("spec", [LoraSpec(r=4), FullSpec()], ids=["adapter", "full"])
def test_a_run_teaches_with_what_it_trained(spec: LoraSpec | FullSpec, base: Path, tmp_path: Path) -> None:
    run, model = _run(tmp_path / "run", base, spec)
    found = find_teacher(str(run))
    opened = live.open_teacher(found, "fp32")
    with torch.no_grad():
        assert torch.allclose(opened(IDS).logits, model(IDS).logits, atol=1e-5)
    assert not any(p.requires_grad for p in opened.parameters())
    assert not opened.training
    assert next(live.open_teacher(found, "bf16").parameters()).dtype == torch.bfloat16
    before = found.fingerprint()
    file = next((run / ("adapter" if isinstance(spec, LoraSpec) else "model")).glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert find_teacher(str(run)).fingerprint() != before != find_teacher(str(base)).fingerprint()


def test_a_teacher_that_is_not_there_or_not_ready(base: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no base 'nowhere'"):
        find_teacher("nowhere")
    run, _ = _run(tmp_path / "run", base, LoraSpec(r=4))
    (run / "recipe.lock.yaml").write_text("base: [")
    with pytest.raises(ContentError, match="cannot read the recipe of the teacher"):
        find_teacher(str(run))
    (tmp_path / "young").mkdir()
    (tmp_path / "young" / "run.json").write_text("{}")
    with pytest.raises(MissingError, match="holds no trained model yet"):
        find_teacher(str(tmp_path / "young"))


def _fit(teacher: Path, student: Path, on: str = "logits", longest: int = 100) -> Any:
    return require_fit(DistillSpec(teacher=str(teacher), on=on), find(str(student)), tiny.tokenizer(), longest)  # type: ignore[arg-type]


def test_another_vocabulary_is_refused_by_its_first_difference(base: Path, tmp_path: Path) -> None:
    other = tiny.base_folder(tmp_path / "other")
    file = other / "tokenizer.json"
    words = json.loads(file.read_text("utf-8"))
    known = words["model"]["vocab"]
    first, second = (next(w for w, i in known.items() if i == number) for number in (5, 6))
    known[first], known[second] = 6, 5
    file.write_text(json.dumps(words), "utf-8")
    for on in ("logits", "policy"):
        with pytest.raises(ContentError, match="another vocabulary") as caught:
            _fit(other, base, on)
        assert f"token 5 is {first!r} in the base and {second!r} in the teacher" in str(caught.value)
    words["added_tokens"].append(words["added_tokens"][0] | {"id": 384, "content": "<new>"})
    known[first], known[second] = 5, 6
    file.write_text(json.dumps(words), "utf-8")
    with pytest.raises(ContentError, match="token 384 is not there in the base and '<new>' in the teacher"):
        _fit(other, base)
    tiny.model(seed=1, vocabulary=384).save_pretrained(other)
    assert _fit(other, base, "answers") == [], "answers are text: any vocabulary will do"


def test_a_teacher_that_reads_less_than_the_rows_is_refused(base: Path) -> None:
    with pytest.raises(ContentError, match=f"takes at most {tiny.CONTEXT} tokens, rows may have 161"):
        _fit(base, base, longest=161)


def test_a_teacher_that_is_the_base_is_remarked(base: Path, tmp_path: Path) -> None:
    [finding] = _fit(base, base)
    assert (finding.code, finding.severity) == ("nothing_to_teach", "warn")
    run, _ = _run(tmp_path / "run", base, LoraSpec(r=4))
    assert _fit(run, base) == []


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an endpoint has no logits": ({"teacher": {"url": "http://x/v1", "model": "m"}}, "tells no logits"),
    "an endpoint without a scheme": ({"teacher": {"url": "x", "model": "m"}, "on": "answers"}, "pattern"),
    "a part of another way": ({"on": "answers", "label_weight": 0.5}, "label_weight plays no part under on: answers"),
    "policy under logits": ({"policy": {"share": 0.1}}, "policy plays no part under on: logits"),
    "beta of a KL": ({"divergence": {"type": "forward_kl", "beta": 0.5}}, "unknown key 'method.divergence.beta'"),
    "beta at its end": ({"divergence": {"type": "jsd", "beta": 1.0}}, "less than 1"),
    "no words": ({"top_k": 0}, "greater than or equal to 1"),
    "a share above 1": ({"on": "policy", "policy": {"share": 1.5}}, "less than or equal to 1"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_recipe_is_told(what: str, base: Path, tmp_path: Path) -> None:
    keys, said = WRONG[what]
    recipe = tiny.write_task(tmp_path, base, method={"type": "distill", "teacher": str(base)} | keys)
    with pytest.raises(ContentError) as caught:
        read_recipe(recipe, environment={})
    assert said in str(caught.value)
    assert "recipe.yaml:" in str(caught.value)


def test_a_recipe_names_its_teacher_as_it_names_its_base(base: Path, tmp_path: Path) -> None:
    (tmp_path / "near").symlink_to(base)
    for named, found in (("near", base), ("bundled/tunesmith-8m", "bundled/tunesmith-8m"), ("${T}/x", "there/x")):
        recipe = tiny.write_task(tmp_path, base, method={"type": "distill", "teacher": named})
        spec = read_recipe(recipe, environment={"T": "there"})
        assert isinstance(spec.method, DistillSpec)
        assert spec.method.teacher == str(found)
    assert spec.method.figures == ("divergence", "agreement")
    recipe = tiny.write_task(tmp_path, base, method={"type": "distill", "teacher": "near", "on": "policy"})
    policy = read_recipe(recipe, environment={}).method
    assert isinstance(policy, DistillSpec)
    assert policy.divergence == JsdSpec()
    short = tiny.write_task(tmp_path, base, method={"type": "distill", "teacher": "near", "divergence": "reverse_kl"})
    assert read_recipe(short, environment={}).method.model_dump()["divergence"]["type"] == "reverse_kl"


def test_what_teaches_is_part_of_a_runs_identity_and_where_it_lies_is_not(base: Path, tmp_path: Path) -> None:
    copy = tiny.base_folder(tmp_path / "copy")
    prints, recipes = [], []
    for folder in (base, copy):
        spec = read_recipe(
            tiny.write_task(tmp_path, base, method={"type": "distill", "teacher": str(folder)}), environment={}
        )
        assert isinstance(spec.method, DistillSpec)
        prints.append(teacher.fingerprint(spec.method))
        recipes.append(spec.training_fingerprint())
    assert recipes[0] == recipes[1]
    assert prints[0] == prints[1]
    tiny.model(seed=1, vocabulary=384).save_pretrained(copy)
    assert teacher.fingerprint(DistillSpec(teacher=str(copy))) != prints[0]
    ends = [{"url": "http://x/v1", "model": m, "timeout": t} for m, t in (("a", 1.0), ("a", 2.0), ("b", 1.0))]
    one, other, third = (teacher.fingerprint(DistillSpec(teacher=e, on="answers")) for e in ends)  # type: ignore[arg-type]
    assert one == other != third
