"""The reliability diagram and the learning curve in the report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from test_report import facts

from tunesmith.core.errors import ConflictError, ContentError, MissingError
from tunesmith.pipelines import report_growth
from tunesmith.pipelines.report_certainty import certainty
from tunesmith.pipelines.rundir import RunDir
from tunesmith.report import render
from tunesmith.report.certainty_chart import certainty_chart
from tunesmith.report.growth_chart import growth_chart
from tunesmith.report.wording import calibration


def model(*bins: tuple[float, int, float, float], ece: float = 0.1) -> dict[str, Any]:
    """Bins of a tenth: (low, pairs, certainty, accuracy)."""
    told = [
        {
            "low": low, "high": round(low + 0.1, 12), "pairs": pairs, "certainty": sure, "accuracy": right,
            "accuracy_ci95": [max(0.0, right - 0.1), min(1.0, right + 0.1)],
        }
        for low, pairs, sure, right in bins
    ]  # fmt: skip
    return {"ece": ece, "brier": 0.2, "bins": told}


BOTH = {
    "base": model((0.0, 3, 0.04, 0.0), (0.9, 9, 0.97, 0.5), ece=0.345),
    "tuned": model((0.8, 2, 0.84, 1.0), (0.9, 10, 0.95, 0.9)),
}


def curve(**changes: Any) -> dict[str, Any]:
    """A `curve.json`."""
    points = [
        {
            "share": share, "rows": rows, "forgetting": 0.01, "train_seconds": 4.0, "steps": 3,
            "metrics": [{"name": "exact_match", "unit": "share", "tuned": value, "ci95": [value - 0.15, value + 0.05],
                         "tuned_ci95": [value - 0.1, value + 0.1]}],
        }
        for share, rows, value in ((0.1, 40, 0.2), (0.25, 100, 0.3), (0.5, 200, 0.42), (1.0, 400, 0.55))
    ]  # fmt: skip
    return {
        "metric": "exact_match", "higher_is_better": True, "base": 0.05, "measured_on": "test", "held_out_rows": 80,
        "points": points, "of": {"recipe": "r", "data": "d", "base": "b"},
        "forecast": {"rows": 800, "value": 0.66, "gain": 0.11, "gain_ci95": [0.06, 0.16],
                     "words": "800 rows would bring exact_match to about 0.660, a gain between +0.060 and +0.160"},
    } | changes  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A folder that is a run's as far as a curve is concerned."""
    made = RunDir(tmp_path)
    made.write_json("run.json", {"recipe_fingerprint": "r", "data_fingerprint": "d", "base_fingerprint": "b"})
    return made


def test_the_diagram_has_every_bin_of_both_models_with_its_count() -> None:
    [one] = certainty({"certainty": {"answers": BOTH}})
    drawn = certainty_chart(one, "certainty-1")
    assert drawn.count("<svg") == 2
    wide = drawn[: drawn.index("</svg>")]
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", wide)
    assert [text for text in texts if text in ("3", "9", "2", "10")] == ["2", "10", "3", "9"]
    assert {"tuned", "base", "sure by; rows in each bin", "0%", "100%"} <= set(texts)
    assert "Base: of 3 rows sure by 4.0% on average, 0.0% are right; of 9 rows" in wide
    assert 'style="' not in drawn


def test_a_page_shows_the_diagram_the_table_and_both_models_figures() -> None:
    page = render(facts(certainty=certainty({"certainty": {"answers": BOTH, "labels": BOTH}})))
    assert page.count('<section id="certainty-') == 2
    assert 'id="certainty-1-wide-title"' in page
    assert 'id="certainty-2-narrow-title"' in page
    assert 'href="#certainty-2"' in page
    assert "the base expected calibration error 0.345" in page
    rows = re.findall(r'<th scope="row">([\d]+% to [\d]+%)</th>', page)
    assert rows == ["0% to 10%", "80% to 90%", "90% to 100%"] * 2
    empty = r'80% to 90%</th><td class="r">0</td><td class="r"></td><td class="r"></td><td class="r">2</td>'
    assert re.search(empty, page), "the base has no row in this bin"


