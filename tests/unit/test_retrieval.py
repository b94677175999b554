"""Chunks, rankings, prompts, citations, faithfulness and quality, against numbers worked by hand."""

from __future__ import annotations

import math

import pytest

from tunesmith.core.errors import UsageError
from tunesmith.data.contexts import UNSAID
from tunesmith.data.passages import Document
from tunesmith.retrieval.chunks import Chunk, chunks
from tunesmith.retrieval.context import Context
from tunesmith.retrieval.embedding import FolderEncoder, MiniLm, embedding
from tunesmith.retrieval.faithfulness import STOPWORDS, content, faithfulness
from tunesmith.retrieval.fusion import fused
from tunesmith.retrieval.index import Index
from tunesmith.retrieval.quality import ndcg, recall, reciprocal_rank

GUIDE = (
    "# Guide\n\n## Parcels\n\nA parcel takes 5 to 7 days.\n\nIn winter it takes 9.\n\n"
    "## Letters\n\nA letter takes 2 days.\n"
)
ASK = "Answer the question from the context alone. If the context does not say, answer: "


def made(text: str, source: str = "guide.md", words: int = 150) -> list[Chunk]:
    return list(chunks([Document(text, source, names=("guide",), marked=True)], source, words, set()))


def test_chunks_have_headings_places_and_offsets() -> None:
    found = made(GUIDE, words=10)
    assert [(c.heading, c.place, GUIDE[c.start : c.end] == c.text) for c in found] == [
        ("Guide > Parcels", "guide.md:1", True), ("Guide > Parcels", "guide.md:5", True),
        ("Guide > Parcels", "guide.md:7", True), ("Guide > Letters", "guide.md:9", True),
    ]  # fmt: skip
    assert found[1].text == "A parcel takes 5 to 7 days."
    assert {(c.source, c.document, c.names) for c in found} == {("guide.md", "guide.md", ("guide",))}
    rows = [
        Document(text, "f.jsonl", line, ("h",), numbered_by_line=False, title="Hens")
        for line, text in ((1, "a b"), (4, "c"))
    ]
    assert [(c.document, c.place, c.heading) for c in chunks(rows, "f.jsonl", 1, set())] == [
        ("f.jsonl:1", "f.jsonl:1", "Hens"), ("f.jsonl:1", "f.jsonl:1#2", "Hens"), ("f.jsonl:4", "f.jsonl:4", "Hens"),
    ]  # fmt: skip


def test_ids_stay_while_source_heading_and_text_stay() -> None:
    first = made(GUIDE)
    assert all(len(chunk.id) == 10 for chunk in first)
    moved = made("A new beginning.\n\n" + GUIDE)
    assert [chunk.id for chunk in moved[1:]] == [chunk.id for chunk in first]
    assert {c.id for c in made(GUIDE, "other.md")}.isdisjoint(c.id for c in first)
    below, renamed = made(GUIDE, words=9)[2], made(GUIDE.replace("Parcels", "Boxes"), words=9)[2]
    assert below.text == renamed.text == "In winter it takes 9."
    assert below.id != renamed.id, "it stands below another heading"
    twice = made("same\n\nsame\n\nsame", words=1)
    assert len({chunk.id for chunk in twice}) == 3, "a text that stands there thrice has three ids"


def test_fusion_is_reciprocal_ranks_added_up() -> None:
    assert fused([[7, 3, 5], [3, 9]]) == [
        (3, pytest.approx(1 / 62 + 1 / 61)), (7, pytest.approx(1 / 61)), (9, pytest.approx(1 / 62)),
        (5, pytest.approx(1 / 63)),
    ]  # fmt: skip
    assert [thing for thing, _ in fused([[2, 1], [1, 2]])] == [1, 2], "of equal ones the lower number"
    assert fused([[4], [5]], k=0) == [(4, 1.0), (5, 1.0)]
    assert fused([]) == []


def test_the_chunk_that_answers_comes_first() -> None:
    index = Index.of(made(GUIDE))
    assert [hit.chunk.heading for hit in index.ask("How long does a LETTER take?", 5)] == [
        "Guide > Letters", "Guide > Parcels",
    ]  # fmt: skip
    [hit] = index.ask("winter", 1)
    assert (hit.chunk.heading, hit.by_words, hit.by_vectors) == ("Guide > Parcels", 1, None)
    assert index.ask("unicorn?", 5) == []
    assert index.ask("letter letter", 1)[0].score == index.ask("letter", 1)[0].score > 0
    assert len(index.ask("guide", 9)) == 2, "both stand below that heading"
    assert Index.of(()).ask("letter", 5) == []
    assert Index.of(made("?!\n\n...")).ask("letter", 5) == []


