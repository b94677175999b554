"""Feedback on answers: a call of our own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .asking import WholeAsk
from .chat import Message, Tool
from .common import Name, Reply, Text

Rating = Literal["good", "bad"]


class FeedbackAsk(WholeAsk):
    """A word on an answer: of a request whose answer was kept, or with the conversation itself."""

    request_id: Annotated[Text, Field(max_length=80)] | None = None
    """What `x-request-id` told, or the id of the answer's own object."""
    index: Annotated[int, Field(ge=0, lt=128)] = 0
    """Which of a request's answers."""
    rating: Rating | None = None
    corrected: Annotated[Text, Field(min_length=1)] | None = None
    """How the answer should have been."""
    note: Annotated[Text, Field(max_length=10_000)] | None = None
    messages: Annotated[list[Message], Field(min_length=1)] | None = None
    """The conversation up to the answer, where that was not kept."""
    answer: Text | None = None
    """The answer, with `messages`."""
    tools: list[Tool] | None = None
    model: Name | None = None
    """Who answered, with `messages`."""

    @model_validator(mode="after")
    def _consistent(self) -> FeedbackAsk:
        if self.rating is None and self.corrected is None:
            raise ValueError("'rating' or 'corrected' must be given")
        if (self.messages is None) != (self.answer is None):
            raise ValueError("'messages' and 'answer' must be given together")
        if (self.request_id is None) == (self.messages is None):
            raise ValueError("either 'request_id' or 'messages' with 'answer' must be given")
        if self.messages is None and (self.tools is not None or self.model is not None):
            raise ValueError("'tools' and 'model' are given with 'messages' only")
        return self


class FeedbackReply(Reply):
    """What is kept of it."""

    id: str
    object: Literal["tunesmith.feedback"] = "tunesmith.feedback"
    created_at: int
    request_id: str
    """Under which the answer is kept."""
    rating: Rating | None
    corrected: str | None
    note: str | None
