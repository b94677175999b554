"""What the report says of how sure its figures are."""

import re

import pytest
from test_report import EXACT, facts

from tunesmith.report import BaselineFacts, MetricFacts, PowerFacts, SliceFacts, WorstSliceFacts, render
from tunesmith.report.wording import caveats, effect, power, verdict, worst_slice


@pytest.mark.parametrize(
    ("ci95", "p_value", "told"),
    [
        ((0.1, 0.3), None, "clear gain"), ((0.1, 0.3), 0.01, "clear gain"), ((0.1, 0.3), 0.06, "no clear change"),
        ((-0.3, -0.1), 0.01, "clear loss"), ((-0.3, -0.1), 0.3, "no clear change"),
        ((-0.1, 0.3), 0.01, "no clear change"),
        ((0.0, 0.3), 0.01, "no clear change"), ((float("nan"), float("nan")), 0.01, "no clear change"),
    ],
)  # fmt: skip
def test_nothing_is_called_better_or_worse_that_may_be_chance(ci95, p_value, told):
    assert effect(MetricFacts(name="x", base=0.5, tuned=0.7, ci95=ci95, p_value=p_value)) == told


def test_a_verdict_on_an_unclear_change_does_not_speak_of_a_rise():
    unclear = EXACT.model_copy(update={"ci95": (-0.1, 0.9)})
    assert "shows no clear change, 41.0% to 88.3%, on 4 held-out rows" in verdict(facts(metrics=[unclear]))
    assert "rises from 41.0% to 88.3%" in verdict(facts(metrics=[EXACT]))


@pytest.mark.parametrize(
    ("detectable", "sentence"),
    [(0.0881, "With 120 rows you can see differences in exact_match of 9 points or more"),
     (0.09, "of 9 points or more"), (0.5, "of 50 points or more"),
     (None, "With 120 rows no difference in exact_match could be shown")],
)  # fmt: skip
def test_the_least_difference_is_told_in_points(detectable, sentence):
    told = facts(power=PowerFacts(metric="exact_match", rows=120, detectable=detectable))
    assert sentence in power(told)
    assert sentence in render(told)


def test_the_least_difference_of_a_loss_is_told_in_its_unit():
    assert "in loss of 0.125 or more" in power(facts(power=PowerFacts(metric="loss", rows=9, detectable=0.125)))


def test_older_runs_tell_no_least_difference():
    assert power(facts()) is None
    assert "you can see differences" not in render(facts())


@pytest.mark.parametrize(
    ("score", "ci95", "told"),
    [(0.9, None, "copying does as well or better on exact_match"), (0.5, None, None), (0.5, (0.2, 0.5), None),
     (0.8, (-0.05, 0.2), "copying may do as well on exact_match"), (0.883, (0.1, 0.2), "does as well or better")],
)  # fmt: skip
def test_a_simpler_way_is_beaten_only_beyond_chance(score, ci95, told):
    rival = BaselineFacts(name="copying", metric="exact_match", score=score, ci95=ci95)
    notes = [note for note in caveats(facts(baselines=[rival])) if "copying" in note]
    assert (told in notes[0]) if told else notes == []
    shown = re.search(
        r"<small>[+−\d.]+ to \+[\d.]+</small></td></tr>\n</tbody>", render(facts(baselines=[rival], slices=[]))
    )
    assert bool(shown) == bool(ci95)


@pytest.mark.parametrize(("clearly", "words"), [(True, "clearly below the whole"), (False, "which may be chance")])
def test_the_worst_slice_is_named_with_its_intervals(clearly, words):
    worst = WorstSliceFacts(
        field="kind", value="<fax>", rows=31, metric="exact_match", tuned=0.452, tuned_ci95=(0.3, 0.61), delta=0.05,
        ci95=(-0.02, 0.12), clearly_below=clearly,
    )  # fmt: skip
    told = facts(worst_slice=worst, slices=[SliceFacts(field="kind", value="fax", rows=31, metrics=[EXACT])])
    sentence = worst_slice(told)
    assert sentence.startswith(
        "Worst slice, kind: <fax> (31 rows): exact_match 45.2% (95% interval 30.0% to 61.0%), " + words
    )
    assert sentence.endswith("against the base +5.0 points (95% interval −2.0 to +12.0).")
    assert "kind: &lt;fax&gt; (31 rows)" in render(told)
    assert worst_slice(facts()) is None
