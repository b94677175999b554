"""Label smoothing, and loss on the last turn alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import families
import tiny
from tunesmith.core.messages import Example, Message
from tunesmith.data.template import learning_last
from tunesmith.engine.objective import TorchBatch
from tunesmith.methods.sft.config import SftSpec
from tunesmith.pipelines.prepare import prepare
from tunesmith.pipelines.read_recipe import read_recipe

IDS_BL = torch.tensor([[1, 5, 9, 13, 17, 21, 7], [1, 90, 80, 70, 60, 2, 0]])
MASK_BL = (IDS_BL != 0).long()
WEIGHT_BL = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 0.5, 0.5, 0]])


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_smoothing_is_torch_s(kind: str, smoothing: float) -> None:
    model = families.model(kind)
    with torch.no_grad():
        logits_BLV = model(input_ids=IDS_BL, attention_mask=MASK_BL).logits[:, :-1]
        ours = SftSpec(label_smoothing=smoothing).build().loss_sum(model, TorchBatch(IDS_BL, MASK_BL, WEIGHT_BL))
    each = F.cross_entropy(logits_BLV.transpose(1, 2), IDS_BL[:, 1:], reduction="none", label_smoothing=smoothing)
    assert ours.item() == pytest.approx((each * WEIGHT_BL[:, 1:]).sum().item(), rel=1e-5)


def test_smoothing_by_hand() -> None:
    """Over V = 4 equal logits every term is log 4, whatever the share; with logits log(1, 1, 1, 5) and the last token
    right: 0.9 x log(8/5) + 0.1 x (3 log 8 + log(8/5)) / 4."""
    from tunesmith.models.head import Labelled, Spoken

    logits_NV = torch.log(torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 5]]))
    said = Labelled(Spoken(logits_NV), torch.tensor([0, 3]), torch.ones(2), torch.zeros(2, dtype=torch.long), None)
    log8, right = np.log(8), np.log(8 / 5)
    assert said.losses(0.1).tolist() == pytest.approx([np.log(4), 0.9 * right + 0.1 * (3 * log8 + right) / 4], rel=1e-6)
    assert said.losses().tolist() == pytest.approx([np.log(4), right], rel=1e-6)


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_token_accuracy_is_the_weighted_share_of_likeliest_tokens(kind: str) -> None:
    model = families.model(kind)
    method = SftSpec(token_accuracy=True).build()
    with torch.no_grad():
        best_BL = model(input_ids=IDS_BL, attention_mask=MASK_BL).logits[:, :-1].argmax(-1)
        ids_BL = torch.cat([IDS_BL[:, :1], torch.where(torch.arange(6) % 2 == 0, best_BL, IDS_BL[:, 1:])], dim=1)
        best_BL = model(input_ids=ids_BL, attention_mask=MASK_BL).logits[:, :-1].argmax(-1)
        method.loss_sum(model, TorchBatch(ids_BL, MASK_BL, WEIGHT_BL))
    right = ((best_BL == ids_BL[:, 1:]) * WEIGHT_BL[:, 1:]).sum().item()
    assert 0 < right < WEIGHT_BL.sum().item()
    assert method.tally.take() == {"token_accuracy": pytest.approx(right)}
    assert (method.figures, SftSpec().figures) == (("token_accuracy",), ())


def _said(*weights: float | None) -> Example:
    turns = [
        m
        for i, w in enumerate(weights)
        for m in (Message(role="user", content=f"q{i}"), Message(role="assistant", content=f"a{i}", weight=w))
    ]
    return Example(messages=tuple(turns))  # fmt: skip


@pytest.mark.parametrize(
    ("weights", "kept"),
    [
        ((None,), [1]),
        ((None, None), [0, 1]),
        ((2.0, 3.0), [0, 3]),
        ((None, None, 0.0), [0, 1, 0]),
        ((0.5, 0.0), [0.5, 0]),
    ],
)
def test_the_last_learned_turn_keeps_its_weight(weights: Any, kept: list[float]) -> None:
    found = [1.0 if m.weight is None else m.weight for m in learning_last(_said(*weights)).messages[1::2]]
    assert found == kept
    assert [m.content for m in learning_last(_said(*weights)).messages] == [m.content for m in _said(*weights).messages]


def _conversations(folder: Path) -> None:
    for name, first, count in (("train", 0, 40), ("test", 100, 8)):
        some = tiny.rows(first, count)
        rows = [{"messages": [*a["messages"], *b["messages"]]} for a, b in zip(some[::2], some[1::2], strict=True)]
        tiny.write_rows(folder / f"{name}.jsonl", rows)


def test_training_learns_the_last_turn_alone(tmp_path: Path) -> None:
    base = tiny.base_folder(tmp_path / "base")
    found = {}
    for learn in ("all", "last"):
        recipe = tiny.write_task(tmp_path, base, method={"type": "sft", "learn": learn})
        _conversations(tmp_path)
        found[learn] = prepare(read_recipe(recipe))
    for every, last in zip(found["all"].train.encoded, found["last"].train.encoded, strict=True):
        assert np.array_equal(every.input_ids, last.input_ids)
        runs = np.flatnonzero(np.diff(np.concatenate([[0], every.loss_weight > 0])) == 1)
        assert len(runs) == 2
        assert not last.loss_weight[: runs[1]].any()
        assert np.array_equal(last.loss_weight[runs[1] :], every.loss_weight[runs[1] :])


def test_older_runs_keep_their_fingerprint(tmp_path: Path) -> None:
    recipe = read_recipe(tiny.write_task(tmp_path, "bundled/tunesmith-8m"))
    plain = recipe.training_fingerprint()
    for method in ({"label_smoothing": 0.1}, {"learn": "last"}):
        other = recipe.model_copy(update={"method": SftSpec(**method)})
        assert other.training_fingerprint() != plain
    assert recipe.model_copy(update={"method": SftSpec()}).training_fingerprint() == plain


def test_a_whole_run_with_both(tmp_path: Path) -> None:
    from tunesmith.cli.main import _run

    base = tiny.base_folder(tmp_path / "base")
    recipe = tiny.write_task(tmp_path, base, method={"type": "sft", "label_smoothing": 0.1, "learn": "last"})
    _conversations(tmp_path)
    assert _run(["train", str(recipe), "--out", str(tmp_path / "run"), "--set", "training.max_steps=2"]) == 0
    first = json.loads((tmp_path / "run/metrics.jsonl").read_text("utf-8").splitlines()[0])
    assert first["loss"] > 0
