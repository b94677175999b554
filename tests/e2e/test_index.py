"""`tunesmith index` as a user meets it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import documents
import tiny
from tunesmith.data.load import load

Cli = Callable[..., tiny.Result]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """One document of each kind, and what nobody can read."""
    folder = documents.written(
        tmp_path / "docs",
        guide="# Guide\n\n## Parcels\n\nA parcel takes seven days.",
        farm__hens="The hen lays three eggs.",
    )
    (folder / "page.html").write_text("<h1>Returns</h1><p>Send it back within <b>thirty</b> days.")
    (folder / "leaflet.pdf").write_bytes(documents.pdf(["Welcome.", "The shop opens at ten."]))
    (folder / "rows.jsonl").write_text(
        '{"text": "Foxes sleep in dens.", "id": "f1"}\n{broken\n{"text": "Owls hunt.", "id": 2}\n'
    )
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7")
    (folder / "loop.md").symlink_to(folder / "loop.md")
    (folder / "out.md").symlink_to("/etc/hostname")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    return folder


def test_documents_to_an_index_and_questions_to_it(tmp_path: Path, cli: Cli, docs: Path) -> None:
    out = tmp_path / "index"
    done = cli("index", docs, "--out", out, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["sources"], told["chunks"], told["embedder"], told["other_files"]) == (5, 6, None, {".png": 1})
    assert told["added"] == ["farm/hens.md", "guide.md", "leaflet.pdf", "page.html", "rows.jsonl"]
    assert [row["place"] for row in told["unread"]] == [
        "loop.md",
        "out.md",
        "broken.pdf",
        "latin.txt:1",
        "rows.jsonl:2",
    ]
    assert told["unread_count"] == 5
    for question, source, place, heading in (
        ("How long does a parcel take?", "guide.md", "guide.md:1", "Guide > Parcels"),
        ("Until when may I send it back?", "page.html", "page.html:1", "Returns"),
        ("When does the shop open at?", "leaflet.pdf", "leaflet.pdf:p1-2", ""),
        ("Where do foxes sleep?", "rows.jsonl", "rows.jsonl:1", ""),
    ):
        asked = cli("index", out, "--ask", question, "-k", 2, "--json")
        assert asked.code == 0, asked.err
        answer = json.loads(asked.out)
        hit = answer["hits"][0]
        assert (hit["source"], hit["place"], hit["heading"]) == (source, place, heading)
        assert hit["rank_by_words"] == 1
        assert f"[{hit['id']}] " in answer["prompt"]
        assert hit["text"] in answer["prompt"]
        assert answer["prompt"].endswith(f"Question: {question}")
    shown = cli("index", out, "--ask", "parcel")
    assert shown.out.startswith("1. [")
    assert "guide.md:1 (Guide > Parcels)" in shown.out
    assert "no chunk shares a word" in cli("index", out, "--ask", "unicorn").out


def test_again_it_is_brought_up_to_date_and_a_source_is_erased(tmp_path: Path, cli: Cli, docs: Path) -> None:
    out = tmp_path / "index"
    said = cli("index", docs, "--out", out).out
    assert "6 chunks of 5 files" in said
    assert "not read: latin.txt:1: the text is not UTF-8" in said
    assert "files of other kinds left out: 1 .png" in said
    (docs / "guide.md").write_text("A parcel takes eight days.")
    (docs / "page.html").unlink()
    told = json.loads(cli("index", docs, "--out", out, "--json").out)
    assert (told["added"], told["changed"], told["removed"], told["unchanged"]) == ([], ["guide.md"], ["page.html"], 3)
    assert "rows.jsonl:2" in [row["place"] for row in told["unread"]], "told again, though it is not read again"
    assert documents.holding(out, ["thirty", "seven"]) == []
    gone = cli("index", out, "--delete", "rows.jsonl", "--json")
    assert (gone.code, json.loads(gone.out)["chunks"]) == (0, 3)
    assert documents.holding(out, ["foxes", "Foxes", "rows.jsonl"]) == []
    again = cli("index", out, "--delete", "rows.jsonl")
    assert (again.code, "no source 'rows.jsonl'" in again.err) == (4, True)
    assert "is erased" in cli("index", out, "--delete", "farm/hens.md").out


def test_quality_on_questions_whose_documents_are_known(tmp_path: Path, cli: Cli, docs: Path) -> None:
    out, asked = tmp_path / "index", tmp_path / "q.jsonl"
    cli("index", docs, "--out", out)
    rows = [
        {"question": "How long does a parcel take?", "document": "guide"},
        {"question": "parcel shop", "documents": ["leaflet.pdf", "rows.jsonl:1"]},
        {"question": "foxes", "document": "f1"}, {"question": "owls", "document": 2},
        {"question": "eggs", "document": "absent.md"},
    ]  # fmt: skip
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = cli("index", out, "--questions", asked, "-k", 2, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["questions"], told["k"], told["not_indexed"]) == (5, 2, ["absent.md"])
    each = {row["question"]: (row["recall"], row["reciprocal_rank"]) for row in told["each"]}
    assert each["How long does a parcel take?"] == each["foxes"] == each["owls"] == (1, 1)
    assert each["eggs"] == (0, 0), "a document that is not in the index is not found"
    assert each["parcel shop"][0] == 0.5, "the fox is not among what a parcel shop finds"
    assert each["parcel shop"][1] in (1, 0.5)
    assert told["metrics"]["recall@2"]["value"] == pytest.approx((3 + 0.5) / 5)
    low, high = told["metrics"]["mrr"]["interval"]
    assert 0 <= low <= told["metrics"]["mrr"]["value"] <= high <= 1
    shown = cli("index", out, "--questions", asked)
    assert "recall@5" in shown.out
    assert "not in the index, and so never found: absent.md" in shown.out
    for content, says in (
        ('{"question": "x"}\n', "there is no 'document'"), ('{"document": "x"}\n', "there is no 'question'"),
        ("{broken\n", "invalid JSON"), ('{"question": "x", "documents": []}\n', "no list of 'documents'"),
        ('{"question": "x", "document": "y"}\n', "'y', for one"),
    ):  # fmt: skip
        asked.write_text(content)
        failed = cli("index", out, "--questions", asked)
        assert (failed.code, says in failed.err) == (3, True), failed.err


def test_what_stops_it(tmp_path: Path, cli: Cli, docs: Path) -> None:
    out = tmp_path / "index"
    cli("index", docs, "--out", out)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.pdf").write_bytes(b"%PDF-1.7")
    for given, code, says in (
        ((out,), 2, "nothing is asked for"),
        ((docs, "--out", out, "--ask", "x"), 2, "--out and --ask are two things to do"),
        ((out, "--ask", "x", "--words", 9), 2, "--words says nothing with --ask"),
        ((out, "--delete", "x", "--embedder", "none"), 2, "--embedder says nothing with --delete"),
        ((docs, "--out", out, "--embedder", "minilmm"), 2, "did you mean 'minilm'"),
        ((docs, "--out", docs / "index"), 2, "among its own documents"),
        ((tmp_path / "absent", "--out", out), 4, "no such file or folder"),
        ((tmp_path / "absent", "--ask", "x"), 4, "no such folder"),
        ((tmp_path / "absent", "--delete", "x"), 4, "no such folder"),
        ((docs, "--ask", "x"), 4, "is no index"),
        ((out, "--questions", tmp_path / "absent"), 4, "no such file"),
        ((tmp_path / "empty", "--out", tmp_path / "new"), 3, "there is no text to index"),
        ((tmp_path / "broken", "--out", tmp_path / "new"), 3, "a.pdf"),
        ((docs, "--out", docs.parent / "broken"), 6, "holds something else than an index"),
        ((docs, "--out", tmp_path / "broken" / "a.pdf"), 7, "cannot write"),
    ):
        done = cli("index", *given)
        assert (done.code, says in done.err) == (code, True), (given, done.err)
    assert not (tmp_path / "new").exists()
    assert cli("index", docs, "--out", out, "--json").code == 0


def test_documents_cannot_act_on_a_terminal(tmp_path: Path, cli: Cli) -> None:
    docs = documents.written(tmp_path / "docs", a="parcel \x1b[2J\x9b1m [bold]red[/]\u202e end", **{"\x1b[31mb": "{"})
    (docs / "\x1bc.txt").write_bytes(b"\xe9")
    said = cli("index", docs, "--out", tmp_path / "index").out + cli("index", tmp_path / "index", "--ask", "parcel").out
    assert not set("\x1b\x9b\u202e") & set(said)
    assert r"parcel \x1b[2J\x9b1m [bold]red[/]\u202e end" in said
    assert r"not read: \x1bc.txt:1" in said


def test_links_are_read_when_that_is_asked_for(tmp_path: Path, cli: Cli) -> None:
    docs = documents.written(tmp_path / "docs", a="alpha")
    (documents.written(tmp_path / "other", b="beta")).joinpath("b.md").rename(tmp_path / "b.md")
    (docs / "b.md").symlink_to(tmp_path / "b.md")
    told = json.loads(cli("index", docs, "--out", tmp_path / "index", "--json").out)
    assert (told["sources"], "--links" in told["unread"][0]["reason"]) == (1, True)
    told = json.loads(cli("index", docs, "--out", tmp_path / "index", "--links", "--json").out)
    assert (told["added"], told["unread"]) == (["b.md"], [])


def test_asking_loads_no_torch(tmp_path: Path, docs: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tunesmith.pipelines.index import ask, build; "
        f"docs, out = Path({str(docs)!r}), Path({str(tmp_path / 'index')!r}); "
        "build(docs, out); ask(out, 'parcel', 3); "
        "print([m for m in ('torch', 'transformers', 'sklearn', 'pypdf') if m in sys.modules])"
    )
    done = tiny.subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rows_with_context_take_pages_and_pdf_too(tmp_path: Path, cli: Cli, docs: Path) -> None:
    for name in ("broken.pdf", "latin.txt", "loop.md", "rows.jsonl", "out.md"):
        (docs / name).unlink()
    (tmp_path / "qa.jsonl").write_text(
        json.dumps({"question": "When does it open?", "answer": "The shop opens at ten."})
    )
    done = cli("data", "with-context", tmp_path / "qa.jsonl", docs, "--out", tmp_path / "o.jsonl", "--unanswerable", 0)
    assert done.code == 0, done.err
    [row] = load(tmp_path / "o.jsonl").examples
    assert row.metadata["context_right"] == "leaflet.pdf:p1-2"
    assert "page.html:1" in row.metadata["context_passages"]