def test_pairs_begin_at_a_half_and_old_runs_have_no_intervals() -> None:
    old = {name: model((0.5, 24, 0.52, 0.75)) for name in ("base", "tuned")}
    for told in old.values():
        del told["bins"][0]["accuracy_ci95"]
    [one] = certainty({"calibration": old})
    assert (one.counted, one.lowest) == ("pair", 0.5)
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", certainty_chart(one, "k"))
    assert "50%" in texts
    assert "0%" in texts, "of the upright axis"
    assert "never sure" in calibration(one)
    assert certainty({}) == []


def test_without_a_base_the_diagram_has_one_line() -> None:
    [one] = certainty({"certainty": {"answers": {"tuned": BOTH["tuned"]}}})
    assert "base" not in certainty_chart(one, "k").lower()
    assert "the base" not in calibration(one)


def test_the_curve_is_drawn_with_its_forecast_in_words(run: RunDir) -> None:
    assert report_growth.growth(run) is None
    report_growth.keep(curve(), run)
    growth = report_growth.growth(run)
    assert growth is not None
    assert growth.forecast is not None
    assert growth.forecast.ci95 == pytest.approx((0.61, 0.71))
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", growth_chart(growth))
    assert {"40", "100", "200", "400", "800", "exact_match", "training rows"} <= set(texts)
    page = render(facts(growth=growth))
    assert "<strong>800 rows would bring exact_match to about 0.660, a gain between +0.060 and +0.160.</strong>" in page
    assert 'href="#growth"' in page
    assert re.search(r'<th scope="row" class="r">400</th><td class="r"><strong>55.0%', page)
    assert 'id="growth"' not in render(facts())


def test_of_a_loss_the_gain_goes_down(run: RunDir) -> None:
    ahead = curve()["forecast"] | {"value": 0.44}
    points = curve()["points"]
    for one in points:
        one["metrics"][0]["unit"] = "nats"
    report_growth.keep(curve(higher_is_better=False, forecast=ahead, points=points), run)
    growth = report_growth.growth(run)
    assert growth is not None
    assert growth.forecast is not None
    assert growth.forecast.ci95 == pytest.approx((0.39, 0.49))
    assert not any("%" in text for text in re.findall(r"<text[^>]*>([^<]*)</text>", growth_chart(growth)))


def test_a_curve_without_a_forecast_is_shown_too(run: RunDir) -> None:
    report_growth.keep(curve(forecast=None), run)
    page = render(facts(growth=report_growth.growth(run)))
    assert "forecast" not in page[page.index('id="growth"') : page.index("</section>", page.index('id="growth"'))]


@pytest.mark.parametrize("part", ["recipe", "data", "base"])
def test_a_curve_of_something_else_is_refused(run: RunDir, part: str) -> None:
    other = curve()
    other["of"][part] = "other"
    with pytest.raises(ConflictError, match=part):
        report_growth.keep(other, run)
    assert report_growth.growth(run) is None


def test_what_is_no_curve_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        report_growth.read(tmp_path / "none.json")
    for text in ("{", "[]", '{"points": []}', '{"metric": 1}'):
        (tmp_path / "curve.json").write_text(text, "utf-8")
        with pytest.raises(ContentError, match="no learning curve"):
            report_growth.read(tmp_path / "curve.json")
    old = curve()
    del old["of"]
    (tmp_path / "curve.json").write_text(json.dumps(old), "utf-8")
    with pytest.raises(ContentError, match="does not say"):
        report_growth.read(tmp_path / "curve.json")
    (tmp_path / "curve.json").write_text(json.dumps(curve()), "utf-8")
    assert report_growth.read(tmp_path / "curve.json") == json.loads(json.dumps(curve()))
