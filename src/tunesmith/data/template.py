"""Examples to text through a chat template, with the spans of the text that carry loss.

The template is the tokenizer's own. Spans are found by rendering, not by reading the template: the text up to
and with the generation prompt of turn i is what the model will be served, so whatever the full text adds behind it,
up to the end of that turn, is what the model must say. A row stays one row under every template that only appends.

Some templates show an earlier turn otherwise than when it was said (Qwen3 drops its thinking). A row that would
learn such a turn is unrolled: one piece for each learned turn, ending in that turn, so that each is trained exactly
as it is served. Where even such a piece does not begin with its own served prompt, the row is refused.

What contents spell like a special token is rendered as text, cut in two (see `escape`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..core.messages import Example, Message, Text
from .escape import Escape, Guarded

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ '### ' + message['role'] + '\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant\n' }}{% endif %}"
)
"""For tokenizers that bring no template: headed blocks, the answer closed by the end-of-sequence token."""


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that this package uses."""

    eos_token: str | None
    eos_token_id: int | None
    bos_token_id: int | None
    pad_token_id: int | None
    all_special_ids: list[int]
    all_special_tokens: list[str]

    @property
    def added_tokens_decoder(self) -> dict[int, Any]:
        """Tokens beside the vocabulary proper, by id; each has a `content` and says whether it is `special`."""

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """Render messages."""

    def __call__(self, text: Any, **options: Any) -> Any:
        """Text to token ids."""

    def decode(self, token_ids: Any, **options: Any) -> Any:
        """Token ids to text."""


class TemplateError(Exception):
    """The tokenizer's template cannot show this conversation; the text is the reason."""


class ShownOtherwiseError(TemplateError):
    """A turn that is to be learned reads otherwise in the full conversation than when it is served."""


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
    cuts: tuple[int, ...] = ()
    """Where the text is cut besides, so that what spells a special token does not become one; in rising order."""


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


def render_example(tokenizer: Tokenizer, example: Example, escape: Escape | None = None) -> Rendered:
    """Text and loss spans of a training row kept whole: each assistant turn, its end-of-turn mark included.

    `escape` is the tokenizer's, for who renders many. ShownOtherwiseError where a turn that carries weight does not
    stand in the text as it is served.
    """
    escape = escape or escape_for(tokenizer)
    shown = escape.guard(example.messages, example.tools)
    text = render(tokenizer, shown.messages, shown.tools)
    return _unmarked(shown, Rendered(text, _spans(tokenizer, shown, text, escape, learned=True)))


def render_unrolled(
    tokenizer: Tokenizer, example: Example, escape: Escape | None = None
) -> list[tuple[Example, Rendered]]:
    """The row itself where it can stay whole, else one piece for each turn that carries weight, ending in that turn."""
    escape = escape or escape_for(tokenizer)
    try:
        return [(example, render_example(tokenizer, example, escape))]
    except ShownOtherwiseError:
        pieces = [piece_of(example, i) for i, m in enumerate(example.messages) if m.learned]
    return [(piece, _render_piece(tokenizer, piece, escape)) for piece in pieces]


def render_prompt(
    tokenizer: Tokenizer, messages: Sequence[Message], tools: Any, escape: Escape | None = None
) -> Rendered:
    """Text of a served prompt. Its spans are the earlier assistant turns, so that it is cut into tokens alike."""
    escape = escape or escape_for(tokenizer)
    shown = escape.guard(messages, tools)
    text = render(tokenizer, shown.messages, shown.tools, prompt=True)
    return _unmarked(shown, Rendered(text, _spans(tokenizer, shown, text, escape, learned=False)))


def render_text(tokenizer: Tokenizer, text: Text, escape: Escape) -> Rendered:
    """A document: the text as it stands, or the whole conversation, cut where answers begin and end as it is served."""
    turns = text.messages or (Message(role="user", content=text.text),)
    shown = escape.guard(turns, text.tools)
    if not text.messages:
        return _unmarked(shown, Rendered(shown.messages[0].content or "", ()))
    whole = render(tokenizer, shown.messages, shown.tools)
    return _unmarked(shown, Rendered(whole, _spans(tokenizer, shown, whole, escape, learned=False)))


def escape_for(tokenizer: Tokenizer) -> Escape:
    """What keeps contents from becoming this tokenizer's special tokens."""
    return Escape(special_tokens(tokenizer).values())


def _unmarked(shown: Guarded, rendered: Rendered) -> Rendered:
    """The text as it was typed, its spans moved along, and cuts where the marks stood."""
    if not shown.mark:
        return rendered
    text, cuts = shown.unmark(rendered.text)

    def moved(place: int) -> int:
        return place - len(shown.mark) * rendered.text.count(shown.mark, 0, place)

    spans = tuple(Span(moved(s.start), moved(s.end), s.weight) for s in rendered.spans)
    return Rendered(text, spans, tuple(cuts))


def special_tokens(tokenizer: Tokenizer) -> dict[int, str]:
    """All special tokens by id, those included that stand in the list of added tokens alone.

    transformers names only bos, eos and their like special; Gemma's <end_of_turn>, Phi's <|end|> and Llama's
    <|eom_id|> are often not among them.
    """
    named = dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
    return named | {i: token.content for i, token in tokenizer.added_tokens_decoder.items() if token.special}


