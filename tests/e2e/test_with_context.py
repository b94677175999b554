"""`data with-context` as a user meets it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from tunesmith.data.load import load

Cli = Callable[..., tiny.Result]
ANIMALS = ("cat", "dog", "owl", "pig", "cow", "hen", "fox", "bee")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Eight rows whose answers stand in the documents, one whose answer does not, one that is broken."""
    made: list[Any] = [{"question": f"Where does the {a} live?", "answer": f"in the {a}house"} for a in ANIMALS]
    made.append({"question": "Who wrote Faust in Weimar?", "answer": "Goethe"})
    text = "".join(json.dumps(row) + "\n" for row in made) + "{broken\n"
    (tmp_path / "qa.jsonl").write_text(text, "utf-8")
    return tmp_path / "qa.jsonl"


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """A folder of documents, one below another folder."""
    folder = tmp_path / "docs"
    (folder / "farm").mkdir(parents=True)
    for number, animal in enumerate(ANIMALS):
        place = folder / ("farm" if number % 2 else ".") / f"{animal}.{'md' if number % 3 else 'txt'}"
        place.write_text(
            f"# The {animal}\n\nThe {animal} lives in the {animal}house.\n\nIt eats {number} times a day.\n"
        )
    (folder / "picture.png").write_bytes(b"\x89PNG")
    return folder


def test_rows_with_context(tmp_path: Path, cli: Cli, rows: Path, documents: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = cli("data", "with-context", rows, documents, "--out", out, "--unanswerable", 0.25, "--seed", 3, "--json",
               "--words", 10, "--passages", 3)  # fmt: skip
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["rows"], told["unanswerable"], told["found"]) == (8, 2, {"answer": 8})
    assert (told["documents"], told["passages"]) == (8, 16)
    assert [left["place"] for left in told["left_out"]] == ["qa.jsonl:10", "qa.jsonl:9"]
    made = load(out)
    assert (made.format, made.rows, made.problems) == ("chat", 8, [])
    for animal, row in zip(ANIMALS, made.examples, strict=True):
        prompt = str(row.prompt()[0].content)
        assert prompt.count("\n[") == len(row.metadata["context_passages"]) == 3
        assert prompt.endswith(f"Question: Where does the {animal} live?")
        able = row.metadata["context_answerable"]
        assert prompt.count(f"lives in the {animal}house") == able
        assert row.answer() == (f"in the {animal}house" if able else "The context does not say.")
        right = row.metadata["context_right"]
        assert Path(right.rpartition(":")[0]).stem == animal
        assert (right in row.metadata["context_passages"]) == able
    again = tmp_path / "again.jsonl.gz"
    same = ("--unanswerable", 0.25, "--seed", 3, "--words", 10, "--passages", 3)
    assert cli("data", "with-context", rows, documents, "--out", again, *same).code == 0
    assert [r.messages for r in load(again).examples] == [r.messages for r in made.examples]
    assert cli("data", "diff", out, again, "--exit-code").code == 0


def test_the_words_for_people_and_the_answer_that_one_chooses(
    tmp_path: Path, cli: Cli, rows: Path, documents: Path
) -> None:
    done = cli("data", "with-context", rows, *sorted(documents.rglob("*.[mt]*")), "--out", tmp_path / "o.json",
               "--unanswerable", 1, "--unanswerable-answer", "Das steht hier nicht.")  # fmt: skip
    assert done.code == 0, done.err
    assert "8 rows written" in done.out
    assert "8 of them without the answer" in " ".join(done.out.split())
    assert "left out: qa.jsonl:9: no passage holds the answer" in done.out
    assert {row.answer() for row in load(tmp_path / "o.json").examples} == {"Das steht hier nicht."}
    assert "answer: Das steht hier nicht." in str(load(tmp_path / "o.json").examples[0].messages[0].content)


def test_a_row_may_name_its_passage(tmp_path: Path, cli: Cli) -> None:
    texts = [{"text": f"The {a} has {n} legs.", "id": n} for n, a in enumerate(ANIMALS)]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(t) + "\n" for t in texts), "utf-8")
    asked: list[Any] = [{"question": "How many?", "answer": "a few", "source": n} for n in (5, 2, 99)]
    asked[1]["source"] = "docs.jsonl:3"
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked), "utf-8")
    done = cli("data", "with-context", tmp_path / "qa.jsonl", tmp_path / "docs.jsonl", "--out", tmp_path / "o.jsonl",
               "--passage-key", "source", "--unanswerable", 0, "--json")  # fmt: skip
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["found"] == {"named": 2}
    assert told["left_out"] == [{"place": "qa.jsonl:3", "reason": "none of the documents is called '99'"}]
    made = load(tmp_path / "o.jsonl").examples
    assert [row.metadata["context_right"] for row in made] == ["docs.jsonl:6", "docs.jsonl:3"]


def test_what_stops_it(tmp_path: Path, cli: Cli, rows: Path, documents: Path) -> None:
    out = tmp_path / "out.jsonl"
    (tmp_path / "one.txt").write_text("One passage.")
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"title": "b"}\n')
    (tmp_path / "other").mkdir()
    for name in ("a", "b"):
        (tmp_path / "other" / f"{name}.txt").write_text(f"Something else about {name}.")
    for given, code, says in (
        (tmp_path / "absent", 4, "no such file or folder"),
        (tmp_path / "one.txt", 3, "there is no other to tell it from"),
        (tmp_path / "bad.jsonl", 3, "1 of 2 texts"),
        (tmp_path / "other", 3, "for none of the 10 rows"),
        (rows, 3, "cannot be read"),
    ):
        done = cli("data", "with-context", rows, given, "--out", out)
        assert (done.code, says in done.err) == (code, True), done.err
        assert not out.exists()
    out.write_text("mine")
    assert cli("data", "with-context", rows, documents, "--out", out).code == 6
    assert cli("data", "with-context", rows, documents, "--out", tmp_path / "o.docx").code == 2
    assert (
        cli("data", "with-context", rows, documents, "--out", tmp_path / "p.json", "--unanswerable-answer", " ").code
        == 2
    )
    assert out.read_text() == "mine"
