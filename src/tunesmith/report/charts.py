"""The charts of the report, drawn by matplotlib: the loss curves, and the metrics from base to tuned.

Colour is never the only sign: lines differ in width, dash and marker, base is a ring and tuned a dot.
Each chart is drawn twice, for a desk and for a phone, so that its text keeps its size on both.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from markupsafe import Markup

from tunesmith.core.later import later
from tunesmith.report.facts import LossCurves, MetricFacts
from tunesmith.report.svg import PALETTE, Caption, inline
from tunesmith.report.wording import difference, interval, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

matplotlib, figures, ticker = (later(name) for name in ("matplotlib", "matplotlib.figure", "matplotlib.ticker"))

WIDTHS = {"wide": 720, "narrow": 360}
"""SVG units (72 to the inch) of the two drawings."""
MAX_POINTS = 400
NAME_LENGTH = 24

# matplotlib's settings are one global; two reports drawn at once must not restore each other's.
SETTINGS = threading.Lock()

Points = Sequence[tuple[float, float]]


def loss_chart(curves: LossCurves) -> Markup:
    """Training loss (raw, smoothed), validation loss and the kept checkpoint; "" without a finite point."""
    train, validation = _finite(curves.train), _finite(curves.validation)
    if not train and not validation:
        return Markup("")
    caption = Caption("loss", "Loss during training", _loss_desc(train, validation, curves.kept_step))
    with SETTINGS, matplotlib.rc_context():
        settle()
        drawings = [(kind, _draw_losses(train, validation, curves.kept_step, width)) for kind, width in WIDTHS.items()]
        return inline(drawings, caption)


def metric_chart(metrics: Sequence[MetricFacts]) -> Markup:
    """Base to tuned for each share on one 0-100 % axis, with the 95 % interval of the difference as a band.

    Metrics in other units share no axis with these and stay in the table; empty where there is no share.
    """
    shares = [m for m in metrics if m.unit == "share" and math.isfinite(m.base) and math.isfinite(m.tuned)]
    if not shares:
        return Markup("")
    desc = "; ".join(
        f"{m.name}: {_levels(m)} ({difference(m.delta, m.unit)}, 95% interval {interval(m)})" for m in shares
    )
    names = {f"name-{place}": short(metric.name) for place, metric in enumerate(shares)}
    caption = Caption("metrics", "Base and tuned model, share of test rows", desc, names)
    with SETTINGS, matplotlib.rc_context():
        settle()
        return inline([(kind, _draw_metrics(shares, width)) for kind, width in WIDTHS.items()], caption)


def smooth(points: Points) -> list[tuple[float, float]]:
    """Mean over a window of about a twentieth of the curve, centred on each point and so without lag.

    At the steep start it shrinks on both sides (the first point is raw), at the flat end only on the right.
    """
    reach = max(2, len(points) // 40)
    sums = [0.0, *accumulate(loss for _, loss in points)]
    out = []
    for place, (step, _) in enumerate(points):
        start = place - min(reach, place)
        end = min(len(points), place + min(reach, place) + 1)
        out.append((step, (sums[end] - sums[start]) / (end - start)))
    return out


def thin(points: Points) -> list[tuple[float, float]]:
    """At most `MAX_POINTS` points: the lowest and the highest of each bucket, so that no spike is lost."""
    if len(points) <= MAX_POINTS:
        return list(points)
    buckets = MAX_POINTS // 2
    edges = [round(place * len(points) / buckets) for place in range(buckets + 1)]
    out: list[tuple[float, float]] = []
    for start, end in pairwise(edges):
        bucket = sorted(points[start:end], key=lambda point: point[1])
        out += sorted({bucket[0], bucket[-1]})
    return out


def settle() -> None:
    """matplotlib's defaults whatever the user's matplotlibrc says, then ours: the same page everywhere."""
    matplotlib.rcdefaults()
    matplotlib.rcParams["svg.fonttype"] = "none"
    matplotlib.rcParams["svg.hashsalt"] = "tunesmith"
    matplotlib.rcParams["font.size"] = 12.0
    matplotlib.rcParams["text.color"] = PALETTE["ink"]
    matplotlib.rcParams["axes.edgecolor"] = PALETTE["soft"]
    matplotlib.rcParams["axes.labelcolor"] = PALETTE["soft"]
    matplotlib.rcParams["xtick.color"] = PALETTE["soft"]
    matplotlib.rcParams["ytick.color"] = PALETTE["soft"]


def _draw_losses(train: Points, validation: Points, kept_step: int | None, width: int) -> Figure:
    figure, axes = canvas(width, 300, left=48, right=14, bottom=46, top=34)
    if train:
        axes.plot(*_columns(thin(train)), color=PALETTE["raw"], linewidth=1.0)
        axes.plot(*_columns(thin(smooth(train))), color=PALETTE["tuned"], linewidth=2.2)
    if validation:
        axes.plot(*_columns(validation), "--o", color=PALETTE["check"], linewidth=1.6, markersize=5)
    axes.set_ylim(*_loss_limits(train, validation))
    axes.xaxis.set_major_locator(ticker.MaxNLocator(nbins=8 if width > 400 else 5, integer=True))
    axes.yaxis.set_major_locator(ticker.MaxNLocator(nbins=6))
    axes.grid(axis="y", color=PALETTE["grid"], linewidth=1.0)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6)
    axes.set_xlabel("optimizer step")
    top = 1 - 14 / 300
    if train:
        name = "\N{EM DASH} training"
        figure.text(14 / width, top, name, color=PALETTE["tuned"], weight="bold", va="center")
    if validation:
        name = "- \N{BLACK CIRCLE} - validation"
        figure.text(104 / width, top, name, color=PALETTE["check"], weight="bold", va="center")
    unit = "nats per token"
    figure.text(1 - 14 / width, top, unit, color=PALETTE["soft"], ha="right", va="center")
    if kept_step is not None:
        _mark_kept(axes, kept_step, validation)
    return figure


def _mark_kept(axes: Axes, kept_step: int, validation: Points) -> None:
    ink = PALETTE["ink"]
    axes.axvline(kept_step, color=ink, linewidth=1.4, linestyle=(0, (2, 2)))
    for step, loss in validation:
        if step == kept_step:
            axes.plot([step], [loss], "o", markersize=11, color=ink, fillstyle="none", markeredgewidth=2)
    left, right = axes.get_xlim()
    on_left = (kept_step - left) > 0.6 * (right - left)
    axes.annotate(
        f"kept: step {kept_step:,}",
        (kept_step, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-6 if on_left else 6, -4),
        textcoords="offset points",
        ha="right" if on_left else "left",
        va="top",
        weight="bold",
    )


def _draw_metrics(metrics: Sequence[MetricFacts], width: int) -> Figure:
    figure, axes = canvas(width, 58 * len(metrics) + 32, left=16, right=16, bottom=28, top=4)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(metrics), 0)
    axes.set_yticks([])
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    axes.grid(axis="x", color=PALETTE["grid"], linewidth=1.0)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6)
    axes.spines["bottom"].set_visible(False)
    for place, metric in enumerate(metrics):
        _draw_lane(axes, place, metric)
        # A phone has room for the levels only; the difference stands in the table below.
        words = [_levels(metric), difference(metric.delta, metric.unit)][: 2 if width > 400 else 1]
        axes.text(0, place + 0.3, f"name-{place}", weight="bold", va="center")
        axes.text(1, place + 0.3, ", ".join(words), ha="right", va="center", color=PALETTE["tuned"])
    return figure


def _draw_lane(axes: Axes, place: int, metric: MetricFacts) -> None:
    line, base, tuned = place + 0.7, metric.base, metric.tuned
    if metric.ci95 is not None and all(map(math.isfinite, metric.ci95)):
        band = [min(1.0, max(0.0, base + end)) for end in metric.ci95]
        axes.plot(band, [line, line], color=PALETTE["band"], linewidth=14, solid_capstyle="butt")
    axes.plot([base, tuned], [line, line], color=PALETTE["base"], linewidth=1.6)
    for x, edge, inside in ((base, "base", "page"), (tuned, "tuned", "tuned")):
        dot = axes.plot([x], [line], "o", color=PALETTE[edge], markerfacecolor=PALETTE[inside])[0]
        dot.set(markersize=10, markeredgewidth=2.4, clip_on=False)


def canvas(width: int, height: int, *, left: int, right: int, bottom: int, top: int) -> tuple[Figure, Axes]:
    """A figure of `width` x `height` SVG units with margins in the same units."""
    figure: Figure = figures.Figure(figsize=(width / 72, height / 72))
    box = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    axes = figure.add_axes(box)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure, axes


def _finite(points: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    return sorted((float(step), loss) for step, loss in points if math.isfinite(loss))


def _columns(points: Points) -> tuple[list[float], list[float]]:
    return [step for step, _ in points], [loss for _, loss in points]


def _loss_limits(train: Points, validation: Points) -> tuple[float, float]:
    """Limits that show all but the highest hundredth of the raw points: a spike must not flatten the rest."""
    raw = sorted(loss for _, loss in train)
    values = [loss for _, loss in [*validation, *smooth(train)]] + raw[: math.ceil(0.99 * len(raw))]
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.5
    return (max(0.0, low - room) if low >= 0 else low - room), high + room


def _loss_desc(train: Points, validation: Points, kept_step: int | None) -> str:
    parts = []
    for name, points in (("Training", train), ("Validation", validation)):
        if points:
            (first, start), (last, end) = points[0], points[-1]
            moved = f"{start:.3f} at step {first:,.0f} to {end:.3f} at step {last:,.0f}"
            parts.append(f"{name} loss goes from {moved}.")
    if kept_step is not None:
        parts.append(f"The kept checkpoint is step {kept_step:,}.")
    return " ".join(parts)


def _levels(metric: MetricFacts) -> str:
    return f"{number(metric.base, metric.unit)} \N{RIGHTWARDS ARROW} {number(metric.tuned, metric.unit)}"


def short(name: str) -> str:
    """As much of a name as has room."""
    return name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + "\N{HORIZONTAL ELLIPSIS}"
