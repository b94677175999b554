"""What a run will take, before its first step: costs by hand, the decision about activations, what is told when."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tiny
from tunesmith.core.errors import ContentError
from tunesmith.core.events import Event, Note, StepDone, silent
from tunesmith.engine import gradients, memory
from tunesmith.engine.distributed import ALONE
from tunesmith.engine.rate import Rates, rates
from tunesmith.models.size import Size
from tunesmith.pipelines import foresee, foretell, journey
from tunesmith.pipelines.costs import FACTORS, Costs, Work
from tunesmith.pipelines.foresee import Foreseen, time_told
from tunesmith.pipelines.foretell import Foreteller
from tunesmith.pipelines.read_recipe import read_recipe
from tunesmith.pipelines.recipe import RunSpec

LINEAR = (("model.layers.0.q_proj.weight", 10, 20), ("model.layers.1.up.weight", 30, 10))
SIZE = Size(parameters=1300, body=1000, head=200, linear=LINEAR, layers=2, hidden=10, vocabulary=20)
LENGTHS, LABELLED = [10, 20, 30, 40], [2, 4, 6, 8]
UNIT = Rates(products=1.0, moved=1.0, call=1.0)


def spec(**more: Any) -> RunSpec:
    return RunSpec.model_validate({"data": {"train": "x.jsonl"}, "adapter": {"type": "lora", "r": 1}, **more})


def costs(made: RunSpec, number_type: str = "fp32", *, whole: bool = False) -> Costs:
    return Costs(made, SIZE, number_type, whole=whole)


# What is counted.


def test_a_piece_by_hand() -> None:
    work, f = costs(spec()).piece([0, 1], LENGTHS, LABELLED, again=False), FACTORS["fp32"]
    tokens, seen = 2 * 20, 2 * 20 * 20  # padded to the longer
    body = 2 * 1000 * tokens * 2  # forward, and backward through what is frozen
    attention = 2 * seen * 10 * 2 * (1 + 2.5)
    low_rank = 2 * (30 + 40) * tokens * 3
    head = 2 * 200 * 6 * 2
    wanted = f.product * body + f.narrow * low_rank + f.attention * attention + f.head * head
    assert work.products == pytest.approx(wanted)
    assert work.calls == f.calls * 2
    assert work.moved == f.passes * tokens * 2 * (10 + 0.35 * 30) * 4


def test_lines_hold_no_padding() -> None:
    line, one = costs(spec(), "bf16"), costs(spec(), "bf16", whole=True)
    assert line.piece([0, 3], LENGTHS, LABELLED, again=False).moved == pytest.approx(
        line.piece([1, 2], LENGTHS, LABELLED, again=False).moved
    )
    assert one.piece([0, 3], LENGTHS, LABELLED, again=False).moved == pytest.approx(
        one.piece([3, 3], LENGTHS, LABELLED, again=False).moved
    )


def test_a_step_is_its_pieces_and_the_update() -> None:
    counted = costs(spec(), whole=True)
    step = [[0, 1], [2, 3]]
    assert counted.pieces(step, LENGTHS) == step
    found = counted.step(step, LENGTHS, LABELLED, again=False)
    pieces = [counted.piece(piece, LENGTHS, LABELLED, again=False) for piece in step]
    assert found.products == pytest.approx(sum(piece.products for piece in pieces))
    assert found.moved > sum(piece.moved for piece in pieces)
    assert foresee.padded([0, 3], LENGTHS) == 80


def test_checkpointing_computes_once_more_and_frozen_layers_that_are_kept_are_spared() -> None:
    adapter = {"type": "lora", "r": 1, "last": 1}
    whole, part = (
        costs(spec(adapter=one)).piece([0], LENGTHS, LABELLED, again=False)
        for one in ({"type": "lora", "r": 1}, adapter)
    )
    again = costs(spec(adapter=adapter)).piece([0], LENGTHS, LABELLED, again=True)
    assert again.products < part.products < whole.products
    off = costs(spec(adapter=adapter, training={"devices": {"trunk_cache": None}}))
    assert off.piece([0], LENGTHS, LABELLED, again=True) == off.piece([0], LENGTHS, LABELLED, again=False) == part
    twice = costs(spec(training={"devices": {"activation_checkpointing": True}}))
    extra = twice.piece([0], LENGTHS, LABELLED, again=False).products - whole.products
    f = FACTORS["fp32"]
    assert extra == pytest.approx(f.product * 2e3 * 10 + f.narrow * 2 * 70 * 10 + f.attention * 2 * 100 * 10 * 2)


def test_rehearsal_comes_on_top_of_its_own_steps() -> None:
    counted = costs(spec(method={"type": "sft", "rehearsal": {"rows": 8, "every": 3}}))
    assert [bool(counted.rehearsal(number).products) for number in range(7)] == [True, False, False] * 2 + [True]
    assert costs(spec()).rehearsal(0) == Work()


def test_what_learns_costs_more_than_what_is_frozen() -> None:
    full, lora = (
        costs(spec(adapter=one)).piece([0], LENGTHS, LABELLED, again=False)
        for one in ({"type": "full"}, {"type": "lora", "r": 1})
    )
    assert full.products > lora.products
    validation = costs(spec()).validations(3, LENGTHS, LABELLED)
    assert 0 < validation.products < 3 * 4 * costs(spec()).piece([3], LENGTHS, LABELLED, again=False).products


def test_tokens_at_once_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "AT_ONCE", 34 * 10 * 2 * 7)
    assert gradients.at_once(10, 2, 2) == 7
    assert gradients.at_once(10, 2, 4) == 3
    assert gradients.at_once(10_000, 2, 4) == 1


def test_measuring_a_machine_draws_nothing() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    found = rates(torch.float32, 16, 32)
    assert min(found.products, found.moved, found.call) > 0
    assert torch.equal(torch.random.get_rng_state(), before)


# Memory.


def test_a_control_group_limits_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    alone = memory.available_mb()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text(f"{60 << 20}\n")
    (tmp_path / "memory.stat").write_text(f"anon {50 << 20}\nactive_file {4 << 20}\ninactive_file {6 << 20}\n")
    assert memory.available_mb() == pytest.approx(alone, rel=0.2)
    (tmp_path / "memory.max").write_text(f"{100 << 20}\n")
    assert memory.available_mb() == 50
    (tmp_path / "memory.max").write_text(f"{10 << 20}\n")
    assert memory.available_mb() == 0


@pytest.mark.parametrize(
    ("changed", "recorded", "free", "wanted"),
    [
        ({}, None, 1e9, False),
        ({}, None, 0.05, True),
        ({"training": {"devices": {"activation_checkpointing": False}}}, None, 0.05, False),
        ({"training": {"devices": {"activation_checkpointing": True}}}, None, 1e9, True),
        ({"adapter": {"type": "prefix", "tokens": 2}}, None, 0.05, False),
        ({}, {"activation_checkpointing": True}, 1e9, True),
        ({}, {"activation_checkpointing": False}, 0.05, False),
        ({}, {}, 0.05, False),
    ],
    ids=["room", "none", "off", "on", "cannot", "went on with it", "went on without", "went on from before"],
)
def test_activations_are_computed_again_where_memory_would_not_suffice(
    changed: dict[str, Any], recorded: Any, free: float, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_mb", lambda: free)
    found, remark = foresee._decided(spec(**changed), lambda _: 0.05, recorded)
    assert found.training.devices.activation_checkpointing is wanted
    assert bool(remark) == (wanted and recorded is None and not changed)


# What is told.


def foreseen(**changed: Any) -> Foreseen:
    made = Foreseen((1.0, 2.0, 3.0), 10, 5.0, 954, False, 1 << 20, costs(spec(), whole=True), UNIT)
    return replace(made, **changed)


def test_steps_beyond_those_looked_at_are_like_them() -> None:
    made = foreseen()
    assert made.seconds == 6 + 7 * 2
    assert made.between(1, 5) == 2 + 3 + 2 * 2
    assert made.line() == "forecast: about 25 s, 1.0 GB"
    assert foreseen(known=False).line() == "forecast: 1.0 GB; how long it takes is told after the first steps"
    assert foreseen(known=False).as_json()["seconds"] is None
    twice = made.at(2.0, 1500)
    assert (twice.seconds, twice.validation_seconds, twice.peak_memory_mb, twice.tried) == (40, 10, 1500, True)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "1 s"), (89, "89 s"), (95, "2 min"), (840, "14 min"), (7300, "2 h"), (9000, "2.5 h"), (100_000, "28 h")],
)
def test_nobody_plans_by_the_second(seconds: float, told: str) -> None:
    assert time_told(seconds) == told


class Pretended:
    """A loop whose pieces take three times what is foreseen."""

    def __init__(self, each: float = 3.0):
        rows = [SimpleNamespace(length=n, labelled=k) for n, k in zip(LENGTHS, LABELLED, strict=True)]
        self.plan, self.asked, self._each = SimpleNamespace(train=rows, world=ALONE), [], each

    def first(self, count: int) -> list[list[list[int]]]:
        return [[[0, 1]], [[2], [3]], [[0, 3]]][:count]

    def tried(self, number: int, step: list[list[int]]) -> float:
        self.asked.append(step)
        work = costs(spec(), whole=True).piece(step[0], LENGTHS, LABELLED, again=False)
        return self._each * work.seconds(UNIT) * (100 if len(self.asked) == 1 else 1)


def told_of(made: Foreseen) -> tuple[Foreteller, list[str], list[dict[str, Any]]]:
    notes: list[str] = []
    kept: list[dict[str, Any]] = []
    return Foreteller(made, lambda e: notes.append(e.text) if isinstance(e, Note) else None, kept.append), notes, kept


@pytest.fixture(autouse=True)
def _worth_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foretell, "WORTH", 10.0)


def test_pieces_are_tried_and_set_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foretell, "TRIED_SECONDS", 1e12)
    loop: Any = Pretended()
    teller, notes, kept = told_of(foreseen())
    teller.before(loop)
    assert loop.asked == [[[0, 3]], [[0, 1]], [[2]], [[3]], [[0, 3]]], "the longest first, which is not timed"
    assert teller.foreseen.seconds == pytest.approx(60)
    assert kept == [teller.foreseen.as_json()]
    assert kept[0]["validation_seconds"] == pytest.approx(15)
    assert kept[0]["peak_memory_mb"] > memory.peak_mb(), "the optimizer's state and what comes later"
    assert notes == [f"forecast: about 75 s, {teller.foreseen.peak_memory_mb / 953.67:.1f} GB"]


def test_trying_ends_after_its_seconds() -> None:
    loop: Any = Pretended()
    assert foretell.tried(foreseen(), loop).seconds == pytest.approx(60)
    assert len(loop.asked) == 2


@pytest.mark.parametrize("made", [foreseen(steps=4), foreseen(known=False)], ids=["short", "unknown"])
def test_a_short_training_or_one_with_a_teacher_is_not_tried(made: Foreseen) -> None:
    loop: Any = Pretended()
    teller, notes, _ = told_of(made)
    teller.before(loop)
    assert loop.asked == []
    assert notes == [made.line()]


def steps(teller: Foreteller, first: int, seconds: list[float], total: int = 10) -> None:
    for number, one in enumerate(seconds, first):
        event: Event = StepDone(number, total, 1.0, 1e-3, 1.0, 1.0, one)
        teller(event)


def test_the_first_steps_tell_where_they_show_another_time() -> None:
    teller, notes, kept = told_of(foreseen())
    steps(teller, 1, [9.0, 4.0, 6.0, 4.0])
    # 2 and 3 were foreseen for what took 4 and 6: all that is left takes twice as long.
    assert notes == ["after 3 steps: about 57 s"]
    assert kept[-1]["after_steps"] == {"steps": 3, "seconds": 9 + 4 + 6 + 2 * 14, "validation_seconds": 10.0}


def test_the_first_steps_say_nothing_where_they_are_as_foreseen() -> None:
    teller, notes, kept = told_of(foreseen())
    steps(teller, 1, [1.1, 2.0, 3.0, 2.0])
    assert notes == []
    assert kept[-1]["after_steps"]["seconds"] == pytest.approx(20.1)


def test_a_run_that_goes_on_is_told_what_is_left() -> None:
    teller, notes, kept = told_of(foreseen())
    steps(teller, 6, [2.0, 4.0, 4.0])
    assert notes == ["after 3 steps: about 10 s left"]  # two steps of 4 s and two tenths of the validations
    assert kept == []


# In a real run.


def test_what_was_tried_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny.write_task(tmp_path, tiny.base_folder(tmp_path / "base"))
    made = read_recipe(recipe, ["training.max_steps=6", "adapter.dropout=0.2"])
    found = {}
    for name, worth in (("tried", 0.0), ("not", 1e9)):
        monkeypatch.setattr(foretell, "WORTH", worth)
        notes: list[Event] = []
        run = journey.train_only(made, tmp_path / name, resume=False, sink=notes.append, folder=tmp_path)
        weights = run.path / "adapter" / "adapter_model.safetensors"
        curve = [(line["step"], line.get("loss")) for line in run.read_lines("metrics.jsonl")]
        found[name] = (weights.read_bytes(), curve, run.read_json("run.json")["forecast"])
        assert [one.text.split(":")[0] for one in notes if isinstance(one, Note)].count("forecast") == 1
    assert found["tried"][:2] == found["not"][:2]
    assert found["tried"][2]["seconds"] > 0
    assert found["tried"][2]["activation_checkpointing"] is False


def test_a_run_goes_on_as_it_was_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny.write_task(tmp_path, tiny.base_folder(tmp_path / "base"))
    made = read_recipe(recipe, ["training.max_steps=6", "training.checkpoint_every=2"])
    monkeypatch.setattr(memory, "available_mb", lambda: 0.01)

    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 4:
            raise KeyError

    with pytest.raises(KeyError):
        journey.train_only(made, tmp_path / "run", resume=False, sink=stop, folder=tmp_path)
    monkeypatch.setattr(memory, "available_mb", lambda: 1e9)
    run = journey.train_only(made, tmp_path / "run", resume=True, sink=silent, folder=tmp_path)
    assert run.read_json("run.json")["forecast"]["activation_checkpointing"] is True
    assert "activation_checkpointing: true" in (run.path / "recipe.lock.yaml").read_text("utf-8")


def test_an_adapter_that_cannot_is_refused_only_where_the_recipe_asks(tmp_path: Path) -> None:
    recipe = tiny.write_task(tmp_path, tiny.base_folder(tmp_path / "base"), adapter={"type": "prefix", "tokens": 2})
    asked = read_recipe(recipe, ["training.max_steps=2", "training.devices.activation_checkpointing=true"])
    with pytest.raises(ContentError, match="checkpointing"):
        journey.train_only(asked, tmp_path / "run", resume=False, sink=silent, folder=tmp_path)
    journey.train_only(
        read_recipe(recipe, ["training.max_steps=2"]), tmp_path / "run", resume=False, sink=silent, folder=tmp_path
    )
