"""Laws of chunks, rankings and updates."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

import documents
from tunesmith.data.headings import sections
from tunesmith.data.passages import Document, spans
from tunesmith.pipelines.index import build, delete
from tunesmith.retrieval.chunks import chunks
from tunesmith.retrieval.folder import load
from tunesmith.retrieval.fusion import fused
from tunesmith.retrieval.quality import ndcg, recall, reciprocal_rank

PIECE = st.sampled_from(
    ["a", "b. ", "see! ", " ", "\n", "\n\n", "# Head\n", "\n## Sub #\n", "\n===\n", "\n---\n", "```\n", "~~~~", "あ",
     "。", "\t", "x" * 9, "\r\n", "\x0b", "#", "é"]
)  # fmt: skip
TEXT = st.lists(PIECE, max_size=40).map("".join)


@settings(deadline=None)
@given(text=TEXT, words=st.integers(1, 8), marked=st.booleans())
def test_chunks_hold_every_word_in_order_and_say_where(text: str, words: int, marked: bool) -> None:
    found = list(chunks([Document(text, "a.md", marked=marked)], "a.md", words, set()))
    assert "".join("".join(chunk.text.split()) for chunk in found) == "".join(text.split())
    assert len({chunk.id for chunk in found}) == len(found)
    end = 0
    for chunk in found:
        assert chunk.text == text[chunk.start : chunk.end]
        assert chunk.text.strip()
        assert end <= chunk.start < chunk.end <= len(text)
        assert not text[end : chunk.start].strip(), "what lies between is white space"
        end = chunk.end
        line = int(chunk.place.removeprefix("a.md:"))
        assert line == text.count("\n", 0, chunk.start) + 1


@settings(deadline=None)
@given(text=TEXT)
def test_sections_are_the_text(text: str) -> None:
    found = list(sections(text))
    assert "".join(text[section.start : section.end] for section in found) == text
    assert all(section.end > section.start for section in found)


@settings(deadline=None)
@given(text=TEXT, words=st.integers(1, 8))
def test_spans_keep_to_the_limit(text: str, words: int) -> None:
    for span in spans(text, words):
        plain = text[span.start : span.end].replace("あ", " a ")
        assert len(plain.split()) <= words


RANKING = st.lists(st.integers(0, 9), unique=True, max_size=8)


@given(rankings=st.lists(RANKING, max_size=4))
def test_fusion_holds_all_and_keeps_what_all_agree_on(rankings: list[list[int]]) -> None:
    found = [thing for thing, _ in fused(rankings)]
    assert sorted(found) == sorted({thing for ranking in rankings for thing in ranking})
    for a in found:
        for b in found:
            if all(a in r and b in r and r.index(a) < r.index(b) for r in rankings):
                assert found.index(a) < found.index(b)


@given(ranked=RANKING, wanted=st.sets(st.integers(0, 9), min_size=1), k=st.integers(1, 9))
def test_quality_is_a_share_and_1_where_the_wanted_come_first(ranked: list[int], wanted: set[int], k: int) -> None:
    names, right = [str(i) for i in ranked], {str(i) for i in wanted}
    gains = dict.fromkeys(right, 1.0)
    for ordered in (names, sorted(names, key=lambda name: name not in right)):
        for value in (recall(ordered, right, k), reciprocal_rank(ordered, right), ndcg(ordered, gains, k)):
            assert 0 <= value <= 1 + 1e-12
    first = [*right, *(name for name in names if name not in right)]
    assert (reciprocal_rank(first, right), recall(first, right, len(first))) == (1, 1)
    assert abs(ndcg(first, gains, k) - 1) < 1e-12


WORDS = st.lists(st.sampled_from(["red", "blue", "cat", "dog", "runs", "# Head\n\n", "\n\n"]), min_size=1, max_size=12)
TEXT = WORDS.filter(lambda words: any(map(str.isalpha, words))).map(" ".join)  # a text of nothing is no source
FOLDER = st.dictionaries(st.sampled_from(["a", "b", "c__d", "e"]), TEXT, min_size=1, max_size=4)


@settings(deadline=None, max_examples=12)
@given(before=FOLDER, after=FOLDER, words=st.sampled_from([5, 8]), gone=st.booleans())
def test_an_index_brought_up_to_date_is_one_made_anew(
    before: dict[str, str], after: dict[str, str], words: int, gone: bool
) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        build(documents.written(root / "1", **before, kept="kept"), root / "index", words=5)
        build(documents.written(root / "2", **after, kept="kept"), root / "index", words=words)
        build(root / "2", root / "anew", words=words)
        if gone:
            delete(root / "index", f"{min(after).replace('__', '/')}.md")
            (root / "2" / f"{min(after).replace('__', '/')}.md").unlink()
            build(root / "2", root / "anew")
        files = [
            sorted(p for p in (root / n).rglob("*") if p.parent.name.startswith("data-")) for n in ("index", "anew")
        ]
        assert [p.name for p in files[0]] == [p.name for p in files[1]]
        for one, other in zip(*files, strict=True):
            assert one.read_bytes() == other.read_bytes()
        assert load(root / "index").sources == load(root / "anew").sources
