"""Server-sent events: what clients of the hosted API read while an answer is written."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from typing import Any

import orjson
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from .errors import ApiError

log = logging.getLogger("tunesmith.server")

Stream = AsyncGenerator[bytes, None]
"""Events as they are sent."""
DONE = b"data: [DONE]\n\n"
STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
        "description": "The answer, or a stream of it",
    }
}
"""For a route's description."""


def event(content: BaseModel, **options: Any) -> bytes:
    """One event of a model's content."""
    return f"data: {content.model_dump_json(**options)}\n\n".encode()


def named_event(name: str, content: dict[str, Any]) -> bytes:
    """One event with its name."""
    return f"event: {name}\n".encode() + b"data: " + orjson.dumps(content) + b"\n\n"


def error_event(error: ApiError) -> bytes:
    """A failure in the middle of a stream, on which clients raise."""
    told = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return b"data: " + orjson.dumps({"error": told}) + b"\n\n"


class EventStream(StreamingResponse):
    """Events as they come. When the client leaves, the iterator is closed; a failure becomes the last event."""

    media_type = "text/event-stream"

    def __init__(self, events: Stream, **options: Any):
        super().__init__(_guarded(events), **options)


async def _guarded(events: Stream) -> Stream:
    try:
        async for one in events:
            yield one
    except Exception as error:
        yield error_event(as_told(error))
    finally:
        await events.aclose()


def as_told(error: Exception) -> ApiError:
    """What the client learns of it."""
    if isinstance(error, ApiError):
        return error
    log.error("a stream failed", exc_info=error)
    return ApiError(500, "The server had an error while processing your request.")
