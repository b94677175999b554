"""The answering service: one thread that holds the models, answers in batches and gives tokens as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future

from .ask import Ask, Choice, Limits, Load, Piece, Served, Usage


class Handle:
    """One request on its way. Iterate it once, from a thread or from an event loop."""

    usage: Usage

    def __iter__(self) -> Iterator[Piece]:
        """Pieces of all answers as they come, blocking. Raises what ended the request early; after `cancel` it just
        ends."""
        raise NotImplementedError

    def __aiter__(self) -> AsyncIterator[Piece]:
        """The same for an event loop, without a thread for each request."""
        raise NotImplementedError

    def cancel(self) -> None:
        """No more tokens; from any thread, as often as one likes. Effective within one token."""
        raise NotImplementedError

    def choices(self) -> list[Choice]:
        """Wait for all answers, in their order."""
        raise NotImplementedError

    async def achoices(self) -> list[Choice]:
        """The same for an event loop."""
        raise NotImplementedError


class Answering:
    """Answers asks about any number of models. A context manager: leaving it ends what is under way."""

    def __init__(self, limits: Limits | None = None):
        raise NotImplementedError

    def submit(self, ask: Ask) -> Handle:
        """Take a request in. Checks it and makes its prompt's tokens in the caller's thread (some milliseconds).

        AskError (with `.param`), TooLongError, BusyError, ClosedError; MissingError or ContentError where the model's
        folder is not there or not readable.
        """
        raise NotImplementedError

    def embed(self, model: Served, inputs: Sequence[str | Sequence[int]]) -> Future[tuple[list[list[float]], int]]:
        """(an embedding of length 1 for each input, tokens read)."""
        raise NotImplementedError

    def tokens(self, model: Served, text: str) -> list[int]:
        """A text as the model's tokenizer cuts it."""
        raise NotImplementedError

    def forget(self, adapter: object) -> None:
        """Drop a model's weights when nobody uses them any more, as after its deletion."""
        raise NotImplementedError

    def load(self) -> Load:
        """How things stand."""
        raise NotImplementedError

    def close(self) -> None:
        """End the thread; what is under way ends with ClosedError."""
        raise NotImplementedError
