"""Conversations of nothing but roles and texts through a chat template: what transformers does with them, and no more.

It looks through every message for objects that a template must not see, copies them, and gives one field the names that
older templates know it by. Plain strings need none of it, and it costs as much as the template.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from jinja2.runtime import new_context
from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils as library

_PLAIN = {"role", "content"}


def quicken(tokenizer: Any) -> None:
    """Let the tokenizer's `apply_chat_template` take the short way where it can; one of its own is left alone."""
    if getattr(type(tokenizer), "apply_chat_template", None) is PreTrainedTokenizerBase.apply_chat_template:
        tokenizer.apply_chat_template = Quick(tokenizer)


class Quick:
    """Stands where a tokenizer's `apply_chat_template` stood."""

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer

    def __call__(self, conversation: Any, **options: Any) -> Any:
        """As transformers', which does whatever is not text of plain texts."""
        known = options.keys() <= {"tokenize", "tools", "add_generation_prompt"}
        if known and not options.get("tokenize", True) and not options.get("tools") and _plain(conversation):
            return self._rendered(conversation, prompt=options.get("add_generation_prompt", False))
        return PreTrainedTokenizerBase.apply_chat_template(self._tokenizer, conversation, **options)

    def _rendered(self, conversation: list[dict[str, str]], *, prompt: bool) -> str:
        """In transformers' own sandbox, whose compiled templates it keeps."""
        template = library._compile_jinja_template(self._tokenizer.get_chat_template())
        shown = {"messages": conversation, "tools": None, "documents": None, "add_generation_prompt": prompt}
        # As Template.render, which looks all the names up anew in chained maps, and that takes longer than the texts.
        usual = _names(template)
        names = usual | shown | self._tokenizer.special_tokens_map
        context = new_context(template.environment, template.name, template.blocks, names, True, usual)
        text: str = template.environment.concat(template.root_render_func(context))
        return text


@lru_cache(maxsize=16)
def _names(template: Any) -> dict[str, Any]:
    """What every template may use. Not to be changed."""
    return dict(template.globals)


def _plain(conversation: Any) -> bool:
    return (
        type(conversation) is list
        and bool(conversation)
        and all(type(turn) is dict and turn.keys() == _PLAIN for turn in conversation)
        and all(type(part) is str for turn in conversation for part in turn.values())
    )
