"""How far the new model says what the old one says, row by row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import binomtest

from ...evaluation.metrics.edit_similarity import EditSimilarity
from ...evaluation.metrics.exact_match import ExactMatch
from ...evaluation.metrics.tool_calls import ToolCall, calls_in
from ...report.agreement import Job, Row, Share
from .prompts import Asked
from .recipes import Plan

_EXACT, _ALIKE, _CALLS = ExactMatch(), EditSimilarity(), ToolCall()


def agreement(
    plan: Plan, both: Sequence[tuple[Asked, Mapping[str, Any], str]], *, run: str, verdict: str, asked_from: str,
    learned_before: bool, unanswered: int,
) -> Job:  # fmt: skip
    """Of `both`: each prompt, the old model's recorded row, the new model's text. At least one."""
    rows = [_row(one, before, after) for one, before, after in both]
    judged = all(one.reference is not None for one, _, _ in both)
    old_right = [_right(one, spoken(before), bool(before.get("tool_calls"))) for one, before, _ in both]
    new_right = [_right(one, after, one.calls) for one, _, after in both]
    return Job(
        plan.id, str(plan.model), str(plan.base), run, verdict, asked_from, learned_before,
        _share([row.equal for row in rows]),
        sum(row.similarity for row in rows) / len(rows),
        _share(old_right) if judged else None,
        _share(new_right) if judged else None,
        unanswered, rows,
    )  # fmt: skip


def spoken(row: Mapping[str, Any]) -> str:
    """An old answer as text: what was said, the refusal, or the calls as JSON."""
    text = row.get("answer") or row.get("refusal") or ""
    calls = row.get("tool_calls")
    if not calls:
        return str(text)
    told = json.dumps([{"name": name, "arguments": arguments} for name, arguments in calls_in(json.dumps(calls))])
    return f"{text}\n{told}".strip()


def _row(one: Asked, before: Mapping[str, Any], after: str) -> Row:
    old = spoken(before)
    if before.get("tool_calls"):
        equal = bool(_CALLS.score(after, old))
        # How calls are marked is the model's own; what is called is compared.
        similarity = 1.0 if equal else _ALIKE.score(_named(after) or after, _named(old))
    else:
        equal, similarity = bool(_EXACT.score(after, old)), _ALIKE.score(after, old)
    return Row(one.source, _shown(one), one.reference, old, after, equal, similarity)


def _named(text: str) -> str:
    calls = calls_in(text)
    return json.dumps(calls, sort_keys=True) if calls else ""


def _right(one: Asked, text: str, calls: bool) -> bool:
    """Whether a text is the row's own answer; where that is a call, whether it calls the same."""
    wanted = str(one.reference)
    return bool(_CALLS.score(text, wanted)) if one.calls or calls else bool(_EXACT.score(text, wanted))


def _shown(one: Asked) -> str:
    """The conversation for people: one turn as it is, several with who speaks."""
    turns = [message for message in one.messages if message.role != "system"]
    if len(turns) == 1:
        return turns[0].content or ""
    return "\n".join(f"{turn.role}: {turn.content or turn.calls()}" for turn in turns)


def _share(hits: Sequence[bool]) -> Share:
    """With Wilson's interval (Wilson 1927), which is right for few rows and for shares of all or none."""
    interval = binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
    return Share(sum(hits), len(hits), float(interval.low), float(interval.high))
