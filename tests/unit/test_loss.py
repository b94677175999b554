"""The supervised loss, logits where they are wanted, and what the batch's shape must not change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from tunesmith.adapters.config import LoraSpec
from tunesmith.adapters.full import Full
from tunesmith.adapters.lora import Lora
from tunesmith.core.errors import ContentError
from tunesmith.core.events import silent
from tunesmith.data.batch import collate
from tunesmith.data.tokenize import Encoded
from tunesmith.engine import distributed
from tunesmith.engine.config import TrainingSpec
from tunesmith.engine.evaluate import mean_loss, row_losses
from tunesmith.engine.loop import Loop, Plan
from tunesmith.engine.metrics_log import MetricsLog
from tunesmith.engine.objective import TorchBatch
from tunesmith.evaluation.general_loss import general_loss, scored
from tunesmith.methods.base import Scene
from tunesmith.methods.sft import method
from tunesmith.methods.sft.config import RehearsalSpec, SftSpec
from tunesmith.methods.sft.method import Rehearsal, Sft
from tunesmith.models import load
from tunesmith.models.head import labelled, logits_at
from tunesmith.models.modes import evaluating
from tunesmith.models.refs import Base
from tunesmith.pipelines.rundir import RunDir

KINDS = ("llama", "gpt2", "gemma2")
CPU = torch.device("cpu")


def _rows(count: int, seed: int = 0, weights: Sequence[float] = (1.0,)) -> list[Encoded]:
    """Rows of 4 to 24 tokens whose later half carries loss."""
    draw = np.random.default_rng(seed)
    made = []
    for number in range(count):
        length = int(draw.integers(4, 25))
        weight = np.zeros(length, dtype=np.float32)
        weight[length // 2 :] = weights[number % len(weights)]
        made.append(Encoded(draw.integers(3, 95, length).astype(np.int32), weight))
    return made


def _batch(rows: Sequence[Encoded]) -> TorchBatch:
    return TorchBatch.of(collate(rows, pad_id=0), CPU)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_transformers_loss_on_the_same_labels(kind: str) -> None:
    model, rows = tiny.model(kind), _rows(5)
    batch = _batch(rows)
    labels = torch.where(batch.loss_weight_BL > 0, batch.input_ids_BL, -100)
    plain = model(input_ids=batch.input_ids_BL, attention_mask=batch.attention_mask_BL, labels=labels).loss.detach()
    count = sum(row.labelled for row in rows)
    ours = Sft(SftSpec()).loss_sum(model, batch).detach() / count
    assert plain > 0.5
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
    wanted = float(plain)
    assert abs(mean_loss(model, Sft(SftSpec()), rows, pad_id=0, number_type="fp32") - wanted) < 1e-5
    sums, counts = row_losses(model, rows, pad_id=0, number_type="fp32")
    assert abs(sums.sum() / counts.sum() - wanted) < 1e-5
    assert counts.tolist() == [row.labelled for row in rows]
    for row, total in zip(rows, sums, strict=True):
        alone, _ = row_losses(model, [row], pad_id=0, number_type="fp32")
        assert abs(alone[0] - total) < 1e-4


def test_weights_weigh_and_the_first_token_is_never_predicted() -> None:
    model = tiny.model()
    [row] = _rows(1)
    double = Encoded(row.input_ids, row.loss_weight * 2.5)
    sft = Sft(SftSpec())
    one = sft.loss_sum(model, _batch([row]))
    torch.testing.assert_close(sft.loss_sum(model, _batch([double])), 2.5 * one)
    every = Encoded(row.input_ids, np.ones_like(row.loss_weight))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(row.input_ids[None].astype(np.int64))).logits[0].log_softmax(-1)
    by_hand = -sum(float(logits[t - 1, row.input_ids[t]]) for t in range(1, len(row.input_ids)))
    assert abs(float(sft.loss_sum(model, _batch([every])).detach()) - by_hand) < 1e-4


def _questions(rows: Sequence[Encoded]) -> list[tuple[int, list[int], list[int], list[float]]]:
    """By hand: (row, what the encoder reads, what the decoder says, its weights) for each run of labels."""
    found = []
    for number, row in enumerate(rows):
        ids, weight = row.input_ids.tolist(), [0.0, *row.loss_weight.tolist()[1:], 0.0]
        begin = None
        for place, one in enumerate(weight):
            if one > 0 and begin is None:
                begin = place
            elif one == 0 and begin is not None:
                found.append((number, ids[:begin], ids[begin:place], weight[begin:place]))
                begin = None
    return found


CONVERSATIONS = [
    ([5, 6, 7, 8, 9, 10, 11, 2], [0, 0, 1, 1, 0, 0, 1, 1]),  # two answers
    ([12, 13, 14, 15, 2, 16, 17], [0, 0, 0.5, 0.5, 0.5, 0, 0]),  # the template goes on behind the answer
    ([20, 21, 22], [1, 1, 1]),  # the first token is never predicted
    ([30, 31], [0, 0]),  # nothing to learn
    ([40, 41, 42, 43, 44, 45, 46, 47, 48, 2], [0, 2, 0, 1, 1, 0, 0, 0, 0, 3]),  # three, the last to the very end
]


@pytest.mark.parametrize("kind", tiny.ENCODER_DECODERS)
def test_an_encoder_decoder_learns_every_answer_from_all_before_it(kind: str) -> None:
    model = tiny.model(kind)
    rows = [Encoded(np.array(ids, np.int32), np.array(weight, np.float32)) for ids, weight in CONVERSATIONS]
    expected, whole, counts = np.zeros(len(rows)), 0.0, np.zeros(len(rows), dtype=int)
    for row, read, said, weight in _questions(rows):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([read]), labels=torch.tensor([said])).logits[0].log_softmax(-1)
        for place, token in enumerate(said):
            loss = -float(logits[place, token])
            expected[row] += loss
            counts[row] += 1
            whole += weight[place] * loss
    sums, found = row_losses(model, rows, pad_id=0, number_type="fp32")
    assert found.tolist() == counts.tolist() == [4, 3, 2, 0, 4]
    np.testing.assert_allclose(sums, expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert float(Sft(SftSpec()).loss_sum(model, _batch(rows))) == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("kind", ["llama", "qwen3-moe", *tiny.ENCODER_DECODERS])
def test_a_batch_that_weighs_nothing_moves_nothing(kind: str) -> None:
    """A process that several share a step with may be left without rows."""
    model = tiny.model(kind)
    [row] = _rows(1)
    loss = Sft(SftSpec()).loss_sum(model, _batch([Encoded(row.input_ids, np.zeros_like(row.loss_weight))]))
    loss.backward()
    assert float(loss.detach()) == 0
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert not any(g.any() for g in gradients)


@pytest.mark.parametrize("kind", tiny.ENCODER_DECODERS)
def test_general_text_is_read_in_its_first_half_and_scored_on_its_second(kind: str) -> None:
    model = tiny.model(kind)
    texts = [[1, 5, 9, 13, 17, 21, 7], [1, 90, 80, 2], [1]]
    rows = [Encoded(np.array(t, np.int32), np.array([0, *[1] * (len(t) - 1)], np.float32)) for t in texts]
    found = general_loss(model, rows, pad_id=0, number_type="fp32")
    total = 0.0
    for read, said in (([1, 5, 9], [13, 17, 21, 7]), ([1, 90], [80, 2])):
        with torch.no_grad():
            total += len(said) * float(model(input_ids=torch.tensor([read]), labels=torch.tensor([said])).loss)
    assert (found.rows, found.tokens) == (3, 6)
    assert found.loss == pytest.approx(total / 6, rel=1e-5)
    assert scored(tiny.model("llama"), rows) is rows


def test_an_encoder_decoder_that_does_not_say_how_it_starts_is_refused(tmp_path: Path) -> None:
    model = tiny.model("bart")
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = None
    with pytest.raises(ContentError, match="does not say how its decoder starts"):
        labelled(model, *vars(_batch(_rows(1))).values())
    model.save_pretrained(tmp_path)
    with pytest.raises(ContentError, match="does not say how its decoder starts"):
        load.model(Base("x", tmp_path), torch.float32)


def test_a_base_is_loaded_as_what_its_config_says(tmp_path: Path) -> None:
    for kind in ("llama", "t5", "t5 v1.1", "bart"):
        made = tiny.model(kind)
        made.save_pretrained(tmp_path / kind)
        base = Base(kind, tmp_path / kind)
        loaded = load.model(base, torch.float32)
        assert type(loaded) is type(made)
        assert not loaded.training
        assert base.encoder_decoder == (kind != "llama")
        assert base.context == (None if kind.startswith("t5") else tiny.CONTEXT)
        ours, theirs = (
            Sft(SftSpec()).loss_sum(m, _batch(_rows(3))).detach() for m in (made, loaded.to(torch.device("cpu")))
        )
        assert torch.equal(ours, theirs)


def test_rehearsal_of_an_encoder_decoder_says_what_to_do_instead() -> None:
    model, adapter = tiny.model("t5"), Lora(LoraSpec(r=2))
    adapter.attach(model)
    with pytest.raises(ContentError, match="an encoder-decoder") as raised:
        Sft(SftSpec(rehearsal=RehearsalSpec())).prepare(Scene(model, adapter, _Words(), seed=1))
    assert "data.train" in str(raised.value.mend)
    Sft(SftSpec()).prepare(Scene(model, adapter, _Words(), seed=1))


@pytest.mark.parametrize("kind", KINDS)
def test_logits_at_are_the_plain_logits(kind: str) -> None:
    model = tiny.model(kind)
    batch = _batch(_rows(4))
    wanted = torch.rand(batch.input_ids_BL.shape, generator=torch.Generator().manual_seed(0)) < 0.4
    wanted &= batch.attention_mask_BL.bool()
    plain = model(input_ids=batch.input_ids_BL, attention_mask=batch.attention_mask_BL).logits
    picked = logits_at(model, batch.input_ids_BL, batch.attention_mask_BL, wanted)
    assert picked.shape == (int(wanted.sum()), 96)
    torch.testing.assert_close(picked, plain[wanted], rtol=1e-6, atol=1e-6)
    again = model(input_ids=batch.input_ids_BL, attention_mask=batch.attention_mask_BL).logits
    assert torch.equal(again, plain), "the hook must be gone"
    if kind == "gemma2":
        assert plain.abs().max() <= 0.5, "the soft cap is not in force, so nothing is proved"


@pytest.mark.parametrize("count", [0, 1])
def test_logits_at_few_positions_keep_their_shape(count: int) -> None:
    batch = _batch(_rows(2))
    wanted = torch.zeros_like(batch.input_ids_BL, dtype=torch.bool)
    wanted[0, :count] = True
    assert logits_at(tiny.model(), batch.input_ids_BL, batch.attention_mask_BL, wanted).shape == (count, 96)


def _plan(folder: Path, model: Any, trainable: dict[str, Any], rows: list[Encoded], training: TrainingSpec) -> Plan:
    return Plan(
        model=model, trainable=trainable, objective=Sft(SftSpec()), train=rows, repeats=[1] * len(rows),
        validation=[], pad_id=0, training=training, seed=3, folder=folder / "checkpoints",
        log=MetricsLog(folder / "metrics.jsonl"), identity={}, sink=silent,
    )  # fmt: skip


def _training(**more: Any) -> TrainingSpec:
    fixed = {"learning_rate": 1e-2, "precision": "fp32", "epochs": 2, "checkpoint_every": 1000, "weight_decay": 0.1}
    return TrainingSpec(**fixed | more)


def _trained(folder: Path, training: TrainingSpec, number_type: torch.dtype) -> tuple[list[float], dict[str, Any]]:
    model = tiny.model().to(number_type)
    adapter = Lora(LoraSpec(r=4, alpha=8))
    torch.manual_seed(0)
    adapter.attach(model)
    trainable = adapter.parameters()
    with torch.no_grad():
        for parameter in trainable.values():
            parameter.data = parameter.data.to(number_type)
    folder.mkdir()
    outcome = Loop(_plan(folder, model, trainable, _rows(40, weights=(1.0, 0.5)), training)).run(resume=False)
    return [loss for _, loss in outcome.progress.train_curve], {n: p.detach() for n, p in trainable.items()}


@pytest.mark.parametrize("shape", [(2, 4), (4, 2), (8, 1)])
def test_accumulation_changes_nothing_in_float64(shape: tuple[int, int], tmp_path: Path) -> None:
    size, pieces = shape
    losses, weights = {}, {}
    for name, (rows, times) in {"one by one": (1, 8), "other": (size, pieces)}.items():
        training = _training(batch_size=rows, gradient_accumulation=times)
        losses[name], weights[name] = _trained(tmp_path / name, training, torch.float64)
    assert len(losses["other"]) == 10
    np.testing.assert_allclose(losses["other"], losses["one by one"], rtol=0, atol=1e-6)
    for name, weight in weights["other"].items():
        torch.testing.assert_close(weight, weights["one by one"][name], rtol=0, atol=1e-6)


def test_another_number_of_rows_a_step_is_another_training(tmp_path: Path) -> None:
    first, _ = _trained(tmp_path / "a", _training(batch_size=8), torch.float64)
    other, _ = _trained(tmp_path / "b", _training(batch_size=4), torch.float64)
    assert len(first) != len(other)


def test_full_fine_tuning_learns_saves_and_loads(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model, adapter, rows = tiny.model(), Full(), _rows(12)
    adapter.attach(model)
    training = _training(batch_size=4, epochs=15)
    outcome = Loop(_plan(tmp_path, model, adapter.parameters(), rows, training)).run(resume=False)
    curve = [loss for _, loss in outcome.progress.train_curve]
    assert np.mean(curve[-3:]) < 0.3 * np.mean(curve[:3])
    (tmp_path / "model").mkdir()
    adapter.save(tmp_path / "model", "base")
    ids = torch.tensor([[1, 5, 9, 13]])
    with torch.no_grad():
        wanted = model(input_ids=ids).logits
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
        assert torch.equal(plain(input_ids=ids).logits, wanted)


def test_a_step_that_is_not_finite_is_skipped_and_the_curves_stay_readable(tmp_path: Path) -> None:
    class Sometimes(Sft):
        calls = 0

        def loss_sum(self, model: Any, batch: TorchBatch) -> torch.Tensor:
            self.calls += 1
            loss = super().loss_sum(model, batch)
            return loss * float("nan") if self.calls == 2 else loss

    model, adapter = tiny.model(), Lora(LoraSpec(r=2))
    adapter.attach(model)
    plan = _plan(tmp_path, model, adapter.parameters(), _rows(16), _training(batch_size=4, epochs=1))
    outcome = Loop(Plan(**vars(plan) | {"objective": Sometimes(SftSpec())})).run(resume=False)
    assert outcome.progress.skipped == [2]
    assert all(torch.isfinite(p).all() for p in adapter.parameters().values())
    train, _ = RunDir(tmp_path).curves()
    assert [step for step, _ in train] == [1, 3, 4]
    assert '"loss": null' in (tmp_path / "metrics.jsonl").read_text("utf-8")
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text("utf-8")


class _Words:
    """The part of a tokenizer that the rehearsal asks for."""

    bos_token_id, eos_token_id, pad_token_id = 1, 2, 0


def test_rehearsal_is_zero_at_the_start_and_grows_with_the_distance() -> None:
    model, adapter = tiny.model(), Lora(LoraSpec(r=4))
    adapter.attach(model)
    rehearsal = Rehearsal(RehearsalSpec(rows=6, length=12, every=2), model, adapter, _Words(), seed=1)
    assert abs(float(rehearsal.divergence(model, 0).detach())) < 1e-6
    found = []
    for scale in (0.1, 0.5):
        with torch.no_grad():
            for name, parameter in adapter.parameters().items():
                if "lora_B" in name:
                    parameter.copy_(scale * torch.ones_like(parameter))
        found.append(rehearsal.divergence(model, 4))
        assert float(rehearsal.divergence(model, 4).detach()) == float(found[-1].detach()), "a function of the step"
    assert 0 < float(found[0].detach()) < float(found[1].detach())
    found[1].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in adapter.parameters().values())


def test_the_teacher_of_a_rehearsal_drops_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model, adapter = tiny.model("gpt2"), Lora(LoraSpec(r=4))
    adapter.attach(model)
    rehearsal = Rehearsal(RehearsalSpec(rows=6, length=12), model, adapter, _Words(), seed=1)
    assert model.config.resid_pdrop > 0

    def without_dropout(*arguments: Any) -> torch.Tensor:
        """The student's answers; the teacher's as the method asks for them."""
        with evaluating(model) if torch.is_grad_enabled() else nullcontext():
            return logits_at(*arguments)

    monkeypatch.setattr(method, "logits_at", without_dropout)
    model.train()
    model.transformer.h[0].eval()  # a part that somebody froze
    before = {name: module.training for name, module in model.named_modules()}
    assert abs(float(rehearsal.divergence(model, 0).detach())) < 1e-6
    assert {name: module.training for name, module in model.named_modules()} == before
    assert set(before.values()) == {True, False}


def test_gradients_are_exchanged_once_a_step_whatever_the_accumulation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[bool] = []

    @contextmanager
    def exchanging(model: Any, *, wanted: bool) -> Iterator[None]:
        asked.append(wanted)
        yield

    monkeypatch.setattr(distributed, "exchanging", exchanging)
    _trained(tmp_path / "run", _training(batch_size=2, gradient_accumulation=4, max_steps=2), torch.float32)
    assert asked == [False, False, False, False, True] * 2, "the regulariser, then four micro-batches"