def piece_of(example: Example, index: int) -> Example:
    """The row up to turn `index`, which alone carries weight."""
    earlier = [m.model_copy(update={"weight": 0.0}) if m.learned else m for m in example.messages[:index]]
    return example.model_copy(update={"messages": (*earlier, example.messages[index])})


def learning_last(example: Example) -> Example:
    """The row with weight on the last of its learned turns alone."""
    learned = [index for index, message in enumerate(example.messages) if message.learned]
    if len(learned) < 2:
        return example
    piece = piece_of(example, learned[-1])
    return piece.model_copy(update={"messages": (*piece.messages, *example.messages[learned[-1] + 1 :])})


def _render_piece(tokenizer: Tokenizer, piece: Example, escape: Escape) -> Rendered:
    try:
        return render_example(tokenizer, piece, escape)
    except ShownOtherwiseError as error:
        # Mistral's templates show the system message with the last user turn, while it is the last turn of all.
        bare = piece.model_copy(update={"messages": tuple(m for m in piece.messages if m.role != "system")})
        if len(bare.messages) == len(piece.messages) or not _renders(tokenizer, bare):
            raise
        raise ShownOtherwiseError(
            f"{error}; the template moves or drops the system message once an answer follows: "
            "put its text into the user turn"
        ) from error


def _renders(tokenizer: Tokenizer, example: Example) -> bool:
    try:
        render_example(tokenizer, example)
    except TemplateError:
        return False
    return True


def _spans(tokenizer: Tokenizer, shown: Guarded, text: str, escape: Escape, *, learned: bool) -> tuple[Span, ...]:
    """Where the assistant turns stand in `text`.

    With `learned`, a turn that carries weight must be found. Any other that cannot be found is no span, and so no cut
    between tokens. Which turns are found depends on the conversation alone, never on weights: a served prompt has
    none, and must be cut as the trained one was.
    """
    spans: list[Span] = []
    messages, tools = shown.messages, shown.tools
    for index, message in enumerate(messages):
        if message.role != "assistant":
            continue
        if message.tool_calls and not _shows_calls(tokenizer, messages[: index + 1], tools):
            raise TemplateError(
                f"the chat template does not show the tool calls of turn {index}: "
                "an answer without them would be learned"
            )
        must = learned and message.learned
        whole = text if learned and index + 1 == len(messages) else None
        try:
            behind = spans[-1].end if spans else 0
            start, end = _turn(tokenizer, Guarded(messages[: index + 1], tools), text, behind, whole, escape)
        except TemplateError:
            if must:
                raise
            continue
        if must and message.thinking not in text[start:end]:
            raise TemplateError(
                f"the chat template does not show the thinking of turn {index}: an answer without it would be "
                "learned; take the thinking out of the row, or use a template that keeps it"
            )
        spans.append(Span(start, end, 1.0 if message.weight is None else message.weight))
    return tuple(spans)


def _turn(
    tokenizer: Tokenizer, shown: Guarded, text: str, behind: int, whole: str | None, escape: Escape
) -> tuple[int, int]:
    """[start, end) of the last message shown in `text`, which must not begin before `behind`.

    `whole` is told of at `_closed`.
    """
    index = len(shown.messages) - 1
    if not index:
        raise TemplateError("turn 0 is an answer that no prompt stands before: give it weight 0 if it is a greeting")
    otherwise = (
        f"the chat template shows turn {index} otherwise in training than when it is served: "
        "what is learned would not be what is asked"
    )
    before = render(tokenizer, shown.messages[:-1], shown.tools, prompt=True)
    if not text.startswith(before) and before.rstrip().endswith("<think>"):
        otherwise += (
            "; the served prompt opens a thinking block and the answer does not go on inside it: give the answer its "
            "thinking or, where the template removes thinking from answers, use one that keeps it"
        )
    after = _closed(tokenizer, shown, whole, escape)
    if not (text.startswith(before) and text.startswith(after) and behind <= len(before) < len(after)):
        raise ShownOtherwiseError(otherwise)
    return len(before), len(after)


def _closed(tokenizer: Tokenizer, shown: Guarded, whole: str | None, escape: Escape) -> str:
    """The text up to the end mark of the last turn. White space behind it is the template's, not the answer's.

    `whole` is the text of just these messages, where it is at hand: rendering is what costs.
    """
    text = (render(tokenizer, shown.messages, shown.tools) if whole is None else whole).rstrip()
    turn = text.removesuffix(tokenizer.eos_token or "").rstrip()
    if turn == text or not turn.endswith(escape.tokens):
        return text
    # Two end marks in a row: Phi closes the turn by one, and by another the conversation, as long as it ends there.
    # DeepSeek closes a list of calls and then the turn; its second mark stays when the conversation goes on.
    going_on = render(tokenizer, shown.messages, shown.tools, prompt=True)
    return turn if going_on.startswith(turn) and not going_on.startswith(text) else text


def _shows_calls(tokenizer: Tokenizer, messages: Sequence[Message], tools: Any) -> bool:
    """Whether the text would be another without the tool calls of the last turn."""
    bare = messages[-1].model_copy(update={"tool_calls": None})
    try:
        shown, without = (render(tokenizer, [*messages[:-1], last], tools).rstrip() for last in (messages[-1], bare))
    except TemplateError:
        return True
    return shown != without
