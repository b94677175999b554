"""A conversation with a boolean `label` (or `kto_tag`): whether its last answer is good."""

from __future__ import annotations

from typing import Any

from ...core.messages import Example, Kind, Labelled, Row
from .base import Format, RowError, extras, of_kind
from .chat import Chat
from .conversation import as_json, tools_key
from .instruction import Instruction
from .prompt_completion import PromptCompletion
from .sharegpt import ShareGPT

LABELS = ("label", "kto_tag")
_SHAPES: tuple[Format, ...] = (Chat(), PromptCompletion(), Instruction(), ShareGPT())


class Kto:
    """Rows of a supervised shape and a label."""

    name = "kto"
    kind: Kind = "labelled"

    def matches(self, row: dict[str, Any]) -> bool:
        """A boolean label beside a conversation decides."""
        return any(isinstance(row.get(key), bool) for key in LABELS) and _shape(row) is not None

    def parse(self, row: dict[str, Any]) -> Labelled:
        """The shape's own reading; the last turn is the answer that is judged."""
        key = next((key for key in LABELS if isinstance(row.get(key), bool)), None)
        shape = _shape(row)
        if key is None or shape is None:
            raise RowError("a conversation and a boolean 'label' are needed")
        example = shape.parse({name: value for name, value in row.items() if name != key})
        if not isinstance(example, Example) or example.messages[-1].role != "assistant":
            raise RowError("the last turn is not an answer: there is nothing to judge")
        return Labelled(
            prompt=example.messages[:-1], answer=example.messages[-1], label=row[key], tools=example.tools,
            metadata=example.metadata,
        )  # fmt: skip

    def export(self, row: Row) -> dict[str, Any]:
        """Every labelled row fits, as chat."""
        mine = of_kind(row, Labelled, self.name)
        messages = as_json((*mine.prompt, mine.answer))
        return {"messages": messages, "label": mine.label} | tools_key(mine.tools) | extras(mine.metadata)


def _shape(row: dict[str, Any]) -> Format | None:
    return next((shape for shape in _SHAPES if shape.matches(row)), None)
