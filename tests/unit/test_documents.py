"""Texts and conversations as documents: their marks, their tokens, and what they are to everything that reads rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from tunesmith.core.errors import ContentError
from tunesmith.core.messages import Message, Text
from tunesmith.data import identity
from tunesmith.data.documents import Marks, encode_document, encode_documents
from tunesmith.data.formats import detect, exported, named
from tunesmith.data.kinds import better, joined, parted
from tunesmith.data.load import load
from tunesmith.data.template import PLAIN_TEMPLATE, TemplateError
from tunesmith.data.versions import differences, outline

TALK = Text(
    messages=(
        Message(role="user", content="Where?"), Message(role="assistant", content="There."),
        Message(role="user", content="Thanks."),
    ),
    origin="f:1",
)  # fmt: skip


class Named:
    """A tokenizer with other special tokens: as much of one as marks look at."""

    def __init__(self, bos: str | None, eos: str, others: tuple[str, ...] = (), template: str = PLAIN_TEMPLATE):
        self._words = tiny.tokenizer()
        names = list(dict.fromkeys(name for name in (bos, eos, *others) if name))
        self._words.add_special_tokens({"bos_token": names[0], "eos_token": eos, "additional_special_tokens": names})
        self._words.bos_token = bos
        self._words.chat_template = template

    def __getattr__(self, name: str) -> Any:
        return getattr(self._words, name)


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = "{{ '<|begin_of_text|>' }}" + CHATML.replace("<|im_end|>", "<|eot_id|>")


@pytest.mark.parametrize(
    ("bos", "eos", "others", "template", "expected"),
    [
        ("<|endoftext|>", "<|im_end|>", (), CHATML, ("<|endoftext|>", "<|endoftext|>")),  # the bundled base
        ("<|im_start|>", "<|im_end|>", ("<|endoftext|>",), CHATML, ("<|endoftext|>", "<|endoftext|>")),  # SmolLM2
        (None, "<|im_end|>", ("<|endoftext|>",), CHATML, (None, "<|endoftext|>")),  # Qwen
        ("<|begin_of_text|>", "<|eot_id|>", ("<|end_of_text|>",), LLAMA, ("<|begin_of_text|>", "<|end_of_text|>")),
        ("<bos>", "<eos>", (), PLAIN_TEMPLATE, ("<bos>", "<eos>")),
        ("<|endoftext|>", "<|endoftext|>", (), PLAIN_TEMPLATE, ("<|endoftext|>", "<|endoftext|>")),  # GPT-2
    ],
)
def test_marks_are_those_of_documents_and_not_of_turns(
    bos: str | None, eos: str, others: tuple[str, ...], template: str, expected: tuple[str | None, str | None]
) -> None:
    words = Named(bos, eos, others, template)
    marks = Marks.of(words)  # type: ignore[arg-type]
    found = tuple(None if i is None else words.convert_ids_to_tokens(i) for i in (marks.start, marks.end))
    assert found == expected


def test_marks_can_be_named_and_left_out(bundled_tokenizer: Any) -> None:
    assert Marks.of(bundled_tokenizer, None, None) == Marks(None, None)
    assert Marks.of(bundled_tokenizer, "<|im_start|>", "<|pad|>") == Marks(1, 3)
    with pytest.raises(ContentError, match=r"document_start: .* no special token '<s>'"):
        Marks.of(bundled_tokenizer, "<s>")


def test_a_text_stands_between_its_marks(bundled_tokenizer: Any) -> None:
    made = encode_document(bundled_tokenizer, Text(text="Once upon a time."))
    assert bundled_tokenizer.decode(made.input_ids) == "<|endoftext|>Once upon a time.<|endoftext|>"
    assert made.loss_weight.tolist() == [0.0] + [1.0] * (made.length - 1)


def test_a_conversation_is_shown_whole_and_every_turn_is_learned(bundled_tokenizer: Any) -> None:
    made = encode_document(bundled_tokenizer, TALK)
    shown = bundled_tokenizer.apply_chat_template([m.template_form() for m in TALK.messages], tokenize=False)
    assert bundled_tokenizer.decode(made.input_ids) == f"<|endoftext|>{shown}<|endoftext|>"
    assert made.labelled == made.length - 1


def test_what_spells_a_special_token_stays_text(bundled_tokenizer: Any) -> None:
    text = "The mark <|endoftext|> ends a document."
    [ids] = encode_documents(bundled_tokenizer, [Text(text=text)], Marks(None, None))
    assert not isinstance(ids, TemplateError)
    assert not np.isin(ids, [0, 1, 2, 3]).any()
    assert bundled_tokenizer.decode(ids) == text


def test_documents_come_in_order_whatever_their_kind(bundled_tokenizer: Any) -> None:
    rows = [TALK if number % 3 == 1 else Text(text=f"Text {number}.") for number in range(7)]
    marks = Marks.of(bundled_tokenizer)
    found = [ids.tolist() for ids in encode_documents(bundled_tokenizer, rows, marks, portion=3)]
    assert found == [encode_document(bundled_tokenizer, row).input_ids.tolist() for row in rows]


def test_a_conversation_that_the_template_refuses_is_told() -> None:
    words = Named("<bos>", "<eos>", (), "{{ raise_exception('no third turn') if messages|length > 2 }}")
    [found] = encode_documents(words, [TALK], Marks(None, None))  # type: ignore[arg-type]
    assert isinstance(found, TemplateError)


def test_a_file_may_hold_both_where_text_is_asked_for(tmp_path: Path) -> None:
    rows = [
        {"source": "talk", "messages": [{"role": "user", "content": "Hi."}]},
        {"source": "book", "text": "A book."},
        {"source": "table", "text": None, "messages": [{"role": "assistant", "content": "Yes."}], "tools": None},
    ]
    path = tiny.write_rows(tmp_path / "mixed.jsonl", rows)
    loaded = load(path, format="text")
    assert (loaded.kind, loaded.problems) == ("text", [])
    assert [(row.text, len(row.messages)) for row in loaded.records] == [("", 1), ("A book.", 0), ("", 1)]
    assert [row.metadata["source"] for row in loaded.records] == ["talk", "book", "table"]


def test_detection_stays_as_it_is() -> None:
    assert detect({"messages": []}).name == "chat"  # type: ignore[union-attr]
    assert detect({"text": "a"}).name == "text"  # type: ignore[union-attr]
    assert detect({"messages": [], "text": "a"}).name == "chat"  # type: ignore[union-attr]


def test_a_text_is_the_row_that_it_was() -> None:
    """The digests of texts stand in runs that were made before a text could be a conversation."""
    row = Text(text="A text.", metadata={"id": 4})
    assert identity.content(row) == {"kind": "text", "text": "A text.", "metadata": {"id": "4"}}
    assert identity.digest(row).hex() == "af61f6920bfa6bb9471d7d1b6d0e6748"
    assert identity.digest(TALK) != identity.digest(Text(text=""))


@pytest.mark.parametrize("row", [TALK, Text(text="Plain.", metadata={"a": 1})])
def test_a_row_is_written_read_and_changed_without_loss(row: Text) -> None:
    written = exported(named("text"), row)
    assert named("text").parse(json.loads(json.dumps(written))) == row.model_copy(update={"origin": ""})
    assert parted(row, joined(row)) == row
    assert better(row).prompt() == (row.messages or (Message(role="user", content="Plain."),))


def test_differences_of_conversations_are_told() -> None:
    other = TALK.model_copy(update={"messages": TALK.messages[:2]})
    [(name, (mine, theirs))] = differences(TALK, other).items()
    assert name == "prompt"
    assert "Thanks." in mine
    assert "Thanks." not in theirs
    assert outline(TALK) == ["Thanks."]
    assert outline(Text(text="Plain.")) == ["Plain."]
