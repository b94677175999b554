"""Frozen lower layers computed once: the same losses and gradients, the same bytes after a kill, and no more than that
where it does not fit."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_loss import _batch, _rows
from torch import Tensor

import families
from tunesmith.adapters.config import (
    AdapterBase,
    BitFitSpec,
    FullSpec,
    LayersSpec,
    LoraSpec,
    PrefixSpec,
    PromptSpec,
)
from tunesmith.adapters.headed import Headed
from tunesmith.core.errors import ContentError, InterruptedRunError, OutputError
from tunesmith.core.events import Event, Note, Progress, Sink, StepDone, silent
from tunesmith.data.answers import Pair
from tunesmith.data.spool import Spool
from tunesmith.data.tokenize import Encoded
from tunesmith.engine import memory, precision
from tunesmith.engine import trunk as engine
from tunesmith.engine.branches import sequences
from tunesmith.engine.config import DevicesSpec, TrainingSpec, TrunkCacheSpec
from tunesmith.engine.loop import Loop, Outcome, Plan
from tunesmith.engine.metrics_log import MetricsLog
from tunesmith.engine.trunk import Kept, Seen, TrunkCache
from tunesmith.methods.sft.config import SftSpec
from tunesmith.methods.sft.method import Sft
from tunesmith.models import fast, pooling, trunk
from tunesmith.pipelines import train

CPU = torch.device("cpu")
DECODERS = [kind for kind in families.DECODERS if "moe" not in kind and kind not in ("gpt2", "mixtral")]
LORA, LAYERS = LoraSpec(r=4, last=1), LayersSpec(last=1)


@pytest.fixture(autouse=True)
def three_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(families.COMMON, "num_hidden_layers", 3)


def _model(kind: str, spec: AdapterBase, **other: Any) -> tuple[Any, Any]:
    model, adapter = families.model(kind, **other), spec.build()
    fast.hasten(model)
    torch.manual_seed(1)
    adapter.attach(model)
    with torch.no_grad():
        for name, parameter in adapter.parameters().items():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.1)
    return model, adapter


def _filled(model: Any, rows: Sequence[Any], tokens: int = 1000, in_memory: int = 1000, kind: str = "fp32") -> Any:
    """(the cache, what it keeps) of rows that come twice."""
    cache = TrunkCache.of(model, kind, 0)
    assert cache is not None
    kept = cache.fill(Sft(SftSpec()), [Seen(rows, [2.0] * len(rows))], in_memory, tokens)
    return cache, kept


@contextmanager
def _lowest(model: Any) -> Iterator[list[int]]:
    """How many rows the lowest layer is given in each pass."""
    seen: list[int] = []
    inner = next(iter(trunk._layers(model)[0].children()))
    hook = inner.register_forward_hook(lambda _, args, out: seen.append(len(out[0] if isinstance(out, tuple) else out)))
    yield seen
    hook.remove()


def _gradients(model: Any, adapter: Any, rows: Sequence[Encoded], kind: str = "fp32") -> tuple[float, Tensor]:
    """(loss, the gradient of all that is trained as one vector)."""
    model.train()
    with precision.context(kind, model):
        loss = Sft(SftSpec()).loss_sum(model, _batch(rows))
    loss.backward()
    parts = []
    for parameter in adapter.parameters().values():
        assert parameter.grad is not None
        parts.append(parameter.grad.flatten().float())
        parameter.grad = None
    return loss.item(), torch.cat(parts)


def _same(model: Any, adapter: Any, rows: Sequence[Encoded], cache: Any, kept: Any, near: float, of: str) -> list[int]:
    """What the lowest layer was given while kept states gave the loss and the gradient of the plain way."""
    loss, gradient = _gradients(model, adapter, rows, of)
    with cache.keeping(kept), _lowest(model) as seen:
        found, moved = _gradients(model, adapter, rows, of)
    assert found == pytest.approx(loss, rel=near)
    assert float((moved - gradient).norm() / gradient.norm()) < 10 * near
    return seen


@pytest.mark.parametrize("spec", [LORA, LAYERS], ids=["lora", "layers"])
@pytest.mark.parametrize("kind", DECODERS)
def test_the_same_loss_and_gradients_without_the_lower_layers(kind: str, spec: AdapterBase) -> None:
    model, adapter = _model(kind, spec)
    rows = _rows(6)
    cache, kept = _filled(model, rows)
    assert _same(model, adapter, rows[1:5], cache, kept, 1e-5, "fp32") == []
    assert kept.rows == 6


def test_gpt2_where_nothing_drops_out() -> None:
    model, adapter = _model("gpt2", LORA, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    rows = _rows(4)
    assert _same(model, adapter, rows, *_filled(model, rows), 1e-5, "fp32") == []


@pytest.mark.parametrize("spec", [LORA, LAYERS], ids=["bf16", "mixed"])
def test_in_bf16(spec: AdapterBase) -> None:
    model, adapter = _model("llama", spec)
    if spec is LORA:
        for parameter in model.parameters():
            parameter.data = parameter.data if parameter.requires_grad else parameter.data.bfloat16()
    rows = _rows(6)
    cache, kept = _filled(model, rows, kind="bf16")
    assert _same(model, adapter, rows, cache, kept, 1e-2, "bf16") == []
    states = kept.at(trunk.key(rows[0].input_ids))
    assert states.dtype == (torch.bfloat16 if spec is LORA else torch.float32)


def test_rows_beyond_the_budget_are_computed_as_ever_and_alone() -> None:
    model, adapter = _model("gemma2", LORA)
    rows = _rows(6)
    longest = sorted((row.length for row in rows), reverse=True)
    cache, kept = _filled(model, rows, tokens=sum(longest[:2]) + 1)
    assert kept.rows == 2
    assert _same(model, adapter, rows, cache, kept, 1e-5, "fp32") == [4]
    shortest = sorted(rows, key=lambda row: row.length)[:3]
    assert _same(model, adapter, shortest, cache, kept, 1e-9, "fp32") == [3], "a batch with none kept is a plain one"


def test_states_on_disk_are_those_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = _model("llama", LORA)
    rows = _rows(6)
    _, memory_alone = _filled(model, rows)
    cache, both = _filled(model, rows, in_memory=rows[0].length)
    assert "on disk" in both.told()
    assert "on disk" not in memory_alone.told()
    budget = cache.budget(TrunkCacheSpec(memory_mb=1, disk_mb=2))
    assert budget.tokens == 3 * budget.memory == 3 * (1 << 20) // (32 * 4)
    for row in rows:
        key = trunk.key(row.input_ids)
        assert torch.equal(both.at(key), memory_alone.at(key))

    def full(*_: Any) -> None:
        raise OutputError("cannot write")

    monkeypatch.setattr(Spool, "append", full)
    with pytest.raises(OutputError):
        _filled(model, rows, in_memory=0)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("llama", FullSpec()), ("llama", LoraSpec(r=4)), ("llama", LoraSpec(r=4, last=3)), ("qwen2", BitFitSpec()),
        ("llama tied", LayersSpec(names=("lm_head",))), ("llama", LayersSpec(names=("embed_tokens", "layers.2"))),
        ("llama", PromptSpec(tokens=3)), ("llama", PrefixSpec(tokens=3)),
        ("qwen3-moe", LORA), ("gpt2", LORA), ("t5", LAYERS),
    ],
)  # fmt: skip
def test_where_nothing_can_be_kept(kind: str, spec: AdapterBase) -> None:
    model, _ = _model(kind, spec)
    before = [parameter.requires_grad for parameter in model.parameters()]
    assert trunk.find(model) is None
    assert [parameter.requires_grad for parameter in model.parameters()] == before


def test_a_head_alone_stands_on_all_layers() -> None:
    model, adapter = _model("llama", LayersSpec(names=("lm_head",)))
    rows = _rows(4)
    assert _same(model, adapter, rows, *_filled(model, rows), 1e-5, "fp32") == []


def test_noise_on_embeddings_is_not_lost() -> None:
    model, _ = _model("llama", LORA)
    rows, noisy = _rows(4), Sft(SftSpec(neftune_alpha=5.0))
    cache, kept = _filled(model, rows)
    model.train()
    with cache.keeping(kept), _lowest(model) as seen:
        noisy.loss_sum(model, _batch(rows))
    assert seen == [4]


def test_padding_on_the_left_is_not_taken_for_a_row() -> None:
    model, _ = _model("llama", LORA)
    padded = torch.tensor([[0, 0, 5, 6, 7, 8]])
    row = Encoded(padded[0, :4].int().numpy(), np.ones(4, dtype=np.float32))
    cache, kept = _filled(model, [row])
    with cache.keeping(kept), _lowest(model) as seen:
        trunk.run(model, {"input_ids": padded, "attention_mask": (padded > 0).long()})
        assert seen == [1]
        trunk.run(model, {"input_ids": padded[:, :4], "attention_mask": torch.ones(1, 4)})
        assert seen == [1]


def test_activation_checkpointing_goes_with_it() -> None:
    model, adapter = _model("llama", LoraSpec(r=4, last=2))
    train._arrange(_Prepared(), _Bench(model), train.ALONE)  # type: ignore[arg-type]
    rows = _rows(4)
    assert _same(model, adapter, rows, *_filled(model, rows), 1e-5, "fp32") == []


class _Bench:
    def __init__(self, model: Any):
        self.model = model


class _Prepared:
    spec = type("Spec", (), {"training": TrainingSpec(devices=DevicesSpec(activation_checkpointing=True))})()


def test_a_reward_s_plain_rows_and_no_branched_ones() -> None:
    one, other = _rows(2)
    pair = Pair(one, other, 0)
    apart, together = (sequences([pair.family()], 0, CPU, share=share).lines() for share in (False, True))
    assert apart is not None
    assert apart[1].sum(1).tolist() == [one.length, other.length]
    assert together is None


def test_rows_that_come_most_often_are_kept_first_and_those_that_come_once_not_at_all() -> None:
    model, _ = _model("llama", LORA)
    cache = TrunkCache.of(model, "fp32", 0)
    assert cache is not None
    rows, validation = _rows(6), _rows(3, seed=5)
    seen = [Seen(rows, [1.0] * 3 + [3.0] * 3), Seen(validation, [10.0] * 3)]
    enough = sum(row.length for row in [*validation, *rows[3:]])

    def kept(tokens: int) -> list[bool]:
        found = cache.fill(Sft(SftSpec()), seen, tokens, tokens)
        return [found is not None and found.at(trunk.key(row.input_ids)) is not None for row in [*rows, *validation]]

    assert kept(10 * enough) == [False] * 3 + [True] * 6
    assert kept(enough - 1)[6:] == [True] * 3
    assert sum(kept(enough - 1)[:6]) == 2
    assert not any(kept(0))


def test_an_eighth_of_what_this_process_may_have(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, _ = _model("llama", LORA)
    cache = TrunkCache.of(model, "fp32", 0)
    assert cache is not None
    whole = memory.machine_bytes()
    assert cache.budget(TrunkCacheSpec()).tokens == round(whole / 8) // (32 * 4)
    assert cache.budget(TrunkCacheSpec(memory_mb=1)).tokens == (1 << 20) // (32 * 4)
    monkeypatch.setattr(memory.resource, "getrlimit", lambda _: (1 << 24, 1 << 24))
    assert memory.machine_bytes() == 1 << 24
    (tmp_path / "max").write_text(f"{1 << 20}\n")
    monkeypatch.setattr(memory, "_GROUP_LIMITS", (tmp_path / "absent", tmp_path / "max"))
    assert memory.machine_bytes() == 1 << 20


class PulledPlugError(Exception):
    """What ends the process."""


def _train(
    folder: Path, *, keep: TrunkCacheSpec | None, resume: bool = False, sink: Sink = silent, epochs: float = 3,
    validation: int = 3,
) -> tuple[Outcome, dict[str, Tensor], list[int]]:  # fmt: skip
    """From the base on, as a new process would: (outcome, trained weights, rows in the lowest layer)."""
    folder.mkdir(exist_ok=True)
    model, adapter = _model("llama", LoraSpec(r=4, dropout=0.2, last=1))
    rows = _rows(8)
    training = TrainingSpec(
        epochs=epochs, batch_size=4, learning_rate=1e-2, precision="fp32", checkpoint_every=2, evaluate_every=2,
        early_stopping=None,
    )  # fmt: skip
    plan = Plan(
        model=model, trainable=adapter.parameters(), objective=Sft(SftSpec()), train=rows, repeats=[1] * len(rows),
        validation=_rows(validation, seed=9), pad_id=0, training=training, seed=3, folder=folder / "checkpoints",
        log=MetricsLog(folder / "metrics.jsonl"), identity={}, sink=sink, trunk=keep,
    )  # fmt: skip
    with _lowest(model) as seen:
        outcome = Loop(plan).run(resume=resume)
    return outcome, {name: p.detach() for name, p in adapter.parameters().items()}, seen


SOME = TrunkCacheSpec(memory_mb=0, disk_mb=1)
TEXT = "the lower 2 of 3 layers are computed once: 11 rows, "


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("keep", [TrunkCacheSpec(), SOME], ids=["memory", "disk"])
def test_a_training_reads_every_row_once_through_the_lower_layers(keep: TrunkCacheSpec, tmp_path: Path) -> None:
    said: list[str] = []
    plain, weights, seen = _train(tmp_path / "plain", keep=None)
    assert sum(seen) == 3 * 8 + 3 * 3
    found, same, once = _train(tmp_path / "kept", keep=keep, sink=lambda e: said.append(getattr(e, "text", "")))
    assert sum(once) == (1 + 1 + 2) + 1 + 8 + 3, "the trial, two tokens for their size, and every row"
    assert any(text.startswith(TEXT) for text in said)
    assert found.progress.trunk_seconds > 0 == plain.progress.trunk_seconds
    for one, other in zip(found.progress.train_curve, plain.progress.train_curve, strict=True):
        assert one[1] == pytest.approx(other[1], rel=1e-4)
    for name, weight in weights.items():
        torch.testing.assert_close(same[name], weight, rtol=1e-2, atol=1e-4)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["checkpoints", "metrics.jsonl"]


@pytest.mark.parametrize("keep", [TrunkCacheSpec(), SOME], ids=["memory", "disk"])
def test_interrupted_and_resumed_is_uninterrupted(
    keep: TrunkCacheSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With rows beyond the budget as well, and a larger budget where it goes on: the choice of rows stays."""

    def pull(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            raise PulledPlugError

    portions: list[list[int]] = []
    plain = TrunkCache._states
    monkeypatch.setattr(engine, "PORTION_TOKENS", 40)
    monkeypatch.setattr(TrunkCache, "_states", lambda c, rows: (portions.append([*map(len, rows)]), plain(c, rows))[1])
    monkeypatch.setattr(TrunkCache, "budget", lambda self, spec: _budget(self, spec, 100))
    whole, wanted, _ = _train(tmp_path / "whole", keep=keep)
    first = portions.copy()
    assert len(first) > 2
    assert 60 < (whole.progress.trunk_tokens or 0) <= 100
    with pytest.raises(PulledPlugError):
        _train(tmp_path / "cut", keep=keep, sink=pull)
    monkeypatch.setattr(TrunkCache, "budget", lambda self, spec: _budget(self, spec, 1000))
    portions.clear()
    resumed, found, _ = _train(tmp_path / "cut", keep=keep, resume=True)
    assert portions == first, "in other portions bf16 may round otherwise"
    assert resumed.progress.trunk_tokens == whole.progress.trunk_tokens
    assert resumed.progress.train_curve == whole.progress.train_curve
    assert resumed.progress.validation_curve == whole.progress.validation_curve
    assert _equal(found, wanted)


BUDGET = TrunkCache.budget


def _budget(cache: TrunkCache, spec: TrunkCacheSpec, tokens: int) -> Any:
    """What the recipe admits, cut to so many tokens."""
    admitted = BUDGET(cache, spec)
    return type(admitted)(min(tokens, admitted.memory), min(tokens, admitted.disk))


def test_a_run_of_an_older_version_and_one_whose_cache_is_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pull(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            raise PulledPlugError

    _, wanted, _ = _train(tmp_path / "whole", keep=None)
    state = Loop._state

    def older(loop: Loop) -> dict[str, Any]:
        told = state(loop)
        del told["progress"]["trunk_tokens"], told["progress"]["trunk_seconds"]
        return told

    said: list[str] = []
    monkeypatch.setattr(Loop, "_state", older)
    with pytest.raises(PulledPlugError):
        _train(tmp_path / "old", keep=None, sink=pull)
    monkeypatch.setattr(Loop, "_state", state)
    _, found, _ = _train(
        tmp_path / "old", keep=TrunkCacheSpec(), resume=True, sink=lambda e: said.append(getattr(e, "text", ""))
    )
    assert _equal(found, wanted)
    assert not any("computed once" in text for text in said), "a training goes on as it began"
    said.clear()
    with pytest.raises(PulledPlugError):
        _train(tmp_path / "off", keep=TrunkCacheSpec(), sink=pull)
    _train(tmp_path / "off", keep=None, resume=True, sink=lambda e: said.append(getattr(e, "text", "")))
    assert "less of the frozen layers is kept than before: last digits may differ" in said


def test_a_signal_while_states_are_made_ends_with_its_code_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PORTION_TOKENS", 1)
    done: list[int] = []

    def interrupt(event: Event) -> None:
        if isinstance(event, Progress):
            if not done:
                os.kill(os.getpid(), signal.SIGTERM)
            done.append(event.done)

    _, wanted, _ = _train(tmp_path / "whole", keep=TrunkCacheSpec())
    with pytest.raises(InterruptedRunError, match="stopped before the first of 6 steps") as stopped:
        _train(tmp_path / "cut", keep=TrunkCacheSpec(), sink=interrupt)
    assert stopped.value.exit_code == 75
    assert done == [1]
    _, found, _ = _train(tmp_path / "cut", keep=TrunkCacheSpec(), resume=True)
    assert _equal(found, wanted)


def test_a_shortage_of_memory_leaves_the_training_as_it_would_be_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: Any) -> None:
        raise torch.OutOfMemoryError("no memory")

    _, wanted, _ = _train(tmp_path / "plain", keep=None)
    monkeypatch.setattr(Kept, "put", short)
    said: list[Event] = []
    outcome, found, _ = _train(tmp_path / "short", keep=TrunkCacheSpec(), sink=said.append)
    assert Note("out of memory: nothing of the frozen layers is kept", "warning") in said
    assert outcome.progress.trunk_tokens == 0
    assert _equal(found, wanted)


@pytest.mark.parametrize(("epochs", "validation", "rows"), [(1, 0, 0), (1, 3, 3), (1.5, 0, 8)])
def test_what_comes_once_is_not_kept(epochs: float, validation: int, rows: int, tmp_path: Path) -> None:
    said: list[str] = []
    steps = _train(
        tmp_path / "run", keep=TrunkCacheSpec(), epochs=epochs, validation=validation,
        sink=lambda e: said.append(getattr(e, "text", "")),
    )[0].total_steps  # fmt: skip
    assert steps == round(2 * epochs)
    told = [text for text in said if "computed once" in text]
    assert [f": {rows} rows," in text for text in told] == ([True] if rows and (rows != 3 or steps > 2) else [])


def test_a_classifier_s_rows() -> None:
    import transformers

    torch.manual_seed(3)
    config = transformers.LlamaConfig(**families.COMMON, num_labels=3)
    model = transformers.LlamaForSequenceClassification(config).eval()
    Headed(LORA.build(), "score").attach(model)
    rows = _rows(4)
    batch, last_S = _batch(rows), torch.tensor([row.length - 1 for row in rows])
    inputs = {"input_ids": batch.input_ids_BL, "attention_mask": batch.attention_mask_BL}
    places_S = torch.arange(4) * batch.input_ids_BL.shape[1] + last_S
    wanted = pooling.scored(model, inputs, places_S)
    cache, kept = _filled(model, rows)
    with cache.keeping(kept), _lowest(model) as seen:
        found = pooling.scored(model, inputs, places_S)
    assert seen == []
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_last_blocks_alone_are_adapted() -> None:
    _, adapter = _model("gpt-neox", LoraSpec(r=4, last=2))
    assert {int(name.split("layers.")[1].split(".")[0]) for name in adapter.parameters()} == {1, 2}
    with pytest.raises(ContentError, match=r"adapter\.last is 4, but the base has 3 blocks"):
        _model("llama", LoraSpec(r=4, last=4))
    with pytest.raises(ContentError, match=r"adapter\.last needs a decoder by itself"):
        _model("bart", LoraSpec(r=4, last=1))
