"""`{"transcript": "Customer: ...\\nAgent: ..."}`, or a text file of such lines: speaker-labelled conversations."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ...core.messages import Example, Kind, Message, Role, Row
from .base import RowError, extras, plain_turns, rest, text_field
from .conversation import filled, trainable

ASSISTANTS = ("assistant", "agent", "advisor", "ai", "bot", "chatbot", "model", "operator", "representative", "support")
SYSTEM = "system"
LABEL = re.compile(
    r"^\s*(?:[\[(]?\d{1,2}:\d{2}(?::\d{2})?(?:[.,]\d+)?[\])]?\s+)?"  # a time, which is dropped
    r"(?P<speaker>[^\W\d_][\w.'-]*(?: [\w.'-]+){0,3}) ?:(?:\s+(?P<text>.*))?$"
)
_WRITTEN: dict[str, str] = {"system": "System", "user": "User", "assistant": "Assistant"}


@dataclass(frozen=True)
class Transcript:
    """Two speakers line by line; one of them is the assistant, the other the user."""

    assistant: str | None = None
    """Who the assistant is; None takes the one speaker with a name from `ASSISTANTS`."""
    name = "transcript"
    kind: Kind = "supervised"

    def matches(self, row: dict[str, Any]) -> bool:
        """A `transcript` key decides."""
        return "transcript" in row

    def parse(self, row: dict[str, Any]) -> Example:
        """A line without a label goes on with the turn before. An assistant's greeting is shown and not learned."""
        turns = _turns(text_field(row, "transcript"))
        roles = self._roles([speaker for speaker, _ in turns])
        messages: list[Message] = []
        for index, (speaker, text) in enumerate(turns):
            role = roles[speaker.casefold()]
            greets = role == "assistant" and all(m.role in ("system", "assistant") for m in messages)
            message = Message(role=role, content=text, weight=0.0 if greets else None)
            messages.append(filled(message, f"turn {index + 1} ({speaker})"))
        return Example(messages=trainable(tuple(messages)), metadata=rest(row, {"transcript"}))

    def export(self, row: Row) -> dict[str, Any]:
        """Texts of system, user and assistant fit, when no line of theirs looks like a speaker's."""
        if isinstance(row, Example):  # the greeting's weight comes back with the reading
            unweighted = tuple(m.model_copy(update={"weight": None}) if m.weight == 0 else m for m in row.messages)
            row = row.model_copy(update={"messages": unweighted})
        turns = plain_turns(row, self.name)
        odd = [role for role, _ in turns if role not in _WRITTEN]
        if odd:
            raise RowError(f"'{self.name}' has no role '{odd[0]}'")
        names = _WRITTEN | ({"assistant": self.assistant} if self.assistant else {})
        text = "\n".join(f"{names[role]}: {content}" for role, content in turns)
        return {"transcript": text} | extras(row.metadata if isinstance(row, Example) else {})

    def _roles(self, speakers: list[str]) -> dict[str, Role]:
        """Each speaker's role, by the name in small letters."""
        names = list(dict.fromkeys(s.casefold() for s in speakers))
        people = [n for n in names if n != SYSTEM]
        listed = ", ".join(dict.fromkeys(speakers))
        if len(people) > 2:
            raise RowError(f"a transcript has two speakers; these lines have {len(people)}: {listed}")
        if self.assistant is None:
            known = [n for n in people if n in ASSISTANTS]
            if len(known) != 1:
                raise RowError(f"who is the assistant? The speakers are {listed}; set the source's 'assistant'")
            assistant = known[0]
        else:
            assistant = self.assistant.casefold()
            if assistant not in people:
                raise RowError(f"'{self.assistant}' says nothing here; the speakers are {listed}")
        roles: dict[str, Role] = {n: "assistant" if n == assistant else "user" for n in people}
        return roles | {SYSTEM: "system"}


def _turns(text: str) -> list[tuple[str, str]]:
    """(speaker, text) in order; lines of the same speaker in a row are one turn."""
    turns: list[tuple[str, list[str]]] = []
    for line in text.strip("\n").split("\n"):
        label = LABEL.match(line)
        if not label:
            if not turns:
                raise RowError(f"the first line has no speaker: {line[:40]!r}")
            turns[-1][1].append(line)
        elif turns and turns[-1][0].casefold() == label["speaker"].casefold():
            turns[-1][1].append(label["text"] or "")
        else:
            turns.append((label["speaker"], [label["text"] or ""]))
    return [(speaker, "\n".join(lines).strip()) for speaker, lines in turns]
