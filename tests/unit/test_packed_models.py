"""Documents of one row do not see each other: the losses, and the gradients, are those of each by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import families
import tiny
from tunesmith.core.errors import ContentError
from tunesmith.core.events import Event, Note
from tunesmith.data.packing import Packed, learned
from tunesmith.data.tokenize import Encoded
from tunesmith.engine import packed
from tunesmith.engine.packed import PackedTensors, can_pack
from tunesmith.evaluation.run import score_documents
from tunesmith.methods.base import Scene
from tunesmith.methods.pretrain.config import PretrainSpec
from tunesmith.methods.pretrain.method import Pretrain
from tunesmith.methods.sft.config import SftSpec

CPU = torch.device("cpu")
DRAW = np.random.default_rng(2)
# Longer than every window (4), and of different lengths so that a row is padded.
DOCUMENTS = [learned(DRAW.integers(4, 90, size=n).astype(np.int32)) for n in (9, 2, 7, 12, 5)]
ROWS = [Packed.of(DOCUMENTS[:3]), Packed.of(DOCUMENTS[3:])]
KINDS = [*families.DECODERS, "tiny gemma2"]


class Words:
    """As much of a tokenizer as a method looks at."""

    pad_token_id = 0


def _model(kind: str) -> Any:
    return tiny.model("gemma2") if kind == "tiny gemma2" else families.model(kind)


def _prepared(model: Any) -> tuple[Pretrain, list[str]]:
    method, told = PretrainSpec().build(), list[str]()

    def hear(event: Event) -> None:
        if isinstance(event, Note):
            told.append(event.text)

    method.prepare(Scene(model, None, Words(), 0, ROWS, sink=hear))  # type: ignore[arg-type]
    return method, told


def _each(model: Any, rows: list[Encoded]) -> torch.Tensor:
    """The losses of each document, computed by transformers alone, one document at a time."""
    losses = []
    for row in rows:
        ids_BL = torch.tensor(row.input_ids, dtype=torch.long).unsqueeze(0)
        logits_LV = model(input_ids=ids_BL, use_cache=False).logits[0]
        losses.append(torch.nn.functional.cross_entropy(logits_LV[:-1].float(), ids_BL[0, 1:], reduction="none"))
    return torch.cat(losses)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_losses_are_those_of_each_document(kind: str) -> None:
    model = _model(kind)
    method, told = _prepared(model)
    assert told == [], "this family keeps documents apart"
    batch = method.batch(ROWS, 0, CPU)
    assert isinstance(batch, PackedTensors)
    said, expected = batch.said(model), _each(model, DOCUMENTS)
    torch.testing.assert_close(said.losses(), expected, rtol=1e-5, atol=1e-5)
    assert said.owner_N.tolist() == [0] * (8 + 1 + 6) + [1] * (11 + 4)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_gradients_are_those_of_each_document(kind: str) -> None:
    model = _model(kind)
    gradients = []
    for losses in (PackedTensors.of(ROWS, 0, CPU).said(model).losses(), _each(model, DOCUMENTS)):
        model.zero_grad()
        losses.mean().backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
def test_a_model_that_hears_no_positions_gives_each_document_its_own_row(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _model(kind)
    alone = float(_prepared(model)[0].loss_sum(model, PackedTensors.of(ROWS, 0, CPU)).detach())
    forward = packed.labelled_packed

    def deaf(model: Any, ids: Any, positions: Any, weight: Any) -> Any:
        return forward(model, ids, torch.arange(ids.shape[1]).expand_as(ids), weight)

    monkeypatch.setattr(packed, "labelled_packed", deaf)
    assert not can_pack(model, DOCUMENTS, 0)
    method, told = _prepared(model)
    assert told == ["this base cannot keep sequences of one row apart: each gets its own row"]
    batch = method.batch(ROWS, 0, CPU)
    assert batch.input_ids_BL.shape == (5, 12)
    with torch.no_grad():
        assert float(method.loss_sum(model, batch)) == pytest.approx(alone, rel=1e-5)
    assert not model.training


@pytest.mark.parametrize("kind", families.ENCODER_DECODERS)
def test_an_encoder_decoder_is_refused(kind: str) -> None:
    assert not can_pack(families.model(kind), DOCUMENTS, 0)
    with pytest.raises(ContentError, match="writes text by itself"):
        _prepared(families.model(kind))


def test_a_row_of_one_document_is_a_row_like_any() -> None:
    model = _model("llama")
    method, _ = _prepared(model)
    rows = [Packed.of([one]) for one in DOCUMENTS]
    found = float(method.loss_sum(model, method.batch(rows, 0, CPU)).detach())
    assert found == pytest.approx(float(_each(model, DOCUMENTS).sum().detach()), rel=1e-5)


@pytest.mark.parametrize("kind", families.ROUTERS)
def test_the_routers_loss_is_added_in_proportion(kind: str) -> None:
    model = _model(kind)
    method, _ = _prepared(model)
    said = PackedTensors.of(ROWS[:1], 0, CPU).said(model)
    found = float(method.loss_sum(model, method.batch(ROWS[:1], 0, CPU)).detach())
    assert said.router_loss is not None
    assert found == pytest.approx(float((said.losses().sum() + said.router_loss * 15).detach()), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_conversations_have_the_masks_and_weights_that_they_have_alone(kind: str) -> None:
    """Supervised rows: prompts without loss, turns with weights of their own."""
    model = _model(kind)
    rows = []
    for document in DOCUMENTS:
        weight = np.where(np.arange(document.length) % 4 < 2, 0.0, np.arange(document.length) % 3 + 0.5)
        weight[-1], weight[0] = 1.0, 0.0
        rows.append(Encoded(document.input_ids, weight.astype(np.float32)))
    together = [Packed.of(rows[:2]), Packed.of(rows[2:])]
    losses = []
    for items, spec in ((rows, SftSpec()), (together, SftSpec(packing=True))):
        method = spec.build()
        method.prepare(Scene(model, None, Words(), 0, items))  # type: ignore[arg-type]
        batch = method.batch(items, 0, CPU)
        assert isinstance(batch, PackedTensors) == spec.packing
        with torch.no_grad():
            said = packed.said_of(model, batch)
        losses.append(float((said.losses() * said.weight_N).sum()))
        assert float(said.weight_N.sum()) == pytest.approx(sum(row.weight for row in items))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_noise_by_rows_and_packing_do_not_go_together() -> None:
    with pytest.raises(ValueError, match="neftune_alpha does not go with packing"):
        SftSpec(packing=True, neftune_alpha=5.0)


def test_documents_are_scored_whole_however_long() -> None:
    """In pieces of 16 tokens that each begin with the last token of the one before."""
    model, ids = _model("llama"), DRAW.integers(4, 90, size=40).astype(np.int32)
    documents = [learned(ids), DOCUMENTS[0]]
    scored = score_documents(model, documents, limit=16, pad_id=0, number_type="fp32")
    assert scored.label_counts.tolist() == [39, 8]
    expected = [_each(model, [learned(ids[at : at + 16]) for at in (0, 15, 30)]), _each(model, DOCUMENTS[:1])]
    assert scored.loss_sums == pytest.approx([float(losses.sum().detach()) for losses in expected], rel=1e-5)
