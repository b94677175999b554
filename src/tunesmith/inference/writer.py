"""One answer between its tokens and its pieces: text, stop texts, tool calls, log-probabilities, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from .ask import Ask, Finish, Piece, TokenLogprob, ToolCall
from .batch import Line
from .constrain import Matcher
from .errors import AskError
from .handle import Handle
from .spell import StopText
from .words import Words


@dataclass(eq=False)
class Writer:
    """Gives the handle what the line gets."""

    ask: Ask
    index: int
    """Which of the answers."""
    handle: Handle
    line: Line
    words: Words
    over: bool = field(default=False, init=False)
    """Whether the last piece was given, or nobody waits."""

    def __post_init__(self) -> None:
        self._calls = self.words.calls(self.ask)
        self._speller = self.words.speller(marks=self._calls is not None)
        self._stops = StopText(self.ask.stop)
        self._called = False

    def check(self) -> None:
        """Before a step: end a line that nobody waits for."""
        if not self.handle.open:
            self.line.end()
            self.over = True

    def prompt(self, told: tuple[TokenLogprob, ...]) -> None:
        """What the model said of the prompt."""
        self.handle.put(Piece(self.index, prompt=told), 0)

    def took(self, token: int | None) -> None:
        """After a step: what came of it. None where the line got no token."""
        if self.over:
            return
        text = "" if token is None else self._stops.add(self._speller.add(token))
        if self._stops.found:
            self.line.end()
        ended = self.line.finish is not None
        if ended:
            text += self._stops.add(self._speller.rest()) + self._stops.rest()
        calls: list[ToolCall] = []
        if self._calls:
            text, calls = self._calls.add(text)
            if ended:
                rest, more = self._calls.rest()
                text, calls = text + rest, calls + more
            self._called = self._called or bool(calls)
        if ended and isinstance(self.line.constraint, Matcher) and self.line.constraint.error:
            self._fail(self.line.constraint.error)
            return
        ids = () if token is None else (token,)
        logprobs = (self.words.told(token, self.line.told[-1]),) if token is not None and self.line.told else ()
        finish = self._finish() if ended else None
        self.over = ended
        self.handle.put(Piece(self.index, text, ids, logprobs, tuple(calls), finish), len(ids))

    def _finish(self) -> Finish:
        if self._called and self.line.finish == "stop":
            return "tool_calls"
        return "stop" if self._stops.found else self.line.finish or "stop"

    def _fail(self, why: str) -> None:
        self.over = True
        self.handle.fail(AskError("the constraint could not be followed to its end", param="constraint", why=why))
