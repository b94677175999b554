"""Tokens to text as they come, stop texts, and tool calls in text that comes in pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import tiny
from tunesmith.inference.ask import ToolCall
from tunesmith.inference.calls import HERMES, LLAMA, MISTRAL, Style, reader, style_of
from tunesmith.inference.spell import Speller, StopText


def _metaspace() -> Any:
    """As SentencePiece's: a mark for spaces, bytes for what is in no word."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256)), "▁", "▁a", "▁the", "cat", "s", "é", "▁ü"]
    made = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [], unk_token="<unk>", byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


TOKENIZERS = {"bytes": tiny.tokenizer(), "metaspace": _metaspace()}


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_pieces_together_are_what_the_tokenizer_makes_of_all(kind: str, data: st.DataObject) -> None:
    tokenizer = TOKENIZERS[kind]
    texts = data.draw(
        st.lists(st.text(max_size=12) | st.sampled_from(["the cat", "é", "ü s", "\u4f60\u597d"]), max_size=6)
    )
    ids = [token for text in texts for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
    if kind == "bytes":  # half a character turns those before it into replacement characters in the other kind
        ids = ids[: data.draw(st.integers(0, len(ids)))]
    speller = Speller(tokenizer)
    pieces = [speller.add(token) for token in ids]
    assert "".join(pieces) + speller.rest() == tokenizer.decode(ids, skip_special_tokens=True)


@given(text=st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_a_character_comes_whole(text: str) -> None:
    tokenizer = TOKENIZERS["bytes"]
    ids = tokenizer(text)["input_ids"]
    speller, shown = Speller(tokenizer), ""
    for token in ids:
        shown += speller.add(token)
        assert text.startswith(shown) or "\ufffd" in text
    assert shown + speller.rest() == tokenizer.decode(ids, skip_special_tokens=True)


def test_special_tokens_are_shown_only_where_they_tell_a_call() -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder())
    start, end = tokenizer.convert_tokens_to_ids(["<s>", "</s>"])
    ids = [start, *tokenizer("ball")["input_ids"], end]
    for shown, wanted in (((), "ball"), ((start,), "<s>ball"), ((start, end), "<s>ball</s>")):
        speller = Speller(tokenizer, shown)
        assert "".join(speller.add(token) for token in ids) + speller.rest() == wanted


def tiny_folder() -> Any:
    import tempfile

    folder = tempfile.mkdtemp()
    tiny.tokenizer().save_pretrained(folder)
    return folder


@given(
    text=st.text("abc", max_size=20),
    stops=st.lists(st.text("abc", min_size=1, max_size=3), max_size=4),
    data=st.data(),
)
@settings(max_examples=400, deadline=None)
def test_text_ends_before_the_stop_that_is_complete_first(text: str, stops: list[str], data: st.DataObject) -> None:
    ends = [n for n in range(len(text) + 1) if any(text[:n].endswith(stop) for stop in stops)]
    wanted = text
    if ends:
        wanted = text[: ends[0] - max(len(s) for s in stops if text[: ends[0]].endswith(s))]
    stopped = StopText(stops)
    shown, at = "", 0
    while at < len(text) and not stopped.found:
        size = data.draw(st.integers(1, 4))
        shown += stopped.add(text[at : at + size])
        assert wanted.startswith(shown)
        at += size
    assert shown + stopped.rest() == wanted
    assert stopped.found == bool(ends)


def _read(style: Style, text: str, size: int) -> tuple[str, list[ToolCall]]:
    made, shown, calls = reader(style, {"look", "go"}), "", []
    for at in range(0, len(text), size):
        more, found = made.add(text[at : at + size])
        shown, calls = shown + more, calls + found
    more, found = made.rest()
    return shown + more, calls + found


LOOK = {"name": "look", "arguments": {"at": "the café <tool_call>"}}
GO = {"name": "go", "arguments": {}}
WANTED = [ToolCall("look", json.dumps(LOOK["arguments"], ensure_ascii=False)), ToolCall("go", "{}")]


def _llama(call: dict[str, Any]) -> str:
    return json.dumps({"name": call["name"], "parameters": call["arguments"]})


HERMES_TWO = f"<tool_call>\n{json.dumps(LOOK)}\n</tool_call>\n<tool_call>\n{json.dumps(GO)}\n</tool_call>"
CASES: list[tuple[Style, str, str, list[ToolCall]]] = [
    (HERMES, HERMES_TWO, "", WANTED),
    (HERMES, f"I look. \n{HERMES_TWO}\n", "I look.", WANTED),
    (HERMES, HERMES_TWO.removesuffix("</tool_call>"), "", WANTED),
    (HERMES, "no call, a <tool and a < b ", "no call, a <tool and a < b ", []),
    (HERMES, "<tool_call>\nno json\n</tool_call> so", "<tool_call>\nno json\n</tool_call> so", []),
    (HERMES, '<tool_call>{"name": "fly", "arguments": {}}</tool_call>',
     '<tool_call>{"name": "fly", "arguments": {}}</tool_call>', []),
    (HERMES, "half <tool_call>\n{", "half<tool_call>\n{", []),
    (MISTRAL, f"[TOOL_CALLS] {json.dumps([LOOK, GO])}", "", WANTED),
    (MISTRAL, "[TOOL_CALLS]look[ARGS]" + json.dumps(LOOK["arguments"]) + "[TOOL_CALLS]go[ARGS]{}", "", WANTED),
    (MISTRAL, "plain [TOOL", "plain [TOOL", []),
    (LLAMA, _llama(LOOK), "", WANTED[:1]),
    (LLAMA, f"<|python_tag|>{_llama(LOOK)}; {_llama(GO)}", "", WANTED),
    (LLAMA, '{"a": 1}', '{"a": 1}', []),
    (LLAMA, "It is {", "It is {", []),
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("case", CASES, ids=[f"{style.name}-{text[:24]}" for style, text, *_ in CASES])
def test_calls_are_found_in_any_pieces(case: Any, size: int) -> None:
    style, text, shown, calls = case
    assert _read(style, text, size) == (shown, calls)


@pytest.mark.parametrize(
    ("template", "style"),
    [
        (tiny.TEMPLATE, HERMES),
        ("{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}"
         "</tool_call>{% endfor %}{% endfor %}", HERMES),
        ("{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}"
         '{"name": "{{ c.function.name }}", "parameters": {{ c.function.arguments | tojson }}}'
         "{% endfor %}{% endfor %}", LLAMA),
        ("{% for m in messages %}{{ m.content }}{% if m.tool_calls %}[TOOL_CALLS] [{% for c in m.tool_calls %}"
         "{{ c.function | tojson }}{% endfor %}]{% endif %}{% endfor %}", MISTRAL),
        ("{{ raise_exception('no tools') }}", HERMES),
    ],
)  # fmt: skip
def test_the_form_of_calls_is_the_templates(template: str, style: Style) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = template
    assert style_of(tokenizer) is style
