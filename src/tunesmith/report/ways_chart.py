"""The chart of the ways to do a task: the score of each with its 95 % interval, on one axis.

The way to take is filled, the others are rings, so that colour is not the only sign.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from markupsafe import Markup

from tunesmith.report.charts import SETTINGS, WIDTHS, canvas, matplotlib, settle, short
from tunesmith.report.facts import WaysFacts
from tunesmith.report.svg import PALETTE, Caption, inline

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def ways_chart(ways: WaysFacts | None) -> Markup:
    """Empty where nothing was compared, or where the metric is no share of rows."""
    if ways is None or not all(0 <= end <= 1 for way in ways.ways for end in (way.value, *way.ci95)):
        return Markup("")
    told = [f"{way.name}: {way.value:.1%} ({way.ci95[0]:.1%} to {way.ci95[1]:.1%})" for way in ways.ways]
    names = {f"way-{place}": short(way.name) for place, way in enumerate(ways.ways)}
    caption = Caption("ways", f"{ways.metric} of each way", "; ".join(told), names)
    with SETTINGS, matplotlib.rc_context():
        settle()
        return inline([(kind, _draw(ways, width)) for kind, width in WIDTHS.items()], caption)


def _draw(ways: WaysFacts, width: int) -> Figure:
    figure, axes = canvas(width, 46 * len(ways.ways) + 32, left=16, right=16, bottom=28, top=4)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(ways.ways), 0)
    axes.set_yticks([])
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    axes.grid(axis="x", color=PALETTE["grid"], linewidth=1.0)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6)
    axes.spines["bottom"].set_visible(False)
    for place, way in enumerate(ways.ways):
        line, taken = place + 0.68, way.name == ways.take
        axes.plot(list(way.ci95), [line, line], color=PALETTE["band"], linewidth=12, solid_capstyle="butt")
        dot = axes.plot([way.value], [line], "o", color=PALETTE["tuned" if taken else "base"])[0]
        dot.set(markersize=10, markeredgewidth=2.4, clip_on=False)
        dot.set_markerfacecolor(PALETTE["tuned" if taken else "page"])
        axes.text(0, place + 0.26, f"way-{place}", weight="bold", va="center")
        value = f"{way.value:.1%}" if math.isfinite(way.value) else "-"
        axes.text(1, place + 0.26, value, ha="right", va="center", color=PALETTE["tuned" if taken else "soft"])
    return figure
