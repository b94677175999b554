"""Figures and sentences of the report: numbers with their units, the verdict in words, the caveats.

Knows nothing of HTML: it returns plain text, which the template escapes.
"""

import math

from tunesmith.report.base import Unit
from tunesmith.report.chart_facts import CalibrationFacts, CertaintyFacts
from tunesmith.report.facts import (
    BaselineFacts,
    ForgettingFacts,
    MetricFacts,
    OverfittingFacts,
    ReportFacts,
)

FEW_ROWS = 100
"""Below this many test rows an interval is wide and one row moves a share by more than a point."""
FEW_SLICE_ROWS = 20

FIT_HEADLINES = {
    "none": "No overfitting: the validation loss had not turned up where training ended.",
    "mild": "Mild overfitting: the validation loss turned up a little before training ended.",
    "overfitting": "Overfitting: the validation loss turned up clearly while the training loss kept falling.",
    "too_short": "Too short to judge: there are too few validation points to see a turn.",
    "underfit": "Underfit: the validation loss was still falling when training ended.",
}


def number(value: float, unit: Unit) -> str:
    """A level: "41.0%" for a share, "2.312" otherwise; "not a number" where it is none."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else _signed(f"{value}")
    return _signed(f"{100 * value:.1f}%" if unit == "share" else f"{value:.3f}")


def change(value: float, unit: Unit) -> str:
    """A difference with its sign: "+47.3" (points for a share), "-0.021" with a true minus sign."""
    if not math.isfinite(value):
        return number(value, unit)
    text = f"{100 * value:+.1f}" if unit == "share" else f"{value:+.3f}"
    return _signed("0" + text[2:] if float(text) == 0 else text)


def change_unit(unit: Unit) -> str:
    """The word behind a difference: percentage points, nats, or nothing."""
    return {"share": "points", "nats": "nats", "ratio": ""}[unit]


def difference(value: float, unit: Unit) -> str:
    """A difference with its sign and its unit: "+47.3 points"."""
    return f"{change(value, unit)} {change_unit(unit)}".rstrip()


def interval(metric: MetricFacts) -> str:
    """The 95 % interval of the difference, "+41.2 to +53.0", or "no interval"."""
    if metric.ci95 is None:
        return "no interval"
    return f"{change(metric.ci95[0], metric.unit)} to {change(metric.ci95[1], metric.unit)}"


def effect(metric: MetricFacts) -> str:
    """The difference in words, so that colour is never the only sign."""
    return {"gain": "clear gain", "loss": "clear loss", "unclear": "no clear change"}[metric.effect]


def count(value: int, noun: str) -> str:
    """ "1 row", "2,000 rows": a count with its noun (regular plurals only)."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def score(value: float) -> str:
    """The score of one row: "1", "0", "0.67"."""
    return _signed(f"{value:.2f}".rstrip("0").rstrip(".")) if math.isfinite(value) else "not a number"


