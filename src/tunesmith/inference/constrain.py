"""Answers that must follow a grammar: JSON, a JSON schema, tool calls. llguidance says which tokens may come.

White space in JSON is at most one space, or a line break with up to 20 spaces: a model could go on with it for ever.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from torch import Tensor

from .ask import Constraint, Named, ToolChoice
from .calls import MISTRAL, Style
from .errors import AskError

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

_SPACE: JsonCompileOptions = {"whitespace_pattern": r"(\n[ ]{0,20}| )?"}
_MOST_CALLS = 16


class Grammars:
    """Makes the grammars of one tokenizer. Building takes a third of a second; one that is built may be shared."""

    def __init__(self, tokenizer: Any, stop_ids: Collection[int]):
        """`stop_ids` end an answer."""
        text = tokenizer.backend_tokenizer.to_str()
        self._words = LLTokenizer(_without_cutting(text), eos_token=sorted(stop_ids))
        self._stop_ids = sorted(stop_ids)

    def matcher(self, grammar: str, param: str) -> Matcher:
        """For one answer. AskError, naming `param`, for a grammar that cannot be followed."""
        made = LLMatcher(self._words, grammar, log_level=0)
        if made.is_error():
            raise AskError(
                f"{param} cannot be followed", param=param, why=_first_line(made.get_error()),
                mend="use keywords that constrained answers can follow",
            )  # fmt: skip
        return Matcher(made, self._stop_ids)

    def bytes_of(self, token: int) -> bytes:
        """What a token stands for."""
        return bytes(self._words.decode_bytes([token]))

    def special(self, text: str) -> bool:
        """Whether a text is one special token, which a grammar must name by its number."""
        ids = self._words.tokenize_str(text, parse_special=True)
        return len(ids) == 1 and self._words.is_special_token(ids[0])

    def token(self, text: str) -> str:
        """A text as Lark grammars write it; a special token by its number."""
        if not self.special(text):
            return json.dumps(text)
        return f"<[{self._words.tokenize_str(text, parse_special=True)[0]}]>"


class Matcher:
    """Where one answer stands in its grammar."""

    def __init__(self, matcher: LLMatcher, stop_ids: Sequence[int]):
        self._matcher, self._stop_ids = matcher, list(stop_ids)

    @property
    def done(self) -> bool:
        """Whether nothing more can come."""
        return bool(self._matcher.is_stopped())

    @property
    def error(self) -> str:
        """Why the grammar could not be followed to its end (its limits in time and memory); "" as long as it could."""
        return _first_line(self._matcher.get_error()) if self._matcher.is_error() else ""

    def allowed(self, vocabulary: int) -> Tensor:
        """Which tokens may come next: bool [vocabulary]; only those that end the answer where it is done."""
        allowed = np.zeros(vocabulary, dtype=bool)
        if self.done:
            allowed[[token for token in self._stop_ids if token < vocabulary]] = True
            return torch.from_numpy(allowed)
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        known = np.unpackbits(bits, bitorder="little")[:vocabulary]
        allowed[: len(known)] = known
        if not allowed.any():
            allowed[[token for token in self._stop_ids if token < vocabulary]] = True
        return torch.from_numpy(allowed)

    def take(self, token: int) -> None:
        """The token that came."""
        self._matcher.consume_token(token)


def constraint_grammar(constraint: Constraint) -> str:
    """Of an answer that is JSON as a whole. AskError where the schema is none."""
    schema: Mapping[str, Any] = {"type": "object"}
    if constraint.type == "json_schema":
        if constraint.schema is None:
            raise AskError("a constraint to a JSON schema without a schema", param="constraint")
        schema = constraint.schema
    return _json_grammar(schema)


def call_grammar(
    grammars: Grammars, style: Style, tools: Sequence[Mapping[str, Any]], choice: ToolChoice | Named, *, parallel: bool
) -> str | None:
    """Of an answer that must be calls; None where text may come too."""
    if choice in ("none", "auto"):
        return None
    offered = [tool["function"] for tool in tools]
    wanted = [one for one in offered if not isinstance(choice, Named) or one["name"] == choice.name]
    many = parallel and not isinstance(choice, Named)
    schema = _any_call(wanted, style.arguments)
    if style is MISTRAL:
        listed: dict[str, Any] = {"type": "array", "minItems": 1, "maxItems": _MOST_CALLS if many else 1}
        if "$defs" in schema:
            listed["$defs"] = schema.pop("$defs")
        listed["items"] = schema
        return f'start: {grammars.token(style.open)} " "? body\nbody: {_inline(listed)}\n'
    if not style.open:
        return f"start: {_inline(schema)}\n"
    more = f' ("\\n" call){{0,{_MOST_CALLS - 1}}}' if many else ""
    opened, closed = grammars.token(style.open), grammars.token(style.close)
    return f'start: call{more}\ncall: {opened} "\\n" body "\\n" {closed}\nbody: {_inline(schema)}\n'


def _any_call(functions: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any]:
    """A call of one of these. What a tool's schema defines for itself (`$defs`) is so for all, under other names."""
    calls, definitions = [], dict[str, Any]()
    for number, function in enumerate(functions):
        arguments = function.get("parameters") or {"type": "object", "properties": {}, "additionalProperties": False}
        moved = {
            f"#/{place}/{name}": f"{number}_{name}"
            for place in ("$defs", "definitions")
            for name in arguments.get(place, {})
        }
        for place in ("$defs", "definitions"):
            for name, one in arguments.get(place, {}).items():
                definitions[moved[f"#/{place}/{name}"]] = _repointed(one, moved)
        own = {name: one for name, one in arguments.items() if name not in ("$defs", "definitions", "$schema")}
        properties = {"name": {"const": function["name"]}, key: _repointed(own, moved)}
        calls.append(
            {"type": "object", "properties": properties, "required": ["name", key], "additionalProperties": False}
        )
    found: dict[str, Any] = {"anyOf": calls} if len(calls) > 1 else calls[0]
    return found | ({"$defs": definitions} if definitions else {})


def _repointed(schema: Any, moved: Mapping[str, str]) -> Any:
    """A schema whose references follow what was moved."""
    if isinstance(schema, dict):
        return {
            name: f"#/$defs/{moved[one]}" if name == "$ref" and one in moved else _repointed(one, moved)
            for name, one in schema.items()
        }
    return [_repointed(one, moved) for one in schema] if isinstance(schema, list) else schema


def _json_grammar(schema: Mapping[str, Any]) -> str:
    return str(LLMatcher.grammar_from_json_schema(dict(schema), overrides=_SPACE))


def _inline(schema: Mapping[str, Any]) -> str:
    return "%json " + json.dumps({**schema, "x-guidance": _SPACE})


def _without_cutting(text: str) -> str:
    """A tokenizer's file without what it does to long texts."""
    return json.dumps(json.loads(text) | {"truncation": None, "padding": None})


def _first_line(error: str) -> str:
    return (error.strip().splitlines() or ["unknown"])[0]
