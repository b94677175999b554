"""Feedback on answers, for `tunesmith data from-feedback`: a call of our own."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from ...core.messages import Message
from ...governance.keys import Identity
from ...monitor.answers import NoAnswerError, request_of
from ...monitor.feedback import NoOpinionError, Opinion, TooLargeError, TooManyOpinionsError
from ...store.database import Also
from ..access import Caller, Serving
from ..asks import message, tool_json
from ..errors import ApiError, invalid
from ..idempotency import Sealing
from ..protocol.common import After, Deleted, EndedPage, Id, ended
from ..protocol.feedback import FeedbackAsk, FeedbackReply, Rating
from ..routing import Routes
from ..services import Services

routes = Routes(prefix="/v1/tunesmith", tags=["feedback"])


@routes.post("/feedback", scope="infer", errors=(404,))
def create(asked: FeedbackAsk, who: Caller, services: Serving, seal: Sealing) -> FeedbackReply:
    """Say whether an answer was good, or how it should have been.

    Of a request whose answer was kept (`store`, or `keep: {answers: true}` in the configuration), or with the
    conversation itself.
    """
    make = _given if asked.messages is not None else _named
    try:
        return _wire(make(asked, who, services, lambda connection, made: seal(connection, _wire(made))))
    except TooManyOpinionsError as error:
        raise ApiError(409, f"{error.what}. Delete some first.", code="too_much_feedback") from error


@routes.get("/feedback", scope="read")
def list_feedback(
    who: Caller, services: Serving, limit: Annotated[int, Query(ge=1, le=1_000)] = 20, after: After = None
) -> EndedPage[FeedbackReply]:
    """The project's feedback, newest first."""
    found, more = services.feedback.page(who.project_id, after=after, limit=limit)
    return ended([_wire(one) for one in found], [one.id for one in found], more)


@routes.delete("/feedback/{feedback_id}", scope="train", errors=(404,))
def delete(feedback_id: Id, who: Caller, services: Serving) -> Deleted:
    """Take a piece of feedback back; a conversation that came with it goes too."""
    try:
        services.feedback.delete(who, feedback_id)
    except NoOpinionError as error:
        raise ApiError(404, f"No such feedback: {feedback_id}", param="feedback_id") from error
    return Deleted(id=feedback_id, object="tunesmith.feedback")


def _named(asked: FeedbackAsk, who: Identity, services: Services, also: Also[Opinion]) -> Opinion:
    request_id = request_of(asked.request_id or "", asked.index)
    try:
        return services.feedback.add(
            who, request_id or "", good=_good(asked.rating), corrected=asked.corrected, note=asked.note,
            also=also,
        )  # fmt: skip
    except NoAnswerError as error:
        raise ApiError(
            404,
            f"No answer is kept under '{asked.request_id}'. Ask with `store`, let the server keep answers "
            "(`keep: {answers: true}`), or send `messages` and `answer` with the feedback.",
            param="request_id", code="answer_not_kept",
        ) from error  # fmt: skip


def _given(asked: FeedbackAsk, who: Identity, services: Services, also: Also[Opinion]) -> Opinion:
    said = {
        "messages": [message(one).model_dump(exclude_none=True) for one in asked.messages or ()],
        "tools": [tool_json(tool) for tool in asked.tools or ()],
    }
    answered = {"message": Message(role="assistant", content=asked.answer).model_dump(exclude_none=True)}
    try:
        return services.feedback.give(
            who, model=asked.model or "", asked=said, answered=answered, good=_good(asked.rating),
            corrected=asked.corrected, note=asked.note, also=also,
        )  # fmt: skip
    except TooLargeError as error:
        raise invalid(f"{error.what}.", "messages", "string_above_max_length") from error


def _good(rating: Rating | None) -> bool | None:
    return None if rating is None else rating == "good"


def _wire(one: Opinion) -> FeedbackReply:
    rating: Rating | None = None if one.good is None else "good" if one.good else "bad"
    return FeedbackReply(
        id=one.id, created_at=int(one.created_at), request_id=one.request_id, rating=rating,
        corrected=one.corrected, note=one.note,
    )  # fmt: skip
