"""Guards: numbers that are not finite, loss spikes, shortages of memory, hangs."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_loss import _plan, _rows, _training

import tiny
from tunesmith.adapters.config import LoraSpec
from tunesmith.adapters.lora import Lora
from tunesmith.core.errors import TunesmithError
from tunesmith.core.events import Note
from tunesmith.data import checks
from tunesmith.data.load import load
from tunesmith.engine.config import GuardSpec, TrainingSpec
from tunesmith.engine.evaluate import mean_loss
from tunesmith.engine.guards import StepGuard
from tunesmith.engine.loop import Loop, Outcome, Plan
from tunesmith.engine.objective import TorchBatch
from tunesmith.engine.watchdog import Watchdog
from tunesmith.methods.sft.config import SftSpec
from tunesmith.methods.sft.method import Sft

CALM = [2.0 + 0.01 * (i % 5) for i in range(40)]


def _allows(spec: GuardSpec, loss: float, norm: float = 1.0, earlier: list[float] = CALM) -> tuple[bool, list[str]]:
    said: list[str] = []
    return StepGuard(spec).allows(loss, norm, earlier, said.append), said


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (2.0, math.nan), (2.0, math.inf)])
def test_a_number_that_is_not_finite_is_never_let_through(loss: float, norm: float) -> None:
    allowed, said = _allows(GuardSpec(), loss, norm)
    assert not allowed
    assert "not finite" in said[0]
    with pytest.raises(TunesmithError, match="not finite"):
        _allows(GuardSpec(non_finite="stop"), loss, norm)


def test_ten_in_a_row_end_the_run_and_a_good_one_starts_the_count_again() -> None:
    guard = StepGuard(GuardSpec())
    for _ in range(9):
        assert not guard.allows(math.nan, 1.0, CALM, str)
    assert guard.allows(2.0, 1.0, CALM, str)
    for _ in range(9):
        assert not guard.allows(math.nan, 1.0, CALM, str)
    with pytest.raises(TunesmithError, match="10 optimizer steps in a row"):
        guard.allows(math.nan, 1.0, CALM, str)


def test_a_spike_is_six_deviations_above_the_mean() -> None:
    mean = sum(CALM) / len(CALM)
    limit = mean + 6 * math.sqrt(sum((x - mean) ** 2 for x in CALM) / len(CALM))
    assert _allows(GuardSpec(), limit - 1e-6) == (True, [])
    allowed, said = _allows(GuardSpec(), limit + 1e-3)
    assert allowed
    assert "far above" in said[0]
    assert _allows(GuardSpec(spike="skip"), limit + 1e-3)[0] is False
    with pytest.raises(TunesmithError, match="spike"):
        _allows(GuardSpec(spike="stop"), limit + 1e-3)
    assert _allows(GuardSpec(spike="skip", spike_sigmas=60.0), limit + 1e-3)[0] is True


def test_a_young_run_knows_no_spikes_and_bad_steps_do_not_blind_the_monitor() -> None:
    assert _allows(GuardSpec(spike="skip"), 100.0, earlier=CALM[:15])[0] is True
    assert _allows(GuardSpec(spike="skip"), 100.0, earlier=[*CALM, math.nan, math.inf])[0] is False


class _Sometimes(Sft):
    """Multiplies the loss of some calls."""

    def __init__(self, factors: dict[int, float]):
        super().__init__(SftSpec())
        self.factors, self.calls = factors, 0

    def loss_sum(self, model: Any, batch: TorchBatch) -> torch.Tensor:
        self.calls += 1
        return super().loss_sum(model, batch) * self.factors.get(self.calls, 1.0)


def _run(folder: Path, objective: Any, training: TrainingSpec, rows: int = 80) -> tuple[Outcome, Any, list[str]]:
    model, adapter = tiny.model(), Lora(LoraSpec(r=2))
    torch.manual_seed(0)
    adapter.attach(model)
    said: list[str] = []
    folder.mkdir(exist_ok=True)
    plan = _plan(folder, model, adapter.parameters(), _rows(rows), training)
    sink = lambda event: said.append(event.text) if isinstance(event, Note) else None  # noqa: E731
    outcome = Loop(Plan(**vars(plan) | {"objective": objective, "sink": sink})).run(resume=False)
    return outcome, adapter, said


def test_a_spike_in_a_run_is_told_at_its_step_and_skipped_if_wished(tmp_path: Path) -> None:
    training = _training(batch_size=4, epochs=1, learning_rate=1e-4)
    noted, after, said = _run(tmp_path / "a", _Sometimes({18: 50.0}), training)
    assert [line[:8] for line in said] == ["step 18:"]
    assert noted.progress.skipped == []
    training = training.model_copy(update={"guards": GuardSpec(spike="skip")})
    skipped, other, _ = _run(tmp_path / "b", _Sometimes({18: 50.0}), training)
    assert skipped.progress.skipped == [18]
    mine, theirs = after.parameters(), other.parameters()
    assert any(not torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_leaves_every_checkpoint_clean(bad: float, tmp_path: Path) -> None:
    training = _training(batch_size=4, epochs=1, checkpoint_every=1, keep_checkpoints=100)
    outcome, _, said = _run(tmp_path, _Sometimes({3: bad, 4: bad}), training, rows=24)
    assert outcome.progress.skipped == [3, 4]
    assert len(said) == 2
    files = list((tmp_path / "checkpoints").rglob("*.safetensors"))
    assert len(files) == 18
    for file in files:
        assert all(torch.isfinite(t.float()).all() for t in load_file(file).values()), file


class _SteepAtOnce(Sft):
    """A finite loss whose gradient is not: the root at zero has an infinite slope."""

    calls = 0

    def loss_sum(self, model: Any, batch: TorchBatch) -> torch.Tensor:
        self.calls += 1
        loss = super().loss_sum(model, batch)
        return loss + (loss - loss.detach()).abs().sqrt() if self.calls == 3 else loss


def test_a_gradient_that_is_not_finite_under_a_finite_loss_is_skipped(tmp_path: Path) -> None:
    outcome, adapter, _ = _run(tmp_path, _SteepAtOnce(SftSpec()), _training(batch_size=4, epochs=1), rows=24)
    assert outcome.progress.skipped == [3]
    assert all(math.isfinite(loss) for _, loss in outcome.progress.train_curve)
    assert all(torch.isfinite(p).all() for p in adapter.parameters().values())


def test_a_base_with_a_broken_weight_ends_the_run_and_writes_no_checkpoint_of_it(tmp_path: Path) -> None:
    model, adapter = tiny.model(), Lora(LoraSpec(r=2))
    adapter.attach(model)
    with torch.no_grad():
        model.get_parameter("model.norm.weight")[0] = math.nan
    training = _training(batch_size=4, epochs=2, checkpoint_every=1)
    with pytest.raises(TunesmithError, match="10 optimizer steps in a row"):
        Loop(_plan(tmp_path, model, adapter.parameters(), _rows(80), training)).run(resume=False)
    for file in (tmp_path / "checkpoints").rglob("*.safetensors"):
        assert all(torch.isfinite(t.float()).all() for t in load_file(file).values()), file


@pytest.mark.parametrize("weight", ["NaN", "Infinity", "1e999", "-1"])
def test_a_row_weight_that_is_not_finite_is_refused_where_it_is_read(weight: str, tmp_path: Path) -> None:
    row = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": %s}]}\n'
    path = tiny.write_rows(tmp_path / "train.jsonl", tiny.rows(0, 5))
    path.write_text(path.read_text("utf-8") + row % weight, "utf-8")
    loaded = load(path)
    assert len(loaded.examples) == 5
    [finding] = checks.bad_rows(loaded)
    assert finding.severity == "block"
    assert finding.rows == ("train.jsonl:6",)


class _Hungry(Sft):
    """Finds no memory for more than `rows` rows at a time."""

    def __init__(self, rows: int):
        super().__init__(SftSpec())
        self.rows, self.seen = rows, []

    def loss_sum(self, model: Any, batch: TorchBatch) -> torch.Tensor:
        loss = super().loss_sum(model, batch)
        torch.rand(3)  # a retry must find the random state that the first try found
        if len(batch.input_ids_BL) > self.rows:
            raise torch.OutOfMemoryError("out of memory. Tried to allocate 2.00 GiB")
        self.seen.append(len(batch.input_ids_BL))
        return loss


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_step(tmp_path: Path) -> None:
    starved, adapter, said = _run(tmp_path / "a", hungry := _Hungry(2), _training(batch_size=8, epochs=1), rows=20)
    assert [line for line in said if "in 4 parts" in line]
    assert set(hungry.seen) == {2}
    small = _training(batch_size=2, gradient_accumulation=4, epochs=1)
    plain, other, _ = _run(tmp_path / "b", Sft(SftSpec()), small, rows=20)
    assert starved.progress.train_curve == plain.progress.train_curve
    for name, parameter in adapter.parameters().items():
        assert torch.equal(parameter, other.parameters()[name]), "not the weights of a run with the smaller batch"


def test_validation_takes_smaller_batches_too() -> None:
    rows = _rows(400)
    plain = mean_loss(tiny.model(), Sft(SftSpec()), rows, pad_id=0, number_type="fp32")
    hungry = _Hungry(100)
    found = mean_loss(tiny.model(), hungry, rows, pad_id=0, number_type="fp32")
    assert found == pytest.approx(plain, abs=1e-6)
    assert max(hungry.seen) <= 100
    with pytest.raises(torch.OutOfMemoryError):
        mean_loss(tiny.model(), _Hungry(0), rows, pad_id=0, number_type="fp32")


def test_a_row_that_fits_nowhere_ends_the_run_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TunesmithError, match="one row alone") as told:
        _run(tmp_path, _Hungry(0), _training(batch_size=4, epochs=1))
    assert "max_length" in str(told.value.mend)
    assert "2.00 GiB" in str(told.value.why)


def test_other_errors_are_not_taken_for_a_shortage(tmp_path: Path) -> None:
    class Broken(Sft):
        def loss_sum(self, model: Any, batch: TorchBatch) -> torch.Tensor:
            raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        _run(tmp_path, Broken(SftSpec()), _training(batch_size=4, epochs=1))


def _watch(folder: Path, seconds: float, **spec: Any) -> list[str]:
    said: list[str] = []
    dog = Watchdog(GuardSpec(hang_minutes=0.001, **spec), folder, said.append, tick=0.01)
    with dog.watching():
        dog.beat(0.001)
        time.sleep(seconds)
        dog.beat(0.001)
    return said


def test_a_hang_is_told_once_with_every_threads_stack(tmp_path: Path) -> None:
    said = _watch(tmp_path, 0.4)
    [file] = tmp_path.glob("hang-*.txt")
    assert len(said) == 1
    assert str(file) in said[0]
    assert "_watch" in file.read_text("utf-8")
    assert "test_guards.py" in file.read_text("utf-8")
    assert not [t for t in threading.enumerate() if t.name == "watchdog"]


def test_a_usual_pause_is_no_hang(tmp_path: Path) -> None:
    dog = Watchdog(GuardSpec(hang_minutes=0.001), tmp_path, pytest.fail, tick=0.01)
    with dog.watching():
        for _ in range(3):
            dog.beat(10.0)  # steps of ten seconds: a hang is a hundred
        time.sleep(0.2)
    assert list(tmp_path.iterdir()) == []


def test_stacks_that_cannot_be_written_are_told_of(tmp_path: Path) -> None:
    said = _watch(tmp_path / "absent", 0.3)
    assert "could not be written" in said[0]
