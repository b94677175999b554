"""Each finding about rows shows one of them: masked, short, harmless to a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import tiny
from tunesmith.cli import show
from tunesmith.core.messages import Example, Message, Preference, Text
from tunesmith.data.audit import Finding
from tunesmith.data.excerpt import LONGEST, READ, excerpt
from tunesmith.data.illustrate import Shelf, illustrated, of_row
from tunesmith.pipelines.check import Request, check_files


def row(question: str, answer: str = "fine", line: int = 1) -> Example:
    turns = Message(role="user", content=question), Message(role="assistant", content=answer)
    return Example(messages=turns, origin=f"f.jsonl:{line}")


def test_an_excerpt_is_one_short_line_that_hides_what_is_private_and_spells_out_what_is_unseen() -> None:
    assert excerpt("write to\n anna.berg@example.org\tnow") == "write to [EMAIL_1] now"
    assert excerpt("a\x1b[31mb\u200bc") == "a\\x1b[31mb\\u200bc"
    assert len(excerpt("word " * 99)) == LONGEST
    key = "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQ12" * 400 + "\n-----END PRIVATE KEY-----"
    assert excerpt(f"{key} anna.berg@example.org") == "[PRIVATE_KEY_1] [EMAIL_1]"
    assert excerpt("x" * (READ + 5))[:9] == "x" * 9


def test_a_row_is_found_by_its_place_among_lines_that_are_missing() -> None:
    shelf = Shelf()
    shelf.add([row(f"question {line}", line=line) for line in (2, 3, 5, 8, 13)])
    shelf.add([row("of a file of the same name", line=4)])
    assert [found.messages[0].content if (found := shelf.at(f"f.jsonl:{n}")) else None for n in (2, 13, 4, 6)] == [
        "question 2", "question 13", "of a file of the same name", None,
    ]  # fmt: skip
    assert shelf.at("g.jsonl:2") is None


def test_findings_without_an_example_get_that_of_their_first_row() -> None:
    shelf = Shelf()
    shelf.add([row("call +49 30 1234567 or not", "I will", line) for line in (1, 2)])
    found = [
        Finding("refusal", "warn", "m", "d", ("f.jsonl:2", "f.jsonl:1")), Finding("few_rows", "warn", "m", "d"),
        Finding("overlap", "block", "m", "d", ("f.jsonl:1 = t.jsonl:9",)),
        Finding("secrets", "warn", "m", "d", ("f.jsonl:1",), "mine"),
    ]  # fmt: skip
    shown = "call [PHONE_1] or not → I will"
    assert [f.example for f in illustrated(found, shelf)] == [shown, "", shown, "mine"]


def test_rows_of_each_kind_show_what_they_hold() -> None:
    call = {"id": "1", "function": {"name": "weather", "arguments": '{"town": "Oslo"}'}}
    calls = Example(messages=(Message(role="user", content="rain?"), Message(role="assistant", tool_calls=(call,))))
    assert of_row(calls).startswith("rain? → [{")
    assert "Oslo" in of_row(calls)
    said = Message(role="assistant", content="yes"), Message(role="assistant", content="no")
    assert (
        of_row(Preference(prompt=(Message(role="user", content="q"),), chosen=said[:1], rejected=said[1:])) == "q → yes"
    )
    assert of_row(Text(text="once upon a time")) == "once upon a time"


def test_every_finding_about_rows_shows_one_in_json_and_on_the_terminal(tmp_path: Path, capsys: object) -> None:
    rows = [*tiny.rows(0, 30), {"messages": [{"role": "bot", "content": "mail otto@example.org"}]}]
    rows += [
        tiny.rows(3, 1)[0],
        {
            "messages": [
                *tiny.rows(50, 1)[0]["messages"][:1],
                {"role": "assistant", "content": "As an AI language model, I cannot"},
            ]
        },
    ]
    pairs = [
        {"prompt": f"Who lives in house {i}?", "chosen": f"family {i}", "rejected": f"family {i}"} for i in range(12)
    ]
    for name, content in (("rows.jsonl", rows), ("pairs.jsonl", pairs)):
        audit = check_files(Request([tiny.write_rows(tmp_path / name, content)])).audit
        found = json.loads(json.dumps(audit.as_json()))["findings"]
        assert {f["code"] for f in found} & {"bad_row", "duplicate_rows", "refusal", "same_answers"}
        assert all(f["example"] for f in found if f["rows"]), found
        show.audit(audit.as_json())
        text = " ".join(capsys.readouterr().out.split())  # type: ignore[attr-defined]
        assert all(" ".join(f["example"].split()) in text for f in found)
        assert "otto@" not in text
