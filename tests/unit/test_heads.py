"""Models with another head than the vocabulary's, in every family that transformers has such a class for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

import families
from tunesmith.adapters.config import BottleneckSpec, FullSpec, Ia3Spec, LayersSpec, LoraSpec, VeraSpec
from tunesmith.adapters.headed import Headed
from tunesmith.core.errors import ContentError
from tunesmith.data.answers import Pair
from tunesmith.data.branches import Family
from tunesmith.data.tokenize import Encoded
from tunesmith.engine.branches import can_share_ends, sequences
from tunesmith.models import load, pooling
from tunesmith.models.heads import REWARD, Head
from tunesmith.models.refs import Base

CPU = torch.device("cpu")
WITHOUT = ("granite", "olmoe")
HEADED = tuple(kind for kind in families.CONFIGS if kind not in WITHOUT)
DECODERS = tuple(kind for kind in HEADED if kind not in families.ENCODER_DECODERS)
LABELS = Head(("red", "green", "blue"))
END = 2


def _row(prompt: list[int], answer: list[int]) -> Encoded:
    weight = [0.0] * len(prompt) + [1.0] * len(answer)
    return Encoded(np.array(prompt + answer, np.int32), np.array(weight, np.float32))


PAIRS = [
    Pair(_row([1, 5, 9, 13, 17, 21], [30, 31, 32, END]), _row([1, 5, 9, 13, 17, 21], [40, END])),
    Pair(_row([1, 8], [50, 51, END]), _row([1, 8], [50, 52, 53, 54, 55, 56, 57, END])),
]
ROWS = [row for pair in PAIRS for row in (pair.chosen, pair.rejected)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A base's folder by its family."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("base") / kind.replace(" ", "-")
            families.model(kind).save_pretrained(made[kind])
        return made[kind]

    return folder


def _model(folder: Path, head: Head = LABELS) -> Any:
    torch.manual_seed(5)
    return load.model(Base("tiny", folder), torch.float32, head)


def _loud(model: Any) -> Any:
    """A head that says something, as after training."""
    torch.manual_seed(6)
    with torch.no_grad():
        for parameter in model.get_submodule(pooling.head_name(model)).parameters():
            parameter.add_(torch.randn_like(parameter))
    return model


def _scores(model: Any, pairs: Any, *, share: bool = False) -> torch.Tensor:
    made = sequences([pair.family() for pair in pairs], 0, CPU, share=share)
    return pooling.scored(model, *made.ends(model))


def _alone(model: Any, row: Encoded) -> torch.Tensor:
    """What transformers' own class says of one row without padding."""
    with torch.no_grad():
        return model(input_ids=torch.tensor(row.input_ids, dtype=torch.long).unsqueeze(0)).logits[0]


@pytest.mark.parametrize("kind", HEADED)
def test_a_new_head_prefers_nothing_and_is_the_same_again(kind: str, folders: Any) -> None:
    model, again = _model(folders(kind)), _model(folders(kind))
    assert _scores(model, PAIRS).abs().max() == 0
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True))
    assert model.config.id2label == {0: "red", 1: "green", 2: "blue"}


@pytest.mark.parametrize("kind", HEADED)
def test_a_batch_says_of_each_row_what_transformers_says_of_it_alone(kind: str, folders: Any) -> None:
    model = _loud(_model(folders(kind)))
    with torch.no_grad():
        found = _scores(model, PAIRS)
    wanted = torch.stack([_alone(model, row) for row in ROWS])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert (found.std(0) > 1e-4).all(), "rows that are said alike prove nothing"


@pytest.mark.parametrize("kind", HEADED)
def test_beside_a_body_in_bf16_the_head_stays_float32(kind: str, folders: Any) -> None:
    torch.manual_seed(5)
    model: Any = _loud(load.model(Base("tiny", folders(kind)), torch.bfloat16, LABELS))
    with torch.no_grad():
        found, wanted = _scores(model, PAIRS), _scores(_loud(_model(folders(kind))), PAIRS)
    assert found.dtype == torch.float32
    assert (found - wanted).abs().max() < 0.1 * wanted.abs().max()
    assert not torch.equal(found, found.bfloat16().float()), "rounded to bf16, close rewards become ties"


@pytest.mark.parametrize("kind", DECODERS)
def test_a_shared_prompt_gives_the_rewards_of_separate_rows(kind: str, folders: Any) -> None:
    model = _loud(_model(folders(kind), REWARD))
    assert can_share_ends(model, PAIRS[0].family(), 0)
    gradients, found = [], []
    for share in (True, False):
        model.zero_grad()
        scores = _scores(model, PAIRS, share=share)
        (scores.squeeze(-1) * torch.arange(1.0, 5.0)).sum().backward()
        found.append(scores.detach())
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", families.ENCODER_DECODERS)
def test_an_encoder_decoder_reads_each_answer_by_itself(kind: str, folders: Any) -> None:
    assert not can_share_ends(_model(folders(kind)), PAIRS[0].family(), 0)


