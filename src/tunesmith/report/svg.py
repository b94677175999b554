"""matplotlib's SVG made fit for a page with a strict CSP.

A policy that allows styles by hash forbids the `style="..."` and `<style>` that matplotlib writes. So each
declaration becomes a presentation attribute, and each palette colour also a class (`st-...` for the stroke,
`fi-...` for the fill) that the page's stylesheet repaints in dark mode.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = {
    "ink": "#1c2430",
    "soft": "#5a6472",
    "grid": "#dfe3e8",
    "raw": "#b7cdf0",
    "tuned": "#1d5cc4",
    "base": "#6a7482",
    "check": "#a8480f",
    "band": "#cfe0fa",
    "page": "#ffffff",
}
"""Colour names of the stylesheet and their values on a white page."""

_NAMES = {colour: name for name, colour in PALETTE.items()}


@dataclass(frozen=True)
class Caption:
    """What a chart is called in the page.

    `key` begins its ids; `names` maps placeholders in the drawing to the texts they stand for: matplotlib
    would read "$" in a foreign name as mathematics and warn of glyphs it lacks, so it never sees one.
    """

    key: str
    title: str
    desc: str
    names: Mapping[str, str] = field(default_factory=dict)


def inline(figures: Sequence[tuple[str, Figure]], caption: Caption) -> Markup:
    """The drawings of one chart, each with the class (`wide`, `narrow`) of the screens it is for."""
    return Markup("").join(_inline(_draw(figure), kind, caption) for kind, figure in figures)


def _draw(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _inline(drawing: str, kind: str, caption: Caption) -> Markup:
    """One SVG as an element of the page: no namespace, no style, its own ids, a title and a description."""
    key = f"{caption.key}-{kind}"
    root = ElementTree.fromstring(drawing)  # noqa: S314 - matplotlib's own output, without foreign text
    for element in list(root.iter()):
        for child in list(element):
            if _local(child.tag) in ("metadata", "style"):
                element.remove(child)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', drawing))
    for element in root.iter():
        _clean(element, key, used)
        if element.text:
            element.text = caption.names.get(element.text, element.text)
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "class": f"chart {kind}",
        "role": "img",
        "aria-labelledby": f"{key}-title {key}-desc",
    }
    for place, (tag, text) in enumerate((("title", caption.title), ("desc", caption.desc))):
        element = ElementTree.Element(tag, {"id": f"{key}-{tag}"})
        element.text = text
        root.insert(place, element)
    # ElementTree escapes text and attributes, so what it writes is safe to place in the page.
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704


def _clean(element: ElementTree.Element, key: str, used: set[str]) -> None:
    element.tag = _local(element.tag)
    attributes = {_local(name): value for name, value in element.attrib.items()}
    declarations = _declarations(attributes.pop("style", ""))
    element.attrib.clear()
    element.tail = None
    classes = []
    for name, value in [*attributes.items(), *declarations]:
        if name == "id" and value in used:
            element.set("id", f"{key}-{value}")
        elif name == "href":
            element.set("href", f"#{key}-{value[1:]}")
        elif name not in ("id", "space"):
            element.set(name, value.replace("url(#", f"url(#{key}-"))
        if name in ("fill", "stroke") and value in _NAMES:
            classes.append(f"{name[:2]}-{_NAMES[value]}")
    if element.tag == "text" and "fill" not in element.attrib:
        classes.append("fi-ink")
    if classes:
        element.set("class", " ".join(classes))


def _declarations(style: str) -> list[tuple[str, str]]:
    """`font: bold 12px 'X'; fill: none` as attributes. The font family is left to the page."""
    pairs = [part.split(":", 1) for part in style.split(";") if ":" in part]
    out = []
    for name, value in ((name.strip(), value.strip()) for name, value in pairs):
        if name != "font":
            out.append((name, value))
            continue
        size = re.search(r"([\d.]+)px", value)
        out += [("font-size", size.group(1))] if size else []
        out += [("font-weight", "600")] if re.match(r"(bold|700)\b", value) else []
    return out


def _local(name: str) -> str:
    return name.rsplit("}", 1)[-1]
