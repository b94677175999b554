"""Metrics of one answer against one reference. A new one is its file, one entry in a table, a test, a row in the docs.

`METRICS` holds those that a name alone says, `config.Configured` those that a recipe may configure as well, and
`FIELD_METRICS` those that take a field: `field_accuracy:intent`. Loss and perplexity are not here: they need no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

from ...core.errors import ContentError, nearest
from .base import Metric
from .config import BleuSpec, ChrfSpec, Configured, LabelFigure, LabelsSpec, RougeSpec
from .edit_similarity import EditSimilarity
from .exact_match import ExactMatch
from .field_accuracy import FieldAccuracy
from .field_f1 import FieldF1
from .json_valid import JsonValid
from .numeric import Numeric
from .refusal import Refusal, RefusalRight
from .token_f1 import TokenF1
from .tool_calls import ToolCall, ToolName

METRICS: dict[str, Callable[[], Metric]] = {
    "exact_match": ExactMatch,
    "json_valid": JsonValid,
    "field_f1": FieldF1,
    "token_f1": TokenF1,
    "rouge_1": RougeSpec(type="rouge_1").build,
    "rouge_2": RougeSpec(type="rouge_2").build,
    "rouge_l": RougeSpec(type="rouge_l").build,
    "bleu": BleuSpec(type="bleu").build,
    "chrf": ChrfSpec(type="chrf").build,
    "chrf++": ChrfSpec(type="chrf", word_order=2).build,
    "edit_similarity": EditSimilarity,
    "numeric": Numeric,
    "tool_name": ToolName,
    "tool_call": ToolCall,
    "refusal": Refusal,
    "refusal_right": RefusalRight,
    **{figure: LabelsSpec(type=figure).build for figure in get_args(LabelFigure)},
}
FIELD_METRICS: dict[str, Callable[[str], Metric]] = {"field_accuracy": FieldAccuracy}

__all__ = ["FIELD_METRICS", "METRICS", "Metric", "find", "named"]


def named(name: str | Configured, where: str = "evaluation.metrics") -> Metric:
    """The metric of an entry of a recipe; a ContentError that lists the known names otherwise."""
    if not isinstance(name, str):
        return name.build()
    kind, colon, field = name.partition(":")
    if colon and field and kind in FIELD_METRICS:
        return FIELD_METRICS[kind](field)
    if name in METRICS:
        return METRICS[name]()
    known = [*METRICS, *(f"{kind}:<field>" for kind in FIELD_METRICS)]
    raise ContentError(f"unknown metric '{name}'", where=where, mend=nearest(name, known))


def find(name: str, entries: Sequence[str | Configured], where: str) -> Metric:
    """The metric called so: of the recipe's entries the one with this name, else one of the tables."""
    return named(
        next((entry for entry in entries if not isinstance(entry, str) and entry.named() == name), name), where
    )
