"""The reliability diagram: how sure a model is against how often it is right, bin by bin, with what each bin holds.

On the diagonal certainty is earned; below it the model promises too much. The base is a ring on a dashed line, the
tuned model a dot on a solid one, so that colour is not the only sign.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from tunesmith.report.chart_facts import CalibrationFacts, CertaintyFacts
from tunesmith.report.charts import SETTINGS, WIDTHS, canvas, matplotlib, settle
from tunesmith.report.svg import PALETTE, Caption, inline
from tunesmith.report.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT = 350
_SMALL = 10.0
"""Size of the counts, for which a bin of the narrow drawing has 30 units."""


def certainty_chart(facts: CertaintyFacts, key: str) -> Markup:
    """`key` begins the ids of the drawing; empty where nothing was counted."""
    if not facts.bins:
        return Markup("")
    caption = Caption(key, f"{facts.title}: share right by certainty", _told(facts))
    with SETTINGS, matplotlib.rc_context():
        settle()
        return inline([(kind, _draw(facts, width)) for kind, width in WIDTHS.items()], caption)


def _draw(facts: CertaintyFacts, width: int) -> Figure:
    lines = 1 if facts.base is None else 2
    figure, axes = canvas(width, _HEIGHT, left=52, right=18, bottom=48 + 18 * lines, top=34)
    axes.set_xlim(facts.lowest, 1)
    axes.set_ylim(0, 1)
    low = [0, 0.25, 0.5, 0.75, 1] if facts.counted == "row" else [0.5, 0.6, 0.7, 0.8, 0.9, 1]
    axes.set_xticks(low, [f"{tick:.0%}" for tick in low])
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    axes.grid(axis="y", color=PALETTE["grid"], linewidth=1.0)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6)
    axes.plot([facts.lowest, 1], [facts.lowest, 1], color=PALETTE["soft"], linewidth=1.2, linestyle=(0, (2, 3)))
    if facts.base is not None:
        _points(axes, facts.base, "base")
    _points(axes, facts.tuned, "tuned")
    top = 1 - 14 / _HEIGHT
    figure.text(14 / width, top, "\N{BLACK CIRCLE} tuned", color=PALETTE["tuned"], weight="bold", va="center")
    if facts.base is not None:
        figure.text(84 / width, top, "\N{WHITE CIRCLE} base", color=PALETTE["base"], weight="bold", va="center")
    figure.text(1 - 14 / width, top, "share right", color=PALETTE["soft"], ha="right", va="center")
    _counts(figure, axes, facts, width)
    return figure


def _points(axes: Axes, model: CalibrationFacts, name: str) -> None:
    x, y = [one.certainty for one in model.bins], [one.right for one in model.bins]
    tuned = name == "tuned"
    for one in model.bins:
        if tuned and one.right_ci95:
            axes.plot([one.certainty] * 2, one.right_ci95, color=PALETTE["band"], linewidth=5, solid_capstyle="butt")
    axes.plot(x, y, "-" if tuned else "--", color=PALETTE[name], linewidth=2.0 if tuned else 1.4)
    dots = axes.plot(x, y, "o", color=PALETTE[name], markersize=8, markeredgewidth=2.0, clip_on=False)[0]
    dots.set_markerfacecolor(PALETTE["tuned" if tuned else "page"])


def _counts(figure: Figure, axes: Axes, facts: CertaintyFacts, width: int) -> None:
    """How many are in each bin, a line for each model under the axis."""
    models = [("tuned", facts.tuned), *([("base", facts.base)] if facts.base is not None else [])]
    for place, (name, model) in enumerate(models):
        line = (14 + 18 * (len(models) - 1 - place)) / _HEIGHT
        how: dict[str, Any] = {"color": PALETTE[name], "va": "center", "fontsize": _SMALL}
        figure.text(44 / width, line, name, ha="right", **how)
        for one in model.bins:
            centre = figure.transFigure.inverted().transform(axes.transData.transform(((one.low + one.high) / 2, 0)))
            figure.text(centre[0], line, _short(one.count), ha="center", **how)
    figure.text(
        (52 + (width - 70) / 2) / width, (18 * len(models) + 14) / _HEIGHT, f"sure by; {facts.counted}s in each bin",
        color=PALETTE["soft"], ha="center", va="center",
    )  # fmt: skip


def _short(count: int) -> str:
    return f"{count:,}" if count < 10_000 else f"{count / 1000:,.0f}k"


def _told(facts: CertaintyFacts) -> str:
    models = [("Tuned", facts.tuned), *([("Base", facts.base)] if facts.base is not None else [])]
    return " ".join(
        f"{name}: "
        + "; ".join(
            f"of {one.count:,} {facts.counted}s sure by {number(one.certainty, 'share')} on average, "
            f"{number(one.right, 'share')} are right"
            for one in model.bins
        )
        + "."
        for name, model in models
    )
