"""Text that is spelled like a special token: found, and never one, in training and serving alike."""

import json
from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_model_templates import CASES, small_vocabulary, tokenizer_for
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from tokenizers.decoders import Metaspace
from transformers import PreTrainedTokenizerFast

import tiny
from tunesmith.core.messages import Example, Message
from tunesmith.data.check_special import SpecialTokens
from tunesmith.data.escape import Escape
from tunesmith.data.look import look
from tunesmith.data.supervision import Prompts
from tunesmith.data.template import PLAIN_TEMPLATE, render_prompt, special_tokens
from tunesmith.data.tokenize import encode, encode_prompt, encode_rows, encode_unrolled
from tunesmith.pipelines.prepare import prepare
from tunesmith.pipelines.recipe import RunSpec

FAMILIES = {name: CASES[name] for name in (
    "chatml one", "llama one", "mistral one", "gemma one", "phi3 one", "phi4 system", "qwen3 one",
    "deepseek, closed block",
)}  # fmt: skip
ADDER = {"type": "function", "function": {"name": "sky", "description": "the sky"}}


def row(question, answer="4", **more):
    said = Message(role="assistant", content=answer, **more)
    return Example(messages=(Message(role="user", content=question), said), origin="f:1")


def specials(tokenizer, ids):
    known = special_tokens(tokenizer)
    return [i for i in ids if i in known]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("real", [False, True], ids=["small", "smollm2"])
def test_what_a_user_types_adds_no_special_token_under_any_template(name, real, request):
    vocabulary = small_vocabulary()
    if real:
        vocabulary = (request.getfixturevalue("shared") / "tokenizers/smollm2/tokenizer.json").read_text("utf-8")
    tokenizer = tokenizer_for(FAMILIES[name][0], vocabulary)
    plain, typed = (encode(tokenizer, [row(text)])[0].input_ids.tolist() for text in ("a  b", "a {} b"))
    assert specials(tokenizer, plain) == specials(tokenizer, typed)
    for token in special_tokens(tokenizer).values():
        typed = row(f"a {token} b", f"4{token}")
        [encoded] = encode(tokenizer, [typed])
        ids = encoded.input_ids.tolist()
        assert specials(tokenizer, ids) == specials(tokenizer, plain), token
        assert f"a {token} b" in tokenizer.decode(ids), "not a character is added or lost"
        prompt = encode_prompt(tokenizer, typed.prompt())
        assert ids[: len(prompt)] == prompt


PARTS = [
    "<|im_end|>",
    "<|im_start|>",
    "<|endoftext|>",
    "<|",
    "|>",
    "<",
    "im_end",
    "\n",
    " ",
    "assistant",
    "é",
    "{",
    '"',
]


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.lists(st.sampled_from(PARTS), max_size=8).map("".join), min_size=3, max_size=3))
def test_no_text_whatever_changes_which_tokens_are_special(texts, bundled_tokenizer):
    """Question, answer and a second question, each from pieces of marks; the law is about the special tokens' order."""
    both = []
    for first, second, third in (texts, ["x"] * 3):
        turns = [("user", first), ("assistant", second), ("user", third), ("assistant", "yes")]
        one = Example(messages=tuple(Message(role=role, content=text) for role, text in turns))
        [encoded] = encode(bundled_tokenizer, [one])
        prompt = encode_prompt(bundled_tokenizer, one.prompt())
        assert encoded.input_ids[: len(prompt)].tolist() == prompt
        assert bundled_tokenizer.decode(prompt) == render_prompt(bundled_tokenizer, one.prompt(), None).text
        both.append(specials(bundled_tokenizer, encoded.input_ids.tolist()))
    assert both[0] == both[1]


def test_a_row_without_such_text_has_the_tokens_it_always_had(bundled_tokenizer):
    rendered = render_prompt(bundled_tokenizer, row("what is <b>2+2</b>?").prompt(), None)
    assert rendered.cuts == ()
    assert rendered.text == "<|im_start|>user\nwhat is <b>2+2</b>?<|im_end|>\n<|im_start|>assistant\n"


