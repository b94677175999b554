"""What the old tuned models say, recorded while they can still be asked: one line of `answers.jsonl` for each answer,
on the disk before the next is asked for. What was answered is not asked again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...core import clock
from ...core.errors import MissingError
from .folder import Folder, Line
from .prompts import Asked
from .recipes import Plan
from .service import AGAIN, RefusedError, Service

FILE = "answers.jsonl"
_GONE = (401, 403, 404)
"""Refusals of a model, not of one question."""


def recorded(folder: Folder) -> dict[str, dict[str, Any]]:
    """The answers that are there, by their keys."""
    return {row["key"]: row for row in folder.lines(FILE)}


def left(plans: Sequence[Plan], prompts: Mapping[str, Sequence[Asked]], folder: Folder, max_tokens: int) -> int:
    """How many questions are still to be asked."""
    known = recorded(folder)
    return sum(one.key(plan.model, max_tokens) not in known for plan in plans if plan.model for one in prompts[plan.id])


def record(
    service: Service, folder: Folder, plans: Sequence[Plan], prompts: Mapping[str, Sequence[Asked]], *,
    max_tokens: int, say: Callable[[str], None],
) -> None:  # fmt: skip
    """Ask each old tuned model its job's prompts, greedily. A model that is gone becomes a note on its job."""
    known = recorded(folder)
    with folder.appending(FILE) as file:
        for plan in plans:
            waiting = [one for one in prompts[plan.id] if plan.model and one.key(plan.model, max_tokens) not in known]
            if waiting:
                say(f"asking {plan.model}: {len(waiting)} questions")
                _ask(service, file, plan, waiting, max_tokens)


def _ask(service: Service, file: Line, plan: Plan, waiting: Sequence[Asked], max_tokens: int) -> None:
    greedy: dict[str, Any] = {"temperature": 0}
    for one in waiting:
        asked = {"model": plan.model, "max_completion_tokens": max_tokens} | one.wire()
        try:
            try:
                said = service.answer(asked | greedy)
            except RefusedError as error:
                if error.param != "temperature" or not greedy:
                    raise
                greedy = {}  # models that think take none
                said = service.answer(asked)
            told = _told(said)
        except RefusedError as error:
            if error.status in _GONE:
                plan.notes.append(f"{plan.model} was not asked: {error.why} ({error.status})")
                return
            told = {"error": f"{error.why} ({error.status})"}
        file.add(
            {"key": one.key(str(plan.model), max_tokens), "job": plan.id, "model": plan.model, "source": one.source}
            | {"prompt": one.wire()["messages"], "tools": one.tools, "reference": one.reference}
            | told | {"max_tokens": max_tokens, "at": clock.now()}
        )  # fmt: skip


def _told(said: Mapping[str, Any]) -> dict[str, Any]:
    try:
        choice = said["choices"][0]
        message = choice["message"]
        answer, calls = message.get("content"), message.get("tool_calls")
    except (LookupError, TypeError, AttributeError) as error:
        told = json.dumps(said, ensure_ascii=False)
        raise MissingError(
            "the old service does not answer as OpenAI's does", why=f"{told:.200}", mend=AGAIN
        ) from error
    return {
        "answer": answer, "tool_calls": calls or None, "refusal": message.get("refusal"),
        "finish_reason": choice.get("finish_reason"), "usage": said.get("usage"),
    }  # fmt: skip