def test_a_model_that_heeds_no_mask_is_found_out(folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.engine import branches

    model = _model(folders("llama"))
    monkeypatch.setattr(branches, "_seen", lambda positions, branch: (branch >= 0).unsqueeze(1) | True)
    assert not can_share_ends(model, PAIRS[0].family(), 0), "though the new head says the same of everything"


def test_the_last_token_counts_even_where_it_is_the_padding_token(folders: Any) -> None:
    """A base that pads with its end-of-turn: transformers alone would pool one token earlier."""
    model = _loud(_model(folders("llama")))
    model.config.pad_token_id = pooling.padding_to_name(END, (END, None))
    made = sequences([Family((row,), 0) for row in ROWS], END, CPU, share=False)
    with torch.no_grad():
        found = pooling.scored(model, *made.ends(model))
    assert model.config.pad_token_id is None
    wanted = torch.stack([_alone(model, row) for row in ROWS])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    model.config.pad_token_id = END
    assert (torch.stack([_alone(model, row) for row in ROWS]) - wanted).abs().max() > 1e-3


@pytest.mark.parametrize("kind", WITHOUT)
def test_a_family_without_such_a_class_is_told_of(kind: str, folders: Any) -> None:
    with pytest.raises(ContentError, match="cannot have another head") as raised:
        _model(folders(kind))
    assert "another family" in str(raised.value.mend)


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_a_head_that_the_base_brings_is_kept(kind: str, folders: Any, tmp_path: Path) -> None:
    model = _loud(_model(folders(kind)))
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(_scores(_model(tmp_path), PAIRS), _scores(model, PAIRS), rtol=0, atol=0)


SPECS = [LoraSpec(r=4, alpha=8), LoraSpec(r=4, alpha=8, dora=True), FullSpec()]
OTHERS = [LayersSpec(last=1), Ia3Spec(), VeraSpec(r=4), BottleneckSpec(width=8), LoraSpec(r=4, quantize="int8")]


def _trained(folder: Path, spec: LoraSpec | FullSpec) -> tuple[Any, Headed]:
    """Some steps towards three labels for the four rows."""
    model = _model(folder)
    adapter = Headed(spec.build(), str(pooling.head_name(model)))
    torch.manual_seed(4)
    adapter.attach(model)
    optimizer = torch.optim.AdamW(adapter.parameters().values(), lr=0.01)
    for _ in range(6):
        loss = torch.nn.functional.cross_entropy(_scores(model, PAIRS), torch.tensor([0, 1, 2, 0]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, adapter


@pytest.mark.parametrize("kind", HEADED)
@pytest.mark.parametrize("spec", SPECS, ids=["lora", "dora", "full"])
def test_it_learns_saves_loads_and_merges(kind: str, spec: LoraSpec | FullSpec, folders: Any, tmp_path: Path) -> None:
    model, adapter = _trained(folders(kind), spec)
    with torch.no_grad():
        wanted = _scores(model, PAIRS)
    assert wanted.abs().max() > 0.1
    head = [p for name, p in adapter.parameters().items() if "score" in name or "classification_head" in name]
    assert head
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in head)
    adapter.save(tmp_path, "some/base")
    again = _model(folders(kind))
    loaded = Headed(spec.build(), str(pooling.head_name(again)))
    loaded.attach(again)
    loaded.load(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(_scores(again, PAIRS), wanted, rtol=0, atol=0)
    if isinstance(spec, LoraSpec):
        with adapter.disabled(), torch.no_grad():
            assert _scores(model, PAIRS).abs().max() == 0, "the base has an untrained head"
        with torch.no_grad():
            torch.testing.assert_close(_scores(model, PAIRS), wanted, rtol=0, atol=0)
    adapter.merge()
    model.save_pretrained(tmp_path / "merged")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    assert plain.config.id2label == {0: "red", 1: "green", 2: "blue"}
    torch.testing.assert_close(torch.stack([_alone(plain, row) for row in ROWS]), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spec", OTHERS, ids=lambda spec: f"{spec.type} {getattr(spec, 'quantize', None) or ''}")
def test_the_other_adapters_take_a_head_too(spec: Any, folders: Any, tmp_path: Path) -> None:
    model, adapter = _trained(folders("llama"), spec)
    with torch.no_grad():
        wanted = _scores(model, PAIRS)
        adapter.save(tmp_path, "some/base")
        again = _model(folders("llama"))
        loaded = Headed(spec.build(), "score")
        loaded.attach(again)
        assert _scores(again, PAIRS).abs().max() == 0
        loaded.load(tmp_path)
        torch.testing.assert_close(_scores(again, PAIRS), wanted, rtol=1e-6, atol=1e-6)
        with loaded.disabled():
            assert _scores(again, PAIRS).abs().max() == 0
        torch.testing.assert_close(_scores(again, PAIRS), wanted, rtol=1e-6, atol=1e-6)
    assert wanted.abs().max() > 0.1


# PEFT asks transformers 5 a question that is going out of use; any other warning of its loading fails the test.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2", "qwen3-moe", "t5", "bart"])
@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_peft_loads_adapter_and_head_with_equal_outputs(kind: str, dora: bool, folders: Any, tmp_path: Path) -> None:
    from peft import PeftModel

    model, adapter = _trained(folders(kind), LoraSpec(r=4, alpha=8, dora=dora))
    with torch.no_grad():
        wanted = _scores(model, PAIRS)
    adapter.save(tmp_path, str(folders(kind)))
    plain = AutoModelForSequenceClassification.from_pretrained(folders(kind), num_labels=3, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(plain, tmp_path).eval()
    assert type(loaded).__name__ == "PeftModelForSequenceClassification"
    torch.testing.assert_close(torch.stack([_alone(loaded, row) for row in ROWS]), wanted, rtol=1e-4, atol=1e-4)


def test_an_adapter_with_another_head_is_refused(folders: Any, tmp_path: Path) -> None:
    _, adapter = _trained(folders("llama"), LoraSpec(r=4, alpha=8))
    adapter.save(tmp_path, "some/base")
    other = _model(folders("llama"), REWARD)
    loaded = Headed(LoraSpec(r=4, alpha=8).build(), "score")
    loaded.attach(other)
    with pytest.raises(ContentError, match="head does not fit"):
        loaded.load(tmp_path)