def duration(seconds: float) -> str:
    """Wall time in the two largest units: "0.42 s", "3 min 20 s", "2 h 05 min"."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def roughly(seconds: float) -> str:
    """An expected time in the unit that fits: nobody plans by the second."""
    for size, name in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {name}"
    return f"{max(seconds, 1):.0f} s"


def verdict(facts: ReportFacts) -> str:
    """One sentence: whether to ship, and why."""
    metric = facts.metrics[0]
    movement = f"{_movement(metric)} on {count(facts.test_rows, 'held-out row')}"
    conditions = len(facts.reasons)
    if facts.verdict == "pass":
        one, many = "the gate's one condition holds", f"all {conditions} gate conditions hold"
        hold = one if conditions == 1 else many
        gained = f"{difference(metric.delta, metric.unit)}, 95% interval {interval(metric)}"
        return f"Ship it: {movement} ({gained}), and {hold}."
    failed = [reason.text.rstrip(" .") for reason in facts.reasons if not reason.ok]
    part = f"{len(failed)} of {conditions} gate conditions {'fails' if len(failed) == 1 else 'fail'}"
    fails = "the gate's one condition fails" if conditions == 1 else part
    return f"Do not ship: {movement}, but {fails}: {'; '.join(failed)}."


def power(facts: ReportFacts) -> str | None:
    """What the test could have shown, as one sentence; None where it is not known."""
    found = facts.power
    unit = next((metric.unit for metric in facts.metrics if found and metric.name == found.metric), None)
    if found is None or unit is None:
        return None
    rows = count(found.rows, "row")
    if found.detectable is None:
        return f"With {rows} no difference in {found.metric} could be shown: test on more."
    least = (
        f"{math.ceil(round(100 * found.detectable, 6))} points" if unit == "share" else number(found.detectable, unit)
    )
    return (
        f"With {rows} you can see differences in {found.metric} of {least} or more; smaller ones may well stay unseen."
    )


def worst_slice(facts: ReportFacts) -> str | None:
    """The slice on which the tuned model does worst, as one sentence; None where there is none."""
    worst = facts.worst_slice
    unit = next((metric.unit for metric in facts.metrics if worst and metric.name == worst.metric), None)
    if worst is None or unit is None:
        return None
    low, high = (number(end, unit) for end in worst.tuned_ci95)
    below = "clearly below the whole" if worst.clearly_below else "which may be chance"
    gained = f"{change(worst.ci95[0], unit)} to {change(worst.ci95[1], unit)}"
    return (
        f"Worst slice, {worst.field}: {worst.value} ({count(worst.rows, 'row')}): {worst.metric} "
        f"{number(worst.tuned, unit)} (95% interval {low} to {high}), {below}; "
        f"against the base {difference(worst.delta, unit)} (95% interval {gained})."
    )


def caveats(facts: ReportFacts) -> list[str]:
    """What a careful reader should know beside the verdict, most serious first."""
    notes = []
    blocking = sum(finding.severity == "block" for finding in facts.audit.findings)
    if blocking:
        notes.append(f"The data audit has {count(blocking, 'blocking finding')}: mend the data first.")
    for rival in facts.baselines:
        does = _rivals(rival, facts)
        if does:
            notes.append(f"{rival.name} {does} on {rival.metric}, without training.")
    harmed = [part for part in facts.slices if any(metric.effect == "loss" for metric in part.metrics)]
    if harmed:
        named = ", ".join(f"{part.field}: {part.value}" for part in harmed)
        notes.append(f"Clearly worse on part of the test: {named}.")
    if facts.outcomes.losses:
        rows = count(facts.outcomes.losses, "row")
        notes.append(f"{rows} got worse than with the base; read them below before you ship.")
    if facts.test_rows < FEW_ROWS:
        notes.append(f"The test has only {count(facts.test_rows, 'row')}: the intervals are wide.")
    if facts.forgetting is None:
        notes.append("Forgetting was not measured.")
    if facts.against_forgetting is not None:
        notes.append(f"{sentence('; '.join(facts.against_forgetting.why))} What may help stands under Forgetting.")
    if facts.overfitting is not None and facts.overfitting.verdict in ("overfitting", "underfit"):
        notes.append(FIT_HEADLINES[facts.overfitting.verdict])
    if facts.audit.tokens is not None and facts.audit.tokens.truncated_rows:
        notes.append(f"{count(facts.audit.tokens.truncated_rows, 'training row')} lost text by truncation.")
    return notes


def forgetting(facts: ForgettingFacts) -> str:
    """The forgetting figure as one sentence."""
    moved = f"from {number(facts.base_loss, 'nats')} to {number(facts.tuned_loss, 'nats')} nats per token"
    judged = "the gate sets no limit"
    if facts.limit is not None:
        judged = f"{'within' if facts.ok else 'over'} the limit of {number(facts.limit, 'nats')}"
    seen = f"{count(facts.rows, 'row')} of general text ({count(facts.tokens, 'token')})"
    return f"On {seen} the loss went {moved}: {change(facts.delta, 'nats')}, {judged}."


def overfitting(facts: OverfittingFacts) -> str:
    """The overfitting judgement as one sentence."""
    return FIT_HEADLINES[facts.verdict]


def calibration(facts: CertaintyFacts) -> str:
    """Whether certainty is earned, in figures of both models."""

    def told(model: CalibrationFacts) -> str:
        return f"expected calibration error {number(model.ece, 'ratio')}, Brier score {number(model.brier, 'ratio')}"

    base = f"; the base {told(facts.base)}" if facts.base else ""
    unsure = "; a Brier score of 0.250 is a model that is never sure" if facts.counted == "pair" else ""
    return f"Tuned {told(facts.tuned)}{base} (0 is best{unsure})."


def sentence(text: str) -> str:
    """A text that begins with a capital and ends in a full stop."""
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def rivals(facts: ReportFacts) -> list[tuple[BaselineFacts, MetricFacts | None]]:
    """The simpler ways, each with the metric it is measured by where the report has it."""
    known = {metric.name: metric for metric in facts.metrics}
    return [(rival, known.get(rival.metric)) for rival in facts.baselines]


def _rivals(rival: BaselineFacts, facts: ReportFacts) -> str | None:
    """How a simpler way stands beside the tuned model; None where it is clearly behind."""
    metric = next((metric for metric in facts.metrics if metric.name == rival.metric), None)
    if metric is None:
        return None
    sign = 1 if metric.higher_is_better else -1
    if sign * (metric.tuned - rival.score) <= 0:
        return "does as well or better"
    if rival.ci95 and not min(sign * end for end in rival.ci95) > 0:
        return "may do as well"
    return None


def _movement(metric: MetricFacts) -> str:
    base, tuned = number(metric.base, metric.unit), number(metric.tuned, metric.unit)
    if base == tuned:
        return f"{metric.name} stays at {base}"
    if metric.effect == "unclear":
        return f"{metric.name} shows no clear change, {base} to {tuned},"
    return f"{metric.name} {'rises' if metric.delta > 0 else 'falls'} from {base} to {tuned}"


def _signed(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")
