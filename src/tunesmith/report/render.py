"""Facts to one self-contained HTML page.

The page loads nothing: its policy forbids all sources but its own style and script, each named by its hash.
Every text goes through Jinja's autoescape; only the style, the script and the charts are placed as they are,
and they are ours.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tunesmith.report import wording
from tunesmith.report.audit import about_parts, data_items
from tunesmith.report.certainty_chart import certainty_chart
from tunesmith.report.charts import loss_chart, metric_chart
from tunesmith.report.facts import CostFacts, MetricFacts, ReportFacts, SliceFacts
from tunesmith.report.growth_chart import growth_chart
from tunesmith.report.rows import arrange
from tunesmith.report.ways_chart import ways_chart

_TEMPLATES = Path(__file__).parent / "templates"


def render(facts: ReportFacts) -> str:
    """The report as HTML text; equal facts give an equal page."""
    css, script = _part("report.css"), _part("report.js")
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            facts=facts,
            words=wording,
            policy=_policy(css, script),
            css=Markup(css),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - our own file
            caveats=wording.caveats(facts),
            rivals=wording.rivals(facts),
            rows=arrange(facts.rows),
            metric_chart=metric_chart(facts.metrics),
            loss_chart=loss_chart(facts.curves),
            ways_chart=ways_chart(facts.ways),
            growth_chart=growth_chart(facts.growth),
            certainty_chart=certainty_chart,
            slice_metrics=list(dict.fromkeys(metric.name for part in facts.slices for metric in part.metrics)),
            slice_cells=_slice_cells,
            few_slice_rows=wording.FEW_SLICE_ROWS,
            loss=_loss,
            data_items=data_items(facts.audit),
            **about_parts(facts.audit.diversity),
            cost_items=_cost_items(facts.cost),
            phase_items=[(time.phase, wording.duration(time.seconds)) for time in facts.times],
        )
    )


def plain_page(template: str, **facts: Any) -> str:
    """A page without a script, in the report's style."""
    css = _part("report.css")
    return (
        _environment()
        .get_template(template)
        .render(
            policy=_policy(css, None),
            css=Markup(css),  # noqa: S704 - our own file
            **facts,
        )
    )


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _part(name: str) -> str:
    return (_TEMPLATES / name).read_text("utf-8")


def _policy(css: str, script: str | None) -> str:
    """A Content Security Policy that allows this style, this script, if any, and images inside the page only."""
    sources = {
        "default-src": "'none'",
        "style-src": f"'sha256-{_digest(css)}'",
        "script-src": "'none'" if script is None else f"'sha256-{_digest(script)}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in sources.items())


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _slice_cells(part: SliceFacts) -> dict[str, MetricFacts]:
    return {metric.name: metric for metric in part.metrics}


def _loss(value: float | None) -> str:
    return "not measured" if value is None else wording.number(value, "nats")


def _cost_items(cost: CostFacts | None) -> list[tuple[str, str]]:
    if cost is None:
        return []
    items = [
        ("Wall time", wording.duration(cost.wall_seconds)),
        ("Tokens trained", f"{cost.trained_tokens:,}"),
        ("Speed", f"{cost.tokens_per_second:,.0f} tokens per second"),
        ("Peak memory", f"{cost.peak_memory_mib:,.0f} MiB"),
    ]
    if cost.energy_wh is not None:
        items.append(("Energy", f"{cost.energy_wh:,.1f} Wh"))
    if cost.price is not None:
        items.append(("Price", f"{cost.price:,.2f} {cost.currency}, at {cost.price_per_hour:,g} per hour"))
    return items
