"""What people said of answers, as rows to train on: good answers, corrected ones, and pairs of a better and a worse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core import files
from ..core.errors import ContentError
from ..core.messages import Example, Message, Preference, Row, prompt_key
from ..data.formats import RowError, named, table
from ..monitor.answers import Answers, Kept, NoAnswerError
from ..monitor.conversations import answer_of, prompt_of
from ..monitor.feedback import Feedback, Opinion
from ..store.database import Store
from .convert import as_json, packed, require_new


@dataclass(frozen=True)
class Judged:
    """One answer in its conversation, and all that was said of it taken together."""

    prompt: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] | None
    answer: Message
    good: bool | None
    corrected: str | None

    @property
    def better(self) -> Message | None:
        """What should be answered; None where nobody knows."""
        if self.corrected is not None:
            return Message(role="assistant", content=self.corrected)
        return self.answer if self.good else None

    @property
    def worse(self) -> Message | None:
        """What should not be answered."""
        return self.answer if self.corrected is not None or self.good is False else None

    def key(self) -> str:
        """Equal for equal prompts."""
        return f"{prompt_key(self.prompt)}\x1d{self.tools}"


@dataclass
class Found:
    """What was read and written."""

    feedback: int = 0
    answers: int = 0
    """That somebody said something of."""
    training: int = 0
    preferences: int = 0
    unused: int = 0
    """Bad answers that nobody corrected, to prompts without a good one."""
    plain: int = 0
    """Answers of plain completions, which are no conversations."""
    lost: int = 0
    """Answers that stood on responses which are not kept any more."""
    refused: list[str] = field(default_factory=list)
    """Why rows could not be written."""


def from_feedback(
    store: Store, out: Path, *, preferences: Path | None, project: str, actor: str, since: float | None = None
) -> Found:
    """Write training rows (`chat`), and pairs (`openai_preference`) where a file for them is named.

    ContentError where no feedback gives a row. UsageError, ConflictError for the files.
    """
    for file in filter(None, (out, preferences)):
        require_new(file)
    found = Found()
    judged = _judged(store, project, actor, since, found)
    pairs = _pairs(judged)
    found.unused = sum(one.better is None and one.key() not in pairs for one in judged)
    training = _written(_examples(judged), "chat", found)
    both = _written([pair for made in pairs.values() for pair in made], "openai_preference", found)
    if not training and not (preferences and both):
        raise ContentError(
            "no feedback gives a row", why=f"{found.feedback} pieces of feedback on {found.answers} answers were read",
            mend="say of some answers that they are good, or how they should have been",
        )  # fmt: skip
    found.training = _write(out, training)
    if preferences is not None:
        found.preferences = _write(preferences, both)
    return found


def _judged(store: Store, project: str, actor: str, since: float | None, found: Found) -> list[Judged]:
    """Every answer with what was said of it, in the order in which it was first said."""
    answers = Answers(store)
    said: dict[str, tuple[Kept, bool | None, str | None]] = {}
    for opinion, kept in Feedback(store, answers).told(project, since=since, actor=actor):
        found.feedback += 1
        _, good, corrected = said.get(kept.request_id, (kept, None, None))
        said[kept.request_id] = (kept, *_together(good, corrected, opinion))
    found.answers = len(said)
    judged = []
    for kept, good, corrected in said.values():
        if kept.kind == "completion":
            found.plain += 1
            continue
        try:
            chain = answers.chain(project, kept.request_id) if kept.kind == "response" else [kept]
        except NoAnswerError:
            found.lost += 1
            continue
        tools = tuple(kept.asked.get("tools") or ()) or None
        answer = Message.model_validate(answer_of(kept))
        judged.append(Judged(tuple(prompt_of(chain)), tools, answer, good, corrected))
    return judged


def _together(good: bool | None, corrected: str | None, later: Opinion) -> tuple[bool | None, str | None]:
    """A later word holds; a correction stands until the answer is called good after it."""
    if later.corrected is not None:
        return later.good, later.corrected
    return (good, corrected) if later.good is None else (later.good, None if later.good else corrected)


def _examples(judged: Iterable[Judged]) -> list[Row]:
    """The better answers; of a conversation's turns only the last is learned, for of it alone somebody spoke."""
    rows: dict[str, Row] = {}
    for one in judged:
        if one.better is not None:
            before = [_unlearned(turn) for turn in one.prompt]
            example = Example(messages=(*before, one.better), tools=one.tools)
            rows.setdefault(example.model_dump_json(), example)
    return list(rows.values())


def _unlearned(turn: Message) -> Message:
    return turn.model_copy(update={"weight": 0.0}) if turn.role == "assistant" else turn


def _pairs(judged: Iterable[Judged]) -> Mapping[str, list[Row]]:
    """By prompt: each worse answer with its own correction, or with the first better answer to the same prompt."""
    alike: dict[str, list[Judged]] = {}
    for one in judged:
        alike.setdefault(one.key(), []).append(one)
    made: dict[str, list[Row]] = {}
    for key, group in alike.items():
        first = next((one.better for one in group if one.better is not None), None)
        rows: dict[str, Row] = {}
        for one in group:
            better = one.better or first
            if one.worse is not None and better is not None and better != one.worse:
                pair = Preference(prompt=one.prompt, chosen=(better,), rejected=(one.worse,), tools=one.tools)
                rows.setdefault(pair.model_dump_json(), pair)
        if rows:
            made[key] = list(rows.values())
    return made


def _written(rows: Iterable[Row], format: str, found: Found) -> list[bytes]:
    """Rows as JSON texts; those that the format cannot hold are told."""
    target, texts = named(format, table(None)), []
    for row in rows:
        try:
            texts.append(as_json(target, row))
        except RowError as error:
            found.refused.append(str(error))
    return texts


def _write(file: Path, rows: list[bytes]) -> int:
    files.make_folder(file.parent)
    files.write_pieces(file, packed(rows, file.name))
    return len(rows)
