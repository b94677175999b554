"""Files to documents: what is read, what is not and why, and that no file takes more than its share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pypdf import PdfWriter

import documents
from tunesmith.core.errors import ContentError, MissingError
from tunesmith.data.headings import LONGEST, sections
from tunesmith.data.passages import Span
from tunesmith.data.tickets.html import to_text
from tunesmith.retrieval import reading
from tunesmith.retrieval.extract import Extractor
from tunesmith.retrieval.reading import Read, read, read_or_tell
from tunesmith.retrieval.walk import walk


@pytest.fixture(scope="module")
def extractor() -> Iterator[Extractor]:
    with Extractor() as made:
        yield made


def put(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


MARKDOWN = """intro

# Guide #

## Install

run it

~~~sh
# no heading
~~~

Usage
=====

use

### Deep
#not one
x
---
y
"""


def test_sections_of_markdown() -> None:
    found = list(sections(MARKDOWN))
    assert [(s.heading, MARKDOWN[s.start : s.end].split(maxsplit=1)[0]) for s in found] == [
        ("", "intro"), ("Guide > Install", "#"), ("Usage", "Usage"), ("Usage > Deep", "###"),
    ]  # fmt: skip
    assert "".join(MARKDOWN[s.start : s.end] for s in found) == MARKDOWN
    assert list(sections("")) == []
    [only] = sections("# " + "long " * 1000)
    assert len(only.heading) == LONGEST
    assert [s.heading for s in sections("# A\n\n---\n\n## B\nb\n# C\nc")] == ["A", "A > B", "C"]


PAGE = (
    "<html><head><title>T</title><script>var x</script></head><body><nav><a href='/x'>home</a></nav><h1>Guide</h1>"
    "<p>Hello <b>you</b><h2>Code &amp; more</h2><pre># no heading\n  x = 1</pre><ul><li>a<li>b</ul></body>"
)


def test_the_text_of_a_page() -> None:
    text = to_text(PAGE, page=True)
    assert [s.heading for s in sections(text)] == ["Guide", "Guide > Code & more"]
    assert text.startswith("# Guide\n\nHello you\n\n## Code & more\n\n```\n# no heading\n  x = 1\n")
    assert "home" not in text
    assert to_text(PAGE).startswith("home\n\nGuide\n\nHello you"), "a mail has neither headings nor navigation"


def test_a_pdf_has_pages(tmp_path: Path, extractor: Extractor) -> None:
    path = put(tmp_path / "a.pdf", documents.pdf(["The hen lays.", "The fox\nwaits.", "End"], packed=True))
    [document] = read(path, "farm/a.pdf", extractor).documents
    starts = [document.text.index(word) for word in ("The hen", "The fox", "End")]
    assert list(document.pages) == starts
    ends = [at - 2 for at in (*starts[1:], len(document.text) + 2)]
    assert [document.place(Span(a, b, 0), 1) for a, b in zip(starts, ends, strict=True)] == [
        "farm/a.pdf:p1", "farm/a.pdf:p2", "farm/a.pdf:p3",
    ]  # fmt: skip
    assert document.place(Span(starts[0], starts[1] + 1, 0), 1) == "farm/a.pdf:p1-2"
    assert document.place(Span(starts[1] + 1, ends[2], 0), 1) == "farm/a.pdf:p2-3"
    assert document.names == ("farm/a.pdf", "a.pdf", "a")
    assert document.text.split() == ["The", "hen", "lays.", "The", "fox", "waits.", "End"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.pdf", b"%PDF-1.4 and no more", "it is damaged, or no such file at all"),
        ("a.pdf", b"GIF89a", "it is damaged, or no such file at all"),
        ("a.pdf", documents.pdf(["x"])[:-300], "it is damaged, or no such file at all"),
        ("a.pdf", documents.pdf(["", ""]), "are its pages pictures?"),
        ("a.pdf", documents.bomb(200 << 20), "it is damaged, or no such file at all (LimitReachedError"),
        ("a.html", b"<p>caf\xe9", "it is not in utf-8; is it Latin-1?"),
        ("a.html", b"<meta charset=klingon><p>x", "'klingon', which nobody knows"),
        ("a.html", b"<p>a\0b", "it holds a NUL character"),
        ("a.html", b" \n", "it is empty"),
        ("a.txt", b"caf\xe9", "the text is not UTF-8; is the file Latin-1?"),
        ("a.md", b"a\0b", "a text holds a NUL character"),
        ("a.md", "x".encode("utf-16"), "is not in UTF-8"),
        ("a.txt", b"", "is empty"),
        ("a.txt", b"%PDF-1.4", "is a PDF"),
        ("a.jsonl", b'{"title": "x"}', "not recognised as text"),
        ("a.jsonl", b'{"messages": [{"role": "user", "content": "x"}]}', "a conversation"),
        ("a.jsonl", b'{"text": ' + b"[" * 300 + b"]" * 300 + b"}", "nested more than 100 deep"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_so_and_names_the_file(
    tmp_path: Path, extractor: Extractor, name: str, content: bytes, reason: str
) -> None:
    found = read_or_tell(put(tmp_path / name, content), f"docs/{name}", extractor)
    assert found.documents == ()
    [unread] = found.unread
    assert unread.place.startswith(f"docs/{name}")
    assert reason in unread.reason
    assert "x y z" in _text(read(put(tmp_path / "ok.html", "<p>x y z"), "ok.html", extractor)), "the reader goes on"


def _text(found: Read) -> str:
    return "".join(document.text for document in found.documents)


def test_a_pdf_with_a_password(tmp_path: Path, extractor: Extractor) -> None:
    (tmp_path / "plain.pdf").write_bytes(documents.pdf(["The hen lays."]))
    for user, says in (("", None), ("open", "protected by a password")):
        writer = PdfWriter(clone_from=tmp_path / "plain.pdf")
        writer.encrypt(user, "owner", algorithm="RC4-128")
        writer.write(tmp_path / "a.pdf")
        found = extractor(tmp_path / "a.pdf")
        assert (found.text.strip(), says is None or says in str(found.reason)) == (
            "" if says else "The hen lays.",
            True,
        )


def test_a_page_may_say_its_encoding(tmp_path: Path, extractor: Extractor) -> None:
    for content in (
        "<meta charset=iso-8859-1><p>café".encode("latin-1"), "<p>café".encode("utf-16"), "<p>café".encode("utf-8-sig"),
    ):  # fmt: skip
        assert _text(read(put(tmp_path / "a.html", content), "a.html", extractor)) == "café"


def test_no_file_takes_more_than_its_time_or_memory(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "endless.html")
    with (tmp_path / "huge.html").open("wb") as file:
        file.truncate(3 << 30)
    begin = time.monotonic()
    with Extractor(seconds=4) as extractor:
        assert extractor(tmp_path / "endless.html").reason == "reading it takes more than 4 seconds"
        assert extractor(tmp_path / "huge.html").reason == "reading it takes more than 2 GB of memory"
        assert extractor(put(tmp_path / "deep.html", "<div>" * 100_000 + "<p>end")).text == "end"
        assert extractor(put(tmp_path / "ok.html", "<p>fine")).text == "fine"
    assert time.monotonic() - begin < 60
    with pytest.raises(ContentError, match=r"at most 64 MB of one document"):
        read(tmp_path / "huge.html", "huge.html", Extractor())
    with pytest.raises(ContentError, match="a pipe"):
        read(tmp_path / "endless.html", "endless.html", Extractor())


def test_a_reader_that_nobody_ends_ends_itself(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "endless.html")
    code = "from tunesmith.retrieval import extract_worker as worker; worker._LAST = 1; worker.main()"
    done = subprocess.run(
        [sys.executable, "-c", code], input=f'"{tmp_path / "endless.html"}"\n', text=True, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGALRM


def test_a_reader_that_ends_is_told_and_begun_again(tmp_path: Path) -> None:
    path = put(tmp_path / "a.html", "<p>fine")
    with Extractor() as extractor:
        assert extractor(path).text == "fine"
        process = extractor._process
        assert process is not None
        process.kill()
        process.wait()
        assert "ends the reader" in str(extractor(path).reason)
        assert extractor(path).text == "fine"
    assert extractor._process is None


def test_a_long_text_is_one_document(tmp_path: Path, extractor: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "word " * 30 + "\n\n"
    text = "".join(f"{number} {line}" for number in range(20_000))
    [document] = read(put(tmp_path / "a.md", text), "a.md", extractor).documents
    assert document.text == text, "it is read in pieces of a megabyte"
    broken = text.encode()[: 2 << 20] + b"\xe9" + text.encode()[2 << 20 :]
    found = read(put(tmp_path / "a.md", broken), "a.md", extractor)
    assert len(found.documents) == 2, "what is behind the piece that cannot be read is another"
    assert [document.text in text for document in found.documents] == [True, True]
    second = found.documents[1]
    assert text.split("\n")[second.line - 1] == second.text.split("\n")[0]
    monkeypatch.setattr(reading, "LARGEST", 1000)
    with pytest.raises(ContentError, match="cut it into several"):
        read(tmp_path / "a.md", "a.md", extractor)


def test_rows_have_names_and_titles(tmp_path: Path, extractor: Extractor) -> None:
    path = put(tmp_path / "a.jsonl", '{"text": "x y", "id": 7, "title": "Hens", "url": "u"}\n{broken\n{"text": "z"}\n')
    found = read(path, "a.jsonl", extractor, key="url")
    assert [(d.text, d.line, d.names, d.title) for d in found.documents] == [
        ("x y", 1, ("u", "7", "Hens"), "Hens"), ("z", 3, (), ""),
    ]  # fmt: skip
    assert [unread.place for unread in found.unread] == ["a.jsonl:2"]


def test_the_files_of_a_folder(tmp_path: Path) -> None:
    docs, out = tmp_path / "docs", put(tmp_path / "secret.md", "secret")
    documents.written(docs, b="b", a__c="c", **{".hidden__x": "x"})
    (docs / ".draft.md").write_text("x")
    (docs / "p.png").write_bytes(b"x")
    (docs / "P.PDF").write_bytes(b"x")
    (docs / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    for name, target in (("out.md", out), ("same.md", docs / "b.md"), ("loop.md", docs / "loop.md"), ("up", docs)):
        (docs / name).symlink_to(target)
    found = walk(docs)
    assert list(found.paths) == ["P.PDF", "a/c.md", "b.md", r"caf\xe9.txt"]
    assert found.others == {".png": 1}
    reasons = {unread.place: unread.reason for unread in found.unread}
    assert list(reasons) == ["loop.md", "out.md", "same.md", "up"]
    assert "in a circle" in reasons["loop.md"]
    assert "leads out of the folder" in reasons["out.md"]
    assert "under its own name" in reasons["same.md"]
    assert "not followed" in reasons["up"]
    followed = walk(docs, links=True)
    assert set(followed.paths) == {*found.paths, "loop.md", "out.md", "same.md"}
    assert [unread.place for unread in followed.unread] == ["up"]
    assert walk(out).paths == {"secret.md": out}
    with pytest.raises(MissingError):
        walk(tmp_path / "absent")
