"""The learning curve: quality by training rows, with what twice as many would bring.

Rows are drawn on a logarithmic axis, on which a power law of the error is nearly straight. What was measured is a dot
on a solid line, what is forecast a ring on a dashed one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from markupsafe import Markup

from tunesmith.report.chart_facts import GrowthFacts
from tunesmith.report.charts import SETTINGS, WIDTHS, canvas, matplotlib, settle, short, ticker
from tunesmith.report.svg import PALETTE, Caption, inline
from tunesmith.report.wording import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEIGHT = 320
_METRIC = "metric-name"


def growth_chart(growth: GrowthFacts | None) -> Markup:
    """Empty where no curve was measured, or a figure of it is no number."""
    if growth is None or not all(map(math.isfinite, _values(growth))):
        return Markup("")
    caption = Caption("growth", f"{growth.metric} by training rows", _told(growth), {_METRIC: short(growth.metric)})
    with SETTINGS, matplotlib.rc_context():
        settle()
        return inline([(kind, _draw(growth, width)) for kind, width in WIDTHS.items()], caption)


def _draw(growth: GrowthFacts, width: int) -> Figure:
    figure, axes = canvas(width, _HEIGHT, left=56, right=22, bottom=46, top=56)
    rows, values = [one.rows for one in growth.points], [one.value for one in growth.points]
    axes.set_xscale("log")
    ahead = growth.forecast
    ticks = [*rows, *([ahead.rows] if ahead else [])]
    axes.set_xlim(min(ticks) / 1.15, max(ticks) * 1.15)
    axes.set_xticks(ticks, [_rows(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.set_ylim(*_limits(growth))
    axes.yaxis.set_major_locator(ticker.MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda y, _: _level(y, growth.unit)))
    axes.grid(axis="y", color=PALETTE["grid"], linewidth=1.0)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6)
    axes.set_xlabel("training rows")
    axes.axhline(growth.base, color=PALETTE["base"], linewidth=1.4, linestyle=(0, (2, 2)))
    for one in growth.points:
        axes.plot([one.rows] * 2, one.ci95, color=PALETTE["band"], linewidth=8, solid_capstyle="butt")
    if ahead:
        axes.plot([ahead.rows] * 2, ahead.ci95, color=PALETTE["band"], linewidth=8, solid_capstyle="butt")
        axes.plot([rows[-1], ahead.rows], [values[-1], ahead.value], "--", color=PALETTE["check"], linewidth=1.6)
        ring = axes.plot([ahead.rows], [ahead.value], "o", color=PALETTE["check"], markersize=9)[0]
        ring.set(markerfacecolor=PALETTE["page"], markeredgewidth=2.2, clip_on=False)
    axes.plot(rows, values, "-o", color=PALETTE["tuned"], linewidth=2.2, markersize=8, clip_on=False)
    _legend(figure, width, forecast=ahead is not None)
    return figure


def _legend(figure: Figure, width: int, *, forecast: bool) -> None:
    top = 1 - 14 / _HEIGHT
    parts = [(14, "\N{BLACK CIRCLE} tuned", "tuned"), (80, "\N{HORIZONTAL ELLIPSIS} base", "base")]
    if forecast:
        parts.append((140, "\N{WHITE CIRCLE} forecast", "check"))
    for left, name, colour in parts:
        figure.text(left / width, top, name, color=PALETTE[colour], weight="bold", va="center")
    # On a line of its own: beside the others a long name would have no room on a phone.
    figure.text(14 / width, 1 - 36 / _HEIGHT, _METRIC, color=PALETTE["soft"], va="center")


def _rows(count: int) -> str:
    return f"{count:,}" if count < 10_000 else f"{count / 1000:,.3g}k"


def _level(value: float, unit: str) -> str:
    """A tick of the upright axis: no more digits than it needs."""
    return f"{round(100 * value, 2):g}%" if unit == "share" else f"{round(value, 6):g}"


def _values(growth: GrowthFacts) -> list[float]:
    found = [growth.base, *(end for one in growth.points for end in (one.value, *one.ci95))]
    return found if growth.forecast is None else [*found, growth.forecast.value, *growth.forecast.ci95]


def _limits(growth: GrowthFacts) -> tuple[float, float]:
    """Room around all that is drawn; a share stays within what a share can be."""
    low, high = min(_values(growth)), max(_values(growth))
    room = 0.08 * (high - low) or 0.05
    if growth.unit == "share":
        return max(-0.02, low - room), min(1.02, high + room)
    return low - room, high + room


def _told(growth: GrowthFacts) -> str:
    points = "; ".join(
        f"{one.rows:,} rows {number(one.value, growth.unit)} ({number(one.ci95[0], growth.unit)} to "
        f"{number(one.ci95[1], growth.unit)})"
        for one in growth.points
    )
    ahead = f" {growth.forecast.words}." if growth.forecast else ""
    return f"The base {number(growth.base, growth.unit)}; {points}.{ahead}"
