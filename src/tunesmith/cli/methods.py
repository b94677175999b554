"""`tunesmith methods`: every way to learn, and what of a model is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .console import out, print_json
from .options import Json

if TYPE_CHECKING:
    from ..pipelines.catalogue import Way


def command(
    base: Annotated[str | None, typer.Option("--base", help="The base that the figures are for.")] = None,
    json: Json = False,
) -> None:
    """List the methods, preference losses and adapters: what each learns from, trains and needs, and its paper."""
    from ..models.refs import DEFAULT
    from ..pipelines.catalogue import catalogue
    from . import show

    found = catalogue(base or DEFAULT)
    if json:
        print_json(found.as_json())
        return
    by_section: dict[str, list[Way]] = {}
    for way in found.ways:
        by_section.setdefault(way.section, []).append(way)
    for section, title in (("method", "Methods (method.type)"), ("loss", "Preference losses (method.loss)")):
        rows = [(way.name, way.what, " or ".join(way.rows), ", ".join(way.papers)) for way in by_section[section]]
        show.table(title, ("name", "what", "learns from rows", "arXiv"), rows)
    trained = [
        (way.name, way.updates, f"{way.trained or 0:,}", f"{way.memory or 0:.0%}", ", ".join(way.papers))
        for way in by_section["adapter"]
    ]
    numbers = ("trained parameters", "memory")
    show.table(f"Adapters (adapter.type), on {found.base}", ("name", "trains", *numbers, "arXiv"), trained, numbers)
    out.print(
        "memory: weights, gradients and AdamW's state as a share of full fine-tuning's; activations come on top.\n"
        "docs/papers.md has equations, and where we differ from the papers"
    )
