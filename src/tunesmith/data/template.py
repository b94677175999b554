"""Examples to text through a chat template, with the spans of the text that carry loss.

The template is the tokenizer's own. Spans are found by rendering, not by reading the template: the text up to
and with the generation prompt of turn i is what the model will be served, so whatever the full text adds behind it,
up to the end of that turn, is what the model must say. Works for every template that only ever appends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..core.messages import Example, Message

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ '### ' + message['role'] + '\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant\n' }}{% endif %}"
)
"""For tokenizers that bring no template: headed blocks, the answer closed by the end-of-sequence token."""


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that this package uses."""

    eos_token_id: int | None
    bos_token_id: int | None
    pad_token_id: int | None
    all_special_ids: list[int]

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """Render messages."""

    def __call__(self, text: Any, **options: Any) -> Any:
        """Text to token ids."""

    def decode(self, token_ids: Any, **options: Any) -> Any:
        """Token ids to text."""


class TemplateError(Exception):
    """The tokenizer's template cannot show this conversation; the text is the reason."""


@dataclass(frozen=True)
class Span:
    """Characters [start, end) of the text carry loss with `weight`."""

    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class Rendered:
    """A conversation as the model sees it."""

    text: str
    spans: tuple[Span, ...]


def render(tokenizer: Tokenizer, messages: Sequence[Message], tools: Any, *, prompt: bool = False) -> str:
    """The text of a conversation; with `prompt`, the opening of the next assistant turn behind it."""
    forms = [message.template_form() for message in messages]
    try:
        text = tokenizer.apply_chat_template(
            forms, tools=list(tools) if tools else None, tokenize=False, add_generation_prompt=prompt
        )
    except Exception as error:  # templates raise whatever their author liked
        raise TemplateError(f"the chat template refuses this conversation: {error}") from error
    return str(text)


def render_example(tokenizer: Tokenizer, example: Example) -> Rendered:
    """Text and loss spans of a training row: each assistant turn, its end-of-turn mark included."""
    text = render(tokenizer, example.messages, example.tools)
    return Rendered(text, _spans(tokenizer, example.messages, example.tools, text))


def render_prompt(tokenizer: Tokenizer, messages: Sequence[Message], tools: Any) -> Rendered:
    """Text of a served prompt. Its spans are the earlier assistant turns, so that it is cut into tokens alike."""
    text = render(tokenizer, messages, tools, prompt=True)
    return Rendered(text, _spans(tokenizer, messages, tools, text))


def _spans(tokenizer: Tokenizer, messages: Sequence[Message], tools: Any, text: str) -> tuple[Span, ...]:
    spans = []
    for index, message in enumerate(messages):
        if message.role != "assistant":
            continue
        before = render(tokenizer, messages[:index], tools, prompt=True)
        # White space behind the end-of-turn mark belongs to the template, not to the answer.
        after = render(tokenizer, messages[: index + 1], tools).rstrip()
        if not (text.startswith(before) and text.startswith(after) and len(after) > len(before)):
            raise TemplateError(
                f"the chat template shows turn {index} otherwise in training than when it is served: "
                "what is learned would not be what is asked"
            )
        if message.tool_calls and not _shows_calls(tokenizer, messages[: index + 1], tools, after):
            raise TemplateError(
                f"the chat template does not show the tool calls of turn {index}: "
                "an answer without them would be learned"
            )
        spans.append(Span(len(before), len(after), 1.0 if message.weight is None else message.weight))
    return tuple(spans)


def _shows_calls(tokenizer: Tokenizer, messages: Sequence[Message], tools: Any, text: str) -> bool:
    """Whether `text` would be another without the tool calls of the last turn."""
    bare = messages[-1].model_copy(update={"tool_calls": None})
    try:
        return render(tokenizer, [*messages[:-1], bare], tools).rstrip() != text
    except TemplateError:
        return True
