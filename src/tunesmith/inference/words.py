"""What is said to a model and what it says, as text and as tokens: its tokenizer, template, stops and grammars.

No weights are needed for any of it, so a request is checked before its model is loaded.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ..core import clock
from ..core.deadline import DeadlineError, deadline
from ..core.messages import Message
from ..data.template import PLAIN_TEMPLATE, TemplateError, special_tokens
from ..data.tokenize import encode_prompt, encode_text
from ..models.tokenizer import tokenizer as load_tokenizer
from .ask import Alternative, Ask, Named, Served, TokenLogprob
from .calls import MARKS, CallReader, reader, style_of
from .choose import Told
from .constrain import Grammars, Matcher, call_grammar, constraint_grammar
from .errors import AskError
from .spell import Speller
from .stops import stop_ids_of

TEMPLATE_SECONDS = 5.0
"""A conversation may take to be shown: templates are programs that come with a base."""
_KEPT = 16
"""Tokenizers; tens of megabytes each."""
_Made = TypeVar("_Made")


class Words:
    """The language of one base. May be used from any thread: the tokenizers library takes no two callers at once."""

    def __init__(self, served: Served):
        """ContentError where the base's tokenizer or config cannot be read."""
        base = served.base
        self._tokenizer = load_tokenizer(base, PLAIN_TEMPLATE, served.date)
        self._lock = threading.RLock()
        self.pad_id = int(self._tokenizer.pad_token_id)
        with deadline(TEMPLATE_SECONDS):
            self.stop_ids = stop_ids_of(base, self._tokenizer)
            self._style = style_of(self._tokenizer)
        self.vocabulary = int(base.config().get("vocab_size") or len(self._tokenizer))
        self._special = special_tokens(self._tokenizer)
        self._marks = {token for token, text in self._special.items() if text in MARKS}
        self._grammars: Grammars | None = None

    def prompt(self, ask: Ask) -> list[int]:
        """Token ids that are to be continued; never none. AskError."""
        if ask.prompt is None:
            return self._conversation(ask.messages, ask.tools if ask.tool_choice != "none" else ())
        ids = self.tokens(ask.prompt) if isinstance(ask.prompt, str) else list(ask.prompt)
        wrong = next((i for i in ids if not 0 <= i < self.vocabulary), None)
        if wrong is not None:
            raise AskError(f"the model has no token {wrong}", param="prompt", why=f"it has {self.vocabulary}")
        first = self._tokenizer.bos_token_id
        return ids or [int(self._tokenizer.eos_token_id if first is None else first)]

    def tokens(self, text: str) -> list[int]:
        """Plain text as the tokenizer marks it."""
        with self._lock:
            ids: list[int] = encode_text(self._tokenizer, text).input_ids.tolist()
        return ids

    def text(self, ids: Sequence[int]) -> str:
        """Tokens as text, special ones included."""
        with self._lock:
            return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def constraint(self, ask: Ask) -> Callable[[], Matcher] | None:
        """What makes a matcher for each of the answers; None where they are free. AskError."""
        param = "constraint"
        if ask.tools and ask.tool_choice not in ("none", "auto"):
            param = "tools"
            grammar = call_grammar(
                self.grammars(), self._style, ask.tools, ask.tool_choice, parallel=ask.parallel_tool_calls
            )
        else:
            grammar = constraint_grammar(ask.constraint) if ask.constraint else None
        if grammar is None:
            return None
        grammars, text = self.grammars(), grammar
        grammars.matcher(text, param)
        return lambda: grammars.matcher(text, param)

    def calls(self, ask: Ask) -> CallReader | None:
        """What finds the tool calls of one answer; None where none can be."""
        if not ask.tools or ask.tool_choice == "none":
            return None
        names = {str(tool["function"]["name"]) for tool in ask.tools}
        return reader(self._style, {ask.tool_choice.name} if isinstance(ask.tool_choice, Named) else names)

    def speller(self, *, marks: bool) -> Speller:
        """Of one answer's tokens; with `marks`, those that tell tool calls are shown."""
        return Speller(self._tokenizer, self._marks if marks else ())

    def told(self, token: int, told: Told) -> TokenLogprob:
        """A token of an answer with what the model said of it."""
        others = zip(told.top_ids, told.top_logprobs, strict=True)
        top = tuple(Alternative(i, *self._shown(i), logprob) for i, logprob in others)
        return TokenLogprob(token, *self._shown(token), told.logprob, top)

    def first(self, token: int) -> TokenLogprob:
        """A prompt's first token, which nothing predicts."""
        return TokenLogprob(token, *self._shown(token), None)

    def grammars(self) -> Grammars:
        """Built when they are first asked for."""
        with self._lock:
            if self._grammars is None:
                self._grammars = Grammars(self._tokenizer, self.stop_ids)
            return self._grammars

    def _shown(self, token: int) -> tuple[str, bytes]:
        """(text, bytes) of a token by itself."""
        special = self._special.get(token)
        raw = special.encode() if special is not None else self.grammars().bytes_of(token)
        return raw.decode("utf-8", "replace"), raw

    def _conversation(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[int]:
        if not messages:
            raise AskError("there is no message to answer", param="messages", mend="give at least one")
        try:
            with self._lock, deadline(TEMPLATE_SECONDS):
                return encode_prompt(self._tokenizer, messages, [dict(tool) for tool in tools] or None)
        except (TemplateError, DeadlineError) as error:
            raise AskError("the model cannot read this conversation", param="messages", why=str(error)) from error


class Library:
    """The words of bases that were asked lately. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Any, Words] = OrderedDict()

    def of(self, served: Served) -> Words:
        """Those of a model; read where they are not at hand."""
        key = (served.base.folder, served.date or clock.today())
        with self._lock:
            words = self._kept.get(key) or Words(served)
            self._kept[key] = words
            self._kept.move_to_end(key)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return words