def test_a_prompt_shows_passages_with_their_marks() -> None:
    found = made(GUIDE)
    ids, numbers = Context.of(found), Context.of(found, "numbers")
    prompt = ids.prompt("How long?")
    assert prompt.startswith(f"{ASK}{UNSAID} Behind")
    assert prompt.endswith("\n\nQuestion: How long?")
    assert f"\n\n[{found[1].id}] Guide > Letters\n## Letters\n\nA letter takes 2 days." in prompt
    assert "mark in square brackets" in prompt
    plain = numbers.prompt("How long?", unsaid="No.")
    assert plain.startswith(f"{ASK}No.\n\nContext:\n\n[1] # G")
    assert "\n\n[2] ## Letters" in plain
    assert [len(Context.of(found, words=words).chunks) for words in (0, 19, 99)] == [1, 1, 2]
    copies = made(GUIDE.replace("A letter", "a  letter"), "copy.md")
    assert [chunk.source for chunk in Context.of([found[1], *copies]).chunks] == ["guide.md", "copy.md"]


def test_citations_are_those_of_chunks_that_were_shown() -> None:
    found = made(GUIDE)
    a, b = (chunk.id for chunk in found)
    context = Context.of(found)
    said = context.cited(f"Two days [{b}]. Five [{a}, {b}], or [see below] [0123456789] [2].")
    assert [chunk.id for chunk in said.chunks] == [b, a]
    assert said.unknown == ("0123456789",)
    numbered = Context.of(found, "numbers").cited("Two days [2]. Then [7] and [a].")
    assert ([chunk.id for chunk in numbered.chunks], numbered.unknown) == ([b], ("7",))
    assert context.cited("nothing").chunks == ()
    assert context.without_marks(f"x [{a}; {b}] y [z]").split() == ["x", "y", "[z]"]


def test_numbers_are_the_same_however_they_are_written() -> None:
    assert content("1,000 1000 1.000 1'000 2.50 2,5 007 0.125 1.234.567,89 3.") == [
        "1000", "1000", "1000", "1000", "2.5", "2.5", "7", "0.125", "1234567.89", "3",
    ]  # fmt: skip
    assert content("The A4 sheet of 2030", STOPWORDS["en"]) == ["a4", "sheet", "2030"]


def test_faithfulness_worked_by_hand() -> None:
    found = made(GUIDE)
    context = Context.of(found)
    parcels, letters = (chunk.id for chunk in found)
    got = faithfulness(f"A letter takes 2 days [{letters}].", context)
    assert (got.claimed, got.in_cited, got.share, got.missing) == (4, 4, 1.0, ())
    wrong = faithfulness(f"A letter takes 7 days by train [{letters}].", context)
    assert (wrong.claimed, wrong.in_cited, wrong.in_context) == (5, 3, 4), "7 is in the chunk that is not cited"
    assert wrong.missing == ("train",)
    assert wrong.share == 3 / 5
    assert wrong.share_of_context == 4 / 5
    bare = faithfulness("A letter takes 2 days.", context)
    assert (bare.share, bare.share_of_context, bare.cited) == (0.0, 1.0, ())
    assert faithfulness("30 [ffffffffff]", context).made_up == ("ffffffffff",)
    assert faithfulness("30", Context.of(made("It is 2030."))).in_context == 0, "30 is no part of 2030"
    assert faithfulness(f"the context does not say [{parcels}]", context).share is None, "it claims nothing"
    assert faithfulness("", context).share is None
    german = faithfulness("Der Brief kommt", Context.of(made("ein Brief kommt")), language="de")
    assert (german.claimed, german.in_context) == (2, 2)
    assert faithfulness("Der Brief", context, language="xx").claimed == 2


def test_quality_worked_by_hand() -> None:
    ranked = ["a", "b", "c", "d"]
    assert [recall(ranked, {"b", "d", "x"}, k) for k in (1, 2, 4)] == [0, 1 / 3, 2 / 3]
    assert [reciprocal_rank(ranked, wanted) for wanted in ({"a"}, {"c", "d"}, {"x"})] == [1, 1 / 3, 0]
    gains = {"b": 1.0, "d": 1.0, "x": 1.0}
    best = 1 + 1 / math.log2(3) + 0.5
    assert ndcg(ranked, gains, 4) == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / best)
    assert ndcg(ranked, {"a": 2.0, "b": 1.0}, 2) == 1
    assert ndcg(ranked, {"a": 1.0, "b": 2.0}, 2) == pytest.approx((1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3)))
    assert ndcg([], {"a": 1.0}, 5) == 0


def test_embedders_by_name() -> None:
    assert embedding("none") is None
    assert embedding("minilm") == MiniLm()
    assert embedding("encoder:a/b:c") == FolderEncoder(base="a/b:c")
    for asked in ("minilm", "encoder:a"):
        spec = embedding(asked)
        assert spec is not None
        assert spec.asked == asked
    for wrong, mend in (("minlm", "did you mean 'minilm'"), ("encoder", "encoder:FOLDER"), ("minilm:x", "minilm")):
        with pytest.raises(UsageError, match=mend):
            embedding(wrong)
