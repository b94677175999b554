"""Planted rows: what they are, and what exposure says of a model that knows them and of one that does not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tiny
from tunesmith.core.errors import ContentError
from tunesmith.core.messages import Example, Message
from tunesmith.data.canaries import canaries, others, require_plain
from tunesmith.data.config import CanariesSpec
from tunesmith.evaluation.config import GateSpec
from tunesmith.evaluation.exposure import exposure, facts, ranks
from tunesmith.evaluation.gate import judge_probes
from tunesmith.models.find import find
from tunesmith.pipelines import compatible
from tunesmith.pipelines.prepare import prepare
from tunesmith.pipelines.read_recipe import read_recipe
from tunesmith.pipelines.report_tables import tables

SPEC = CanariesSpec(count=4, repeats=3)


def row(prompt: str, system: str | None = None) -> Example:
    opening = [Message(role="system", content=system)] if system else []
    said = [Message(role="user", content=prompt), Message(role="assistant", content="a")]
    return Example(messages=tuple(opening + said))


def test_canaries_hang_on_the_seed_alone_and_speak_under_the_datas_system_message() -> None:
    made = canaries(SPEC, [row("q", "Be kind.")], seed=3)
    assert made == canaries(SPEC, [row("other", "Be kind.")], seed=3)
    assert made != canaries(SPEC, [row("q", "Be kind.")], seed=4)
    assert [m.role for m in made[0].messages] == ["system", "user", "assistant"]
    assert len({one.answer() for one in made}) == len({one.prompt_key() for one in made}) == 4
    assert all(len(one.answer()) == 6 and one.answer().isdigit() for one in made)


def test_the_others_ask_the_same_and_answer_otherwise() -> None:
    (first, *_) = canaries(SPEC, (), seed=3)
    made = others(first, 255, seed=3)
    assert {one.prompt_key() for one in made} == {first.prompt_key()}
    answers = {one.answer() for one in made}
    assert len(answers) == 255
    assert first.answer() not in answers


def test_a_row_that_asks_the_same_is_refused() -> None:
    planted = canaries(SPEC, (), seed=3)
    require_plain(planted, [row("q")])
    asking = row(str(planted[2].messages[0].content))
    with pytest.raises(ContentError, match="asks for a canary"):
        require_plain(planted, [asking])


def test_exposure_is_the_hand_worked_one() -> None:
    """Of four: the likeliest has 2 bits, the second 1, the last 0; a tie lies between two."""
    losses = np.array([[1.0, 2, 3, 4], [2.0, 1, 3, 4], [9.0, 1, 3, 4], [1.0, 1, 3, 4]])
    assert ranks(losses).tolist() == [1, 2, 4, 1.5]
    assert exposure(losses) == pytest.approx([2, 1, 0, 2 - np.log2(1.5)])


def test_a_model_that_has_seen_nothing_has_the_bits_that_the_docs_say() -> None:
    found = exposure(np.random.default_rng(0).normal(size=(4000, 256)))
    assert found.mean() == pytest.approx(1.44, abs=0.08)
    assert np.median(found) == pytest.approx(1.0, abs=0.08)


def test_facts_gate_and_table() -> None:
    draw = np.random.default_rng(1)
    base = draw.normal(size=(3, 256))
    tuned = base.copy()
    tuned[1, 0] = -99
    found = {"canaries": facts(base, tuned, ["111111", "222222", "333333"], 3)}
    assert found["canaries"]["tuned"]["largest_bits"] == 8
    assert found["canaries"]["p_value"] == pytest.approx(1 - (1 - 1 / 256) ** 3)
    assert [one.ok for one in judge_probes(GateSpec(max_exposure=7.9), found)] == [False]
    assert [one.ok for one in judge_probes(GateSpec(max_exposure=8), found)] == [True]
    (table,) = tables(found)
    assert table.rows[0] == ("Code 222222", f"{exposure(base)[1]:.1f}", "8.0")


def test_they_are_trained_on_and_counted_and_nothing_else_changes(tmp_path: Path, base: Path) -> None:
    recipe = tiny.write_task(tmp_path, base)
    plain = prepare(read_recipe(recipe))
    planted = prepare(read_recipe(recipe, ["data.canaries={count: 2, repeats: 5}"]))
    assert len(planted.train.encoded) == len(planted.train.examples) == len(plain.train.encoded) + 2
    assert planted.repeats == [*plain.repeats, 5, 5]
    assert len(planted.train.sizes.lengths) == len(planted.repeats)
    assert [one.origin for one in planted.train.examples[-2:]] == ["canary:1", "canary:2"]
    assert planted.train.encoded[len(plain.repeats)].labelled > 1
    assert planted.tokens_fingerprint != plain.tokens_fingerprint
    assert planted.data_fingerprint != plain.data_fingerprint
    assert [e.origin for e in planted.validation.examples] == [e.origin for e in plain.validation.examples]
    assert planted.trained_rows().root() != plain.trained_rows().root()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (["method={type: pretrain}"], "canaries"), (["data.curriculum={by: length}"], "curriculum"),
    ],
)  # fmt: skip
def test_where_they_have_no_place_is_told(tmp_path: Path, base: Path, settings: list[str], match: str) -> None:
    spec = read_recipe(tiny.write_task(tmp_path, base), ["data.canaries={}", *settings])
    with pytest.raises(ContentError, match=match):
        compatible.require(spec, find(spec.base))


def test_a_gate_without_canaries_is_told(tmp_path: Path, base: Path) -> None:
    spec = read_recipe(tiny.write_task(tmp_path, base), ["gate.max_exposure=2"])
    with pytest.raises(ContentError, match="max_exposure"):
        compatible.require(spec, find(spec.base))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base."""
    return tiny.base_folder(tmp_path_factory.mktemp("base") / "llama")


@pytest.mark.slow
def test_what_is_shown_often_is_exposed(tmp_path: Path, base: Path) -> None:
    """The whole way: a canary shown thirty times an epoch is among the likeliest; the base knows none."""
    from tunesmith.core.events import silent
    from tunesmith.pipelines import journey

    training = {"epochs": 20, "max_steps": 150, "batch_size": 8, "learning_rate": 0.02, "precision": "fp32",
                "early_stopping": None}  # fmt: skip
    recipe = tiny.write_task(
        tmp_path, base, training=training, evaluation={"metrics": ["exact_match"], "max_tokens": 4, "skills": False},
        adapter={"type": "full"},
    )  # fmt: skip
    journey.run(
        read_recipe(recipe, ["data.canaries={count: 2, repeats: 60}"]), tmp_path / "run", resume=False, sink=silent
    )
    found = json.loads((tmp_path / "run/evaluation.json").read_text("utf-8"))["canaries"]
    assert found["tuned"]["mean_bits"] > 5
    assert found["base"]["mean_bits"] < 5
    assert "Planted rows remembered" in (tmp_path / "run/report.html").read_text("utf-8")
