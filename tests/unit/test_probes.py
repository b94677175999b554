"""What the gate and the report make of skills lost and rows repeated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tunesmith.core.errors import ContentError
from tunesmith.evaluation import safety
from tunesmith.evaluation.config import GateSpec
from tunesmith.evaluation.gate import judge_probes
from tunesmith.evaluation.memorisation import Seen
from tunesmith.evaluation.skills import suite
from tunesmith.models.find import find
from tunesmith.models.refs import DEFAULT
from tunesmith.pipelines import compatible, probes
from tunesmith.pipelines.probes import Probes
from tunesmith.pipelines.recipe import RunSpec
from tunesmith.pipelines.report_tables import tables


def found(lost: int = 12, memorised: int = 1) -> dict[str, Any]:
    """A base that has everything right and repeats nothing; a tuned model that lost and repeats."""
    count = len(suite())
    base, tuned = np.ones(count, dtype=bool), np.ones(count, dtype=bool)
    tuned[:lost] = False
    losses = np.linspace(1, 2, 10)
    whole = np.full(4, 80)
    runs = np.array([80] * memorised + [3] * (4 - memorised))
    return probes.facts(
        Probes(base, Seen(losses, np.zeros(4, dtype=np.int64), whole)), Probes(tuned, Seen(losses - 1, runs, whole)),
        losses, losses, seed=0,
    )  # fmt: skip


def test_skills_are_counted_apart_and_together() -> None:
    skills = found()["skills"]
    assert list(skills) == ["all", "cloze", "copying", "arithmetic", "format"]
    assert (skills["all"]["items"], skills["all"]["lost"], skills["all"]["won"]) == (120, 12, 0)
    assert skills["all"]["tuned"] == pytest.approx(108 / 120)
    assert skills["all"]["p_value"] == pytest.approx(2 / 2**12), "McNemar: twelve of twelve"
    assert skills["cloze"]["lost"] == 12
    assert skills["format"]["p_value"] == 1


@pytest.mark.parametrize(
    ("gate", "passes"),
    [
        ({"max_skills_lost": 0.05}, [False]), ({"max_skills_lost": 0.11}, [True]), ({"max_memorised": 0.2}, [False]),
        ({"max_memorised": 0.25}, [True]), ({"max_skills_lost": 0.2, "max_memorised": 0.0}, [True, False]), ({}, []),
    ],
)  # fmt: skip
def test_the_gate_holds_them_against_its_limits(gate: dict[str, float], passes: list[bool]) -> None:
    assert [reason.ok for reason in judge_probes(GateSpec(**gate), found())] == passes
    assert not judge_probes(GateSpec(**gate), {}), "what was not measured is no condition"


def test_refusals_lost_and_gained_are_counted_and_gated() -> None:
    harmful = np.array([one.harmful for one in safety.suite()])
    assert (harmful.sum(), (~harmful).sum()) == (40, 40)
    base, tuned = harmful.copy(), harmful.copy()
    tuned[np.flatnonzero(harmful)[:10]] = False
    tuned[np.flatnonzero(~harmful)[:4]] = True
    told = probes.facts(Probes(refused=base), Probes(refused=tuned), np.ones(1), np.ones(1), seed=0)
    lost, gained = told["safety"]["harmful"], told["safety"]["harmless"]
    assert (lost["base"], lost["tuned"], lost["lost"]) == (1.0, 0.75, 10)
    assert (gained["base"], gained["tuned"], gained["won"]) == (0.0, 0.1, 4)
    gate = GateSpec(max_refusals_lost=0.2, max_refusals_gained=0.1)
    assert [reason.ok for reason in judge_probes(gate, told)] == [False, True]
    [table] = tables(told)
    assert table.rows[0][:4] == ("Harmful requests refused", "40", "100%", "75%")


def test_the_probe_has_no_prompt_twice_and_both_sides_of_a_topic() -> None:
    asked = safety.suite()
    assert len({one.prompt for one in asked}) == 80
    topics = [{one.topic for one in asked if one.harmful == side} for side in (True, False)]
    assert topics[0] == topics[1]


def test_the_report_shows_both() -> None:
    skills, memory = tables(found())
    assert skills.title == "Skills kept"
    assert skills.rows[0] == ("all", "120", "100%", "90%", "0", "12", "0.00")
    assert memory.title == "Memorised rows"
    assert ("Training rows of which 50 tokens in a row come back", "0.0%", "25.0%") in [tuple(r) for r in memory.rows]
    assert "0.500 is chance" in memory.note
    assert [table.title for table in tables({})] == []


@pytest.mark.parametrize(
    ("evaluation", "gate", "key"),
    [
        ({"skills": False}, {"max_skills_lost": 0.1}, "max_skills_lost"),
        ({"memorisation": None}, {"max_memorised": 0.1}, "max_memorised"),
        ({}, {"max_refusals_lost": 0.1}, "max_refusals_lost"),
        ({}, {"max_refusals_gained": 0.1}, "max_refusals_gained"),
    ],
)
def test_a_condition_on_what_is_not_asked_is_an_error(
    evaluation: dict[str, Any], gate: dict[str, float], key: str
) -> None:
    recipe = {"data": {"train": "x.jsonl"}, "evaluation": evaluation, "gate": gate}
    with pytest.raises(ContentError, match=f"gate.{key} is a condition on what this recipe does not measure"):
        compatible.require(RunSpec.model_validate(recipe), find(DEFAULT))
    asked = {"skills": True, "memorisation": {}, "safety": True}
    compatible.require(RunSpec.model_validate(recipe | {"evaluation": asked}), find(DEFAULT))
