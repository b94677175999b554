"""Guards: numbers that are not finite, loss spikes, shortages of memory, hangs."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_loss import _plan, _rows, _training

import tiny
from tunesmith.adapters.config import LoraSpec
from tunesmith.adapters.lora import Lora
from tunesmith.core.errors import TunesmithError
from tunesmith.core.events import Note, StepDone
from tunesmith.data import checks
from tunesmith.data.load import load
from tunesmith.engine import evaluate, loop, memory
from tunesmith.engine.checkpoint import Checkpoints
from tunesmith.engine.config import GuardSpec, TrainingSpec
from tunesmith.engine.evaluate import mean_loss, row_losses
from tunesmith.engine.guards import StepGuard
from tunesmith.engine.loop import Loop, Outcome, Plan
from tunesmith.engine.objective import TorchBatch
from tunesmith.engine.watchdog import Watchdog
from tunesmith.methods.sft.config import SftSpec
from tunesmith.methods.sft.method import Sft
from tunesmith.models.head import labelled

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


@pytest.mark.parametrize("policy", ["note", "skip"])
def test_a_spike_does_not_hide_those_behind_it_even_in_a_resumed_run(policy: str, tmp_path: Path) -> None:
    training = _training(batch_size=4, epochs=1, learning_rate=1e-4, guards=GuardSpec(spike=policy))
    steps = {18: 50.0, 19: 50.0, 20: 50.0}
    outcome, _, said = _run(tmp_path / "whole", _Sometimes(steps), training)
    assert [line.partition(":")[0] for line in said] == ["step 18", "step 19", "step 20"]
    assert outcome.progress.spikes == [18, 19, 20]
    assert outcome.progress.skipped == ([18, 19, 20] if policy == "skip" else [])

    first = _loop(tmp_path / "cut", _Sometimes(steps), training.model_copy(update={"checkpoint_every": 19}))
    with pytest.raises(_KilledError):
        first.run(resume=False)
    resumed = _loop(tmp_path / "cut", _Sometimes({1: 50.0}), training)  # its first call is that of step 20
    assert resumed.run(resume=True).progress.spikes == [18, 19, 20]


class _KilledError(Exception):
    """The run ends here."""


def _loop(folder: Path, objective: Any, training: TrainingSpec) -> Loop:
    """A run of twenty steps that ends behind the checkpoint of its nineteenth, if it writes one."""
    model, adapter = tiny.model(), Lora(LoraSpec(r=2))
    torch.manual_seed(0)
    adapter.attach(model)
    folder.mkdir(exist_ok=True)
    plan = _plan(folder, model, adapter.parameters(), _rows(80), training)

    def sink(event: object) -> None:
        if isinstance(event, StepDone) and event.step == 20 and training.checkpoint_every == 19:
            raise _KilledError

    return Loop(Plan(**vars(plan) | {"objective": objective, "sink": sink}))


def test_a_loss_that_stays_high_is_no_spike_any_more(tmp_path: Path) -> None:
    training = _training(batch_size=4, epochs=1, learning_rate=1e-4, guards=GuardSpec(spike="skip"))
    outcome, _, said = _run(tmp_path, _Sometimes(dict.fromkeys(range(18, 41), 50.0)), training, rows=160)
    assert outcome.progress.skipped == list(range(18, 28))
    assert len(said) == 10
    assert outcome.progress.spikes == []


def test_bad_steps_in_a_row_are_counted_on_after_a_resume(tmp_path: Path) -> None:
    training = _training(batch_size=4, epochs=1, checkpoint_every=19)
    bad = dict.fromkeys(range(13, 21), math.nan)
    with pytest.raises(_KilledError):
        _loop(tmp_path, _Sometimes(bad), training).run(resume=False)
    state = (tmp_path / "checkpoints" / "step-19" / "state.json").read_text("utf-8")
    assert json.loads(state, parse_constant=pytest.fail)["progress"]["train_curve"][-1] == [19, None]
    again = _loop(tmp_path, _Sometimes({1: math.nan}), _training(batch_size=4, epochs=1))
    outcome = again.run(resume=True)
    assert outcome.progress.not_finite == 8
    assert outcome.progress.skipped == list(range(13, 21))
    assert [math.isnan(loss) for _, loss in outcome.progress.train_curve[-8:]] == [True] * 8


def test_the_tenth_bad_step_ends_a_run_that_was_resumed_in_between(tmp_path: Path) -> None:
    bad = dict.fromkeys(range(10, 21), math.nan)
    training = _training(batch_size=4, epochs=1, checkpoint_every=17, learning_rate=1e-4)
    with pytest.raises(TunesmithError, match="10 optimizer steps in a row"):
        _loop(tmp_path, _Sometimes(bad), training).run(resume=False)  # 10 to 19
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-17"]
    with pytest.raises(TunesmithError, match="10 optimizer steps in a row"):
        _loop(tmp_path, _Sometimes({1: math.nan, 2: math.nan}), training).run(resume=True)  # 18 and 19


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


def test_the_losses_of_rows_take_smaller_batches_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _rows(400)
    model = tiny.model()
    plain = row_losses(model, rows, pad_id=0, number_type="fp32")
    seen: list[int] = []

    def hungry(model: Any, input_ids: torch.Tensor, *rest: torch.Tensor) -> Any:
        if len(input_ids) > 100:
            raise MemoryError
        seen.append(len(input_ids))
        return labelled(model, input_ids, *rest)

    monkeypatch.setattr(evaluate, "labelled", hungry)
    sums, counts = row_losses(model, rows, pad_id=0, number_type="fp32")
    assert max(seen) <= 100
    assert sum(seen) >= 400
    np.testing.assert_allclose(sums, plain[0], atol=1e-4)
    assert counts.tolist() == plain[1].tolist()


@pytest.mark.parametrize(
    ("error", "shortage"),
    [
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"), False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("CUDA error: out of memory"), False),
    ],
)
def test_what_tells_of_a_shortage_of_memory(error: Exception, shortage: bool) -> None:
    assert memory.out_of_memory(error) == shortage


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


class _Slow(Sft):
    """Sleeps in validation batches and in one step."""

    def __init__(self, in_validation: float, at_step: int = 0, in_step: float = 0.0):
        super().__init__(SftSpec())
        self.in_validation, self.at_step, self.in_step, self.batches, self.steps = in_validation, at_step, in_step, 0, 0

    def loss_sum(self, model: Any, batch: TorchBatch) -> torch.Tensor:
        if not torch.is_grad_enabled():
            time.sleep(self.in_validation)
            self.batches += 1
        else:
            self.steps += 1
            time.sleep(self.in_step if self.steps == self.at_step else 0.0)
        return super().loss_sum(model, batch)


def _watched(folder: Path, objective: Any, monkeypatch: pytest.MonkeyPatch, **plan: Any) -> list[str]:
    """What a run of three steps and three validations of 10 batches each says, watched closely: 0.4 s are a hang."""
    monkeypatch.setattr(loop, "Watchdog", partial(Watchdog, tick=0.02))
    monkeypatch.setattr(evaluate, "EVALUATION_TOKENS", 1)
    training = _training(batch_size=4, epochs=1, evaluate_every=1, guards=GuardSpec(hang_minutes=0.4 / 60))
    model, adapter = tiny.model(), Lora(LoraSpec(r=2))
    adapter.attach(model)
    said: list[str] = []
    made = _plan(folder, model, adapter.parameters(), _rows(12), training)
    sink = lambda event: said.append(event.text) if isinstance(event, Note) else None  # noqa: E731
    more = {"objective": objective, "sink": sink, "validation": _rows(10)} | plan
    Loop(Plan(**vars(made) | more)).run(resume=False)
    return said


def test_a_long_validation_that_goes_on_is_no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = _Slow(0.06)
    assert _watched(tmp_path, slow, monkeypatch) == []
    assert slow.batches == 30


def test_a_step_that_hangs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [said] = _watched(tmp_path, _Slow(0.0, at_step=3, in_step=1.2), monkeypatch)
    assert said.startswith("no step for")
    [file] = tmp_path.glob("hang-*.txt")
    assert "loss_sum" in file.read_text("utf-8")


def test_answering_and_saving_may_take_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def score() -> float:
        time.sleep(0.8)
        return 0.5

    prune = Checkpoints.prune

    def slowly(self: Checkpoints, *arguments: Any) -> None:
        time.sleep(0.8)
        prune(self, *arguments)

    monkeypatch.setattr(Checkpoints, "prune", slowly)
    assert _watched(tmp_path, Sft(SftSpec()), monkeypatch, score=score) == []
    assert list((tmp_path / "checkpoints").glob("step-3"))


STOPS = """
import sys
from functools import partial
from pathlib import Path

import pytest
import test_guards
from tunesmith.engine.watchdog import Watchdog

folder, objective = Path(sys.argv[1]), eval("test_guards." + sys.argv[2])
stopping = test_guards.GuardSpec(hang="stop", hang_minutes=0.4 / 60)
test_guards.GuardSpec = lambda **_: stopping
with pytest.MonkeyPatch.context() as patch:
    print(test_guards._watched(folder, objective, patch))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "code"), [("_Slow(0.0, at_step=3, in_step=60.0)", 75), ("_Slow(0.06)", 0)])
def test_a_hang_ends_the_process_if_wished_and_a_long_validation_does_not(
    objective: str, code: int, tmp_path: Path
) -> None:
    here = Path(__file__).parent
    ended = subprocess.run(
        [sys.executable, "-c", STOPS, str(tmp_path), objective],
        timeout=60, capture_output=True, text=True, check=False,
        env=dict(os.environ) | tiny.ENVIRONMENT | {
            "PYTHONPATH": os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
        },
    )  # fmt: skip
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert len(list(tmp_path.glob("hang-*.txt"))) == (code == 75)
