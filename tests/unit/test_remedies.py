"""What may help against forgetting: from the run's own recipe and figures, as lines that a recipe takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from test_report import facts as report_facts

import tiny
from tunesmith.evaluation.config import GateSpec
from tunesmith.models.refs import Base
from tunesmith.pipelines import remedies
from tunesmith.pipelines.recipe import RunSpec
from tunesmith.report import AdviceFacts, ForgettingFacts, render
from tunesmith.report.wording import caveats, forgetting

MIXTURE = [{"path": "train.jsonl", "rows": 60, "seen": 300}]


def evaluation(rise: float | None = 0.0, skills: tuple[float, float, float] | None = None) -> dict[str, Any]:
    """As far as it matters here: the rise on general text; skills before, after and p."""
    told: dict[str, Any] = {"forgetting": {"delta": rise}}
    if skills:
        before, after, p = skills
        told["skills"] = {"all": {"items": 120, "base": before, "tuned": after, "p_value": p}}
    return told


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A decoder's folder, as far as its config."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "config.json").write_text("{}", "utf-8")
    return Base("acme/small", folder)


def spec(**sections: Any) -> RunSpec:
    return RunSpec.model_validate(tiny.recipe("acme/small", **sections))


def advised(base: Base, told: dict[str, Any] | None = None, **sections: Any) -> list[dict[str, Any]]:
    made = remedies.facts(spec(**sections), base, told or evaluation(0.15), MIXTURE)
    found: list[dict[str, Any]] = made[remedies.KEY]["remedies"]
    return found


@pytest.mark.parametrize(
    ("gate", "told", "forgotten"),
    [
        ({}, evaluation(0.09), False), ({}, evaluation(0.11), True), ({}, evaluation(float("nan")), True),
        ({"max_forgetting": 0.5}, evaluation(0.4), False), ({"max_forgetting": 0.0}, evaluation(0.01), True),
        ({"max_forgetting": None}, evaluation(0.11), True), ({"max_forgetting": None}, evaluation(0.09), False),
        ({}, evaluation(None), False), ({}, evaluation(0, (0.6, 0.5, 0.2)), False),
        ({}, evaluation(0, (0.6, 0.4, 0.01)), True), ({}, evaluation(0, (0.4, 0.6, 0.01)), False),
        ({"max_skills_lost": 0.05}, evaluation(0, (0.6, 0.5, 0.2)), True),
    ],
)  # fmt: skip
def test_it_is_found_beyond_the_limit_or_where_skills_surely_fell(
    gate: dict[str, Any], told: dict[str, Any], forgotten: bool
) -> None:
    assert bool(remedies.found(GateSpec(**gate), told)) is forgotten


def test_where_nothing_is_forgotten_nothing_is_advised(base: Base) -> None:
    assert remedies.facts(spec(), base, evaluation(0.01), MIXTURE) == {}


@pytest.mark.parametrize(
    "sections",
    [
        {}, {"adapter": {"type": "full"}}, {"method": {"type": "sft", "rehearsal": {}, "packing": True}},
        {"method": {"type": "sft", "rehearsal": {"every": 1}}},
        {"data": {"train": [{"path": "a.jsonl", "weight": 0.5}, "b.jsonl"], "validation": 0.1, "test": "t.jsonl"}},
    ],
)  # fmt: skip
def test_every_line_is_one_that_the_recipe_takes_and_changes_it(base: Base, sections: dict[str, Any]) -> None:
    body = tiny.recipe("acme/small", **sections)
    before = RunSpec.model_validate(body)
    found = advised(base, **sections)
    assert len(found) == 3
    for one in found:
        parts = yaml.safe_load(one["lines"])
        merged = body | {key: {**body.get(key, {}), **part} for key, part in parts.items()}
        if "adapter" in parts:
            merged["adapter"] = parts["adapter"]
        assert RunSpec.model_validate(merged) != before, one["lines"]


def test_an_adapter_is_advised_where_every_weight_was_trained_and_rehearsal_where_there_is_none(base: Base) -> None:
    first = yaml.safe_load(advised(base, adapter={"type": "full"})[0]["lines"])
    assert first["adapter"]["type"] == "lora"
    assert first["training"]["learning_rate"] == 2e-4
    assert first["method"] == {"type": "sft", "rehearsal": {}}
    assert yaml.safe_load(advised(base)[0]["lines"]) == {"method": {"type": "sft", "rehearsal": {}}}
    more = yaml.safe_load(advised(base, method={"type": "sft", "learn": "last", "rehearsal": {"rows": 9}})[0]["lines"])
    assert more == {"method": {"type": "sft", "learn": "last", "rehearsal": {"rows": 9, "every": 2}}}
    most = yaml.safe_load(advised(base, method={"type": "sft", "rehearsal": {"every": 1}})[0]["lines"])
    assert most["method"]["rehearsal"] == {"every": 1, "weight": 2.0}


@pytest.mark.parametrize(("rise", "share", "rows"), [(0.15, "5%", 16), (0.3, "25%", 100)])
def test_the_share_of_general_rows_follows_from_rise_and_epoch(base: Base, rise: float, share: str, rows: int) -> None:
    """300 rows an epoch: 16 more are 5 % of 316, and 100 more a quarter of 400."""
    words = next(one["words"] for one in advised(base, evaluation(rise)) if "Mix in" in one["words"])
    assert f"about {rows} more of them make {share}" in words


def test_an_encoder_decoder_is_not_told_to_rehearse_and_pairs_have_no_general_rows(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"is_encoder_decoder": true}', "utf-8")
    both = Base("acme/t5", tmp_path)
    assert not any("rehears" in one["words"].lower() for one in advised(both, adapter={"type": "full"}))
    assert not any("Rehearse" in one["words"] for one in advised(both))
    pairs = advised(both, method={"type": "preference"})
    assert not any("Mix in" in one["words"] for one in pairs)


def test_the_rate_is_halved(base: Base) -> None:
    assert yaml.safe_load(advised(base)[-1]["lines"]) == {"training": {"learning_rate": 0.0025}}


def test_the_report_says_it_beside_the_verdict_and_under_forgetting(base: Base) -> None:
    advice = AdviceFacts(**remedies.facts(spec(), base, evaluation(0.3), MIXTURE)[remedies.KEY])
    told = report_facts(against_forgetting=advice)
    assert any("rose by +0.300 nats a token" in note and "under Forgetting" in note for note in caveats(told))
    page = render(told)
    assert "rehearsal: {}" in page
    assert "none of it is sure" in page
    assert "none of it is sure" not in render(report_facts())


def test_without_a_limit_forgetting_is_told_all_the_same() -> None:
    free = ForgettingFacts(base_loss=2.0, tuned_loss=2.5, limit=None, rows=1, tokens=9)
    assert free.ok
    assert forgetting(free).endswith("+0.500, the gate sets no limit.")
    page = render(report_facts(forgetting=free))
    assert "Within the limit" not in page
    assert "no limit set" in page