def test_thinking_calls_and_tools_are_text_too():
    family = FAMILIES["qwen3 one"][0]
    tokenizer = deepcopy(tokenizer_for(family, small_vocabulary()))
    tokenizer.chat_template = "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}" + tokenizer.chat_template
    both = []
    for text in ("<|im_end|>", "fine"):
        # JSON may spell the mark with escapes that reading undoes.
        arguments = json.dumps({"at": text, text: [text]}).replace("<", "\\u003c")
        call = {"id": "1", "type": "function", "function": {"name": "sky", "arguments": arguments}}
        tool = {**ADDER, "function": {"name": "sky", "description": text}}
        turns = (
            Message(role="user", content="Warm?"),
            Message(role="assistant", reasoning_content=f"hm {text}", tool_calls=(call,)),
            Message(role="tool", content=f"31 {text} C"),
            Message(role="assistant", content="Yes."),
        )
        [pieces] = encode_unrolled(tokenizer, [Example(messages=turns, tools=(tool,))])
        both.append([specials(tokenizer, encoded.input_ids.tolist()) for _, encoded in pieces])
        shown = "".join(tokenizer.decode(encoded.input_ids) for _, encoded in pieces)
        assert f"hm {text}" in shown
        assert f'"description": "{text}"' in shown
        assert f'{{"at": "{text}", "{text}": ["{text}"]}}' in shown
    assert both[0] == both[1]


def test_marks_of_thinking_in_an_answer_stay_marks_even_where_they_are_special():
    tokenizer = deepcopy(tokenizer_for(FAMILIES["qwen3 one"][0], small_vocabulary()))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    mark = tokenizer.convert_tokens_to_ids("</think>")
    [[(_, encoded)]] = encode_unrolled(tokenizer, [row("2+2?", "<think>\ntwo twos\n</think>\n\n4")])
    assert encoded.input_ids.tolist().count(mark) == 1
    assert tokenizer.decode(encoded.input_ids).count("</think>") == 1, "the template knew the thinking"
    [[(_, encoded)]] = encode_unrolled(tokenizer, [row("what is </think>?", "<think>\na mark\n</think>\n\n4")])
    assert encoded.input_ids.tolist().count(mark) == 1, "the user's is text"


def test_tokens_that_overlap_are_all_cut():
    escape = Escape(["<a><b>", "<b><c>", "x"])
    guarded = escape.guard([Message(role="user", content="<a><b><c> x cutHere0x")], None)
    assert guarded.unmark(guarded.messages[0].content) == ("<a><b><c> x cutHere0x", [1, 4])
    assert escape.guard([Message(role="user", content="<a> <b> x")], None).mark == ""


def test_a_vocabulary_that_holds_the_mark_as_a_word_still_reads_text():
    """Unigram models hold </s> as a piece with the best of scores: to tell them to split it is too little."""
    letters = [(letter, -5.0) for letter in "▁</s>abqu:#\nernti"]
    made = Tokenizer(models.Unigram([("<unk>", 0.0), ("</s>", 0.0), *letters], unk_id=0))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), Metaspace()
    made.add_special_tokens([AddedToken("</s>", special=True)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", chat_template=PLAIN_TEMPLATE)
    end = tokenizer.eos_token_id
    assert end in tokenizer("a</s>b", add_special_tokens=False, split_special_tokens=True)["input_ids"]
    [encoded] = encode(tokenizer, [row("a</s>b", "b</s>a")])
    assert encoded.input_ids.tolist().count(end) == 1
    assert encoded.input_ids[encoded.loss_weight > 0][-1] == end


def test_rows_that_spell_special_tokens_are_found(bundled_tokenizer):
    rows = [row(f"question {i}?").model_copy(update={"origin": f"f:{i}"}) for i in range(40)]
    rows[7] = row("what does <|im_end|> do?").model_copy(update={"origin": "f:7"})
    rows[9] = row("x", "done<|endoftext|>").model_copy(update={"origin": "f:9"})
    [finding] = look(rows, [SpecialTokens(bundled_tokenizer)])
    assert (finding.code, finding.severity, finding.rows) == ("special_token_in_text", "warn", ("f:7", "f:9"))
    assert "<|im_end|> (1)" in finding.message
    prompts = Prompts(bundled_tokenizer, 1)
    [(asked, shown)] = encode_rows(bundled_tokenizer, rows[7:8])
    assert isinstance(shown, list), asked
    prompts.see(0, shown)
    assert not list(prompts.findings()), "told once"
    assert not list(look(rows[:7], [SpecialTokens(bundled_tokenizer)]))


def test_a_run_tells_of_them(tmp_path):
    content = tiny.rows(0, 30)
    content[4]["messages"][0]["content"] = "What is <|im_start|>?"
    path = tiny.write_rows(tmp_path / "train.jsonl", content)
    data = prepare(RunSpec.model_validate({"base": "bundled/tunesmith-8m", "data": {"train": str(path)}}))
    assert {f.rows for f in data.audit.findings if f.code == "special_token_in_text"} == {("train.jsonl:5",)}
