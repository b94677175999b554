"""Feedback to rows: what is learned from which word, what is left out, and files that other commands read."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

import tiny
from tunesmith.core.errors import ConflictError, ContentError, UsageError
from tunesmith.data.load import load
from tunesmith.governance.keys import Identity, Keys
from tunesmith.monitor.answers import Answers
from tunesmith.monitor.feedback import Feedback
from tunesmith.pipelines.feedback import Found, from_feedback
from tunesmith.store.database import Store
from tunesmith.store.tables import audit, feedback

HI = {"role": "user", "content": "Hi"}
PROJECT = "proj_default"


@cache
def _template() -> tuple[Path, str]:
    """A home with a key, made once: the schema takes a second."""
    home = Path(tempfile.mkdtemp(prefix="tunesmith-test-home-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    store = Store.open(None, home)
    key = Keys(store).first()
    store.close()
    assert key is not None
    return home, key


class Desk:
    """A store, and who speaks of its answers."""

    def __init__(self, folder: Path):
        self.folder = folder
        home, key = _template()
        shutil.copytree(home, folder / "home")
        self.store = Store.open(None, folder / "home")
        self.who: Identity = Keys(self.store).authenticate(key)
        self.answers = Answers(self.store)
        self.feedback = Feedback(self.store, self.answers)
        self.count = 0

    def chat(self, said: str, *before: dict[str, Any], **more: Any) -> str:
        """A kept answer."""
        self.count += 1
        id = f"req_{self.count:032x}"
        asked = {"messages": [*(before or (HI,))], "tools": more.pop("tools", [])}
        self.answers.keep(
            self.who, id, kind="chat", model="m", asked=asked,
            answered={"message": {"role": "assistant", "content": said}},
        )  # fmt: skip
        return id

    def say(self, id: str, good: bool | None = None, corrected: str | None = None) -> None:
        """A word on it."""
        self.feedback.add(self.who, id, good=good, corrected=corrected, note=None)

    def rows(self, **options: Any) -> tuple[Found, list[Any], list[Any]]:
        """What comes of it: the counts, the rows, the pairs."""
        out, pairs = self.folder / "out" / "rows.jsonl", self.folder / "out" / "pairs.jsonl"
        for file in (out, pairs):
            file.unlink(missing_ok=True)
        found = from_feedback(
            self.store, out, preferences=pairs, project=options.pop("project", PROJECT), actor="local:test", **options
        )
        return found, *([json.loads(line) for line in file.read_text().splitlines()] for file in (out, pairs))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """An empty store."""
    return Desk(tmp_path)


def _last(row: Any) -> str:
    return str(row["messages"][-1]["content"])


def test_good_and_corrected_answers_are_learned(desk: Desk) -> None:
    desk.say(desk.chat("Hello"), good=True)
    desk.say(desk.chat("Ho", {"role": "user", "content": "Well?"}), corrected="Well.")
    found, rows, pairs = desk.rows()
    assert [_last(row) for row in rows] == ["Hello", "Well."]
    assert rows[0]["messages"][0] == HI
    assert [(pair["preferred_output"][0]["content"], pair["non_preferred_output"][0]["content"]) for pair in pairs] == [
        ("Well.", "Ho")
    ]
    assert (found.feedback, found.answers, found.training, found.preferences, found.unused) == (2, 2, 2, 1, 0)


def test_a_bad_answer_is_held_against_a_good_one_to_the_same_prompt_alone(desk: Desk) -> None:
    desk.say(desk.chat("Bad"), good=False)
    desk.say(desk.chat("Worse", {"role": "user", "content": "Else?"}), good=False)
    desk.say(desk.chat("Good"), good=True)
    found, rows, pairs = desk.rows()
    assert [_last(row) for row in rows] == ["Good"]
    assert [pair["input"]["messages"] for pair in pairs] == [[HI]]
    assert found.unused == 1


def test_tools_tell_prompts_apart(desk: Desk) -> None:
    tool = {"type": "function", "function": {"name": "look", "description": "x", "parameters": {"type": "object"}}}
    desk.say(desk.chat("Good", tools=[tool]), good=True)
    desk.say(desk.chat("Bad"), good=False)
    found, rows, pairs = desk.rows()
    assert rows[0]["tools"] == [tool]
    assert (pairs, found.unused) == ([], 1)


@pytest.mark.parametrize(
    ("said", "learned", "pairs"),
    [
        ([(True, None), (False, None)], [], 0),
        ([(False, None), (True, None)], ["A"], 0),
        ([(None, "B"), (False, None)], ["B"], 1),
        ([(False, None), (None, "B")], ["B"], 1),
        ([(None, "B"), (None, "C")], ["C"], 1),
        ([(None, "B"), (True, None)], ["A"], 0),
        ([(True, None), (True, None)], ["A"], 0),
    ],
)
def test_a_later_word_holds(desk: Desk, said: list[tuple[Any, Any]], learned: list[str], pairs: int) -> None:
    id = desk.chat("A")
    desk.say(desk.chat("Z", {"role": "user", "content": "Another"}), good=True)
    for good, corrected in said:
        desk.say(id, good, corrected)
    found, rows, both = desk.rows()
    assert [_last(row) for row in rows if _last(row) != "Z"] == learned
    assert (len(both), found.answers) == (pairs, 2)


def test_equal_rows_are_written_once(desk: Desk) -> None:
    for _ in range(3):
        desk.say(desk.chat("Hello"), good=True)
    found, rows, _ = desk.rows()
    assert (len(rows), found.answers) == (1, 3)


def test_of_a_conversation_only_the_last_turn_is_learned(desk: Desk) -> None:
    before = [HI, {"role": "assistant", "content": "Ho"}, {"role": "user", "content": "And?"}]
    desk.say(desk.chat("Fine", *before), good=True)
    _, rows, _ = desk.rows()
    assert [turn.get("weight") for turn in rows[0]["messages"]] == [None, 0, None, None]
    example = load(desk.folder / "out" / "rows.jsonl").records[0]
    assert [message.learned for message in example.messages] == [False, False, False, True]  # type: ignore[union-attr]


def test_a_response_has_those_it_stands_on_before_it(desk: Desk) -> None:
    def respond(said: str, asked: str, previous: str | None, instructions: str | None) -> str:
        desk.count += 1
        id = f"req_{desk.count:032x}"
        desk.answers.keep(
            desk.who, id, kind="response", model="m", previous=previous,
            asked={"messages": [{"role": "user", "content": asked}], "instructions": instructions, "tools": []},
            answered={"message": {"role": "assistant", "content": said}},
        )  # fmt: skip
        return id

    first = respond("One.", "1?", None, "Not any more.")
    second = respond("Two.", "2?", first, "Be brief.")
    desk.say(second, good=True)
    _, rows, _ = desk.rows()
    assert [turn["content"] for turn in rows[0]["messages"]] == ["Be brief.", "1?", "One.", "2?", "Two."]
    assert rows[0]["messages"][0]["role"] == "system"
    desk.answers.delete(desk.who, first, kind="response")
    desk.say(desk.chat("x"), good=True)
    found, rows, _ = desk.rows()
    assert (found.lost, len(rows)) == (1, 1)


def test_plain_completions_are_told_and_left_out(desk: Desk) -> None:
    desk.answers.keep(
        desk.who, "req_" + "a" * 32, kind="completion", model="m", asked={"prompt": "x"}, answered={"text": "y"}
    )
    desk.say("req_" + "a" * 32, good=True)
    desk.say(desk.chat("Hello"), good=True)
    found, rows, _ = desk.rows()
    assert (found.plain, len(rows)) == (1, 1)


def test_the_files_are_what_training_reads(desk: Desk) -> None:
    desk.say(desk.chat("Ho"), corrected="Hello")
    desk.rows()
    assert load(desk.folder / "out" / "rows.jsonl").format == "chat"
    assert load(desk.folder / "out" / "pairs.jsonl").format == "openai_preference"


def test_projects_and_days_bound_what_is_read(desk: Desk) -> None:
    desk.say(desk.chat("Old"), good=True)
    with desk.store.writing() as connection:
        connection.execute(update(feedback).values(created_at=time.time() - 10 * 86_400))
    desk.say(desk.chat("New"), good=True)
    _, rows, _ = desk.rows(since=time.time() - 86_400)
    assert [_last(row) for row in rows] == ["New"]
    with pytest.raises(ContentError, match="no feedback"):
        desk.rows(project="proj_other")


def test_reading_is_in_the_audit_log(desk: Desk) -> None:
    desk.say(desk.chat("Hello"), good=True)
    desk.rows()
    with desk.store.reading() as connection:
        last = connection.execute(select(audit).order_by(audit.c.number.desc())).first()
    assert last is not None
    assert (last.action, last.actor, last.project_id) == ("feedback.read", "local:test", PROJECT)


def test_nothing_is_written_over_or_without_rows(desk: Desk) -> None:
    out = desk.folder / "rows.jsonl"
    with pytest.raises(ContentError, match="no feedback"):
        from_feedback(desk.store, out, preferences=None, project=PROJECT, actor="x")
    assert not out.exists()
    with pytest.raises(UsageError):
        from_feedback(desk.store, desk.folder / "rows.csv", preferences=None, project=PROJECT, actor="x")
    out.write_text("mine")
    with pytest.raises(ConflictError):
        from_feedback(desk.store, out, preferences=None, project=PROJECT, actor="x")


@pytest.mark.slow
def test_the_command(desk: Desk) -> None:
    desk.say(desk.chat("Ho"), corrected="Hello")
    desk.say(desk.chat("Bad", {"role": "user", "content": "Else?"}), good=False)
    out, pairs = desk.folder / "rows.jsonl", desk.folder / "pairs.jsonl.gz"
    done = tiny.tunesmith(
        "data",
        "from-feedback",
        "--out",
        out,
        "--preferences",
        pairs,
        "--json",
        TUNESMITH_HOME=str(desk.folder / "home"),
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["training"], told["preferences"], told["unused"]) == (1, 1, 1)
    assert out.is_file()
    assert load(pairs).rows == 1
    again = tiny.tunesmith("data", "from-feedback", "--out", out, TUNESMITH_HOME=str(desk.folder / "home"))
    assert again.returncode == 6
