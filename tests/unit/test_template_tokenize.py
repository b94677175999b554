"""Conversations to text, spans and tokens: hand-worked cases. The laws are in properties/test_masks.py."""

import json
from copy import deepcopy

import numpy as np
import pytest

import tiny
from tunesmith.core.messages import Example, Message, spoken
from tunesmith.data import checks
from tunesmith.data.fitting import Fitting
from tunesmith.data.keys import Keys
from tunesmith.data.template import PLAIN_TEMPLATE, TemplateError, render, render_example, render_prompt
from tunesmith.data.tokenize import Encoded, encode, encode_rows, encode_text, encode_unrolled, end_of_turn_id
from tunesmith.pipelines.prepare import prepare
from tunesmith.pipelines.recipe import RunSpec


def turns(*pairs, **more):
    return Example(messages=tuple(Message(role=role, content=text) for role, text in pairs), origin="f:1", **more)


CHAT = turns(("system", "be brief"), ("user", "2+2?"), ("assistant", "4"), ("user", "3+3?"), ("assistant", "6"))


@pytest.fixture
def plain(bundled_tokenizer):
    """The bundled tokenizer under the template for tokenizers that have none."""
    tokenizer = deepcopy(bundled_tokenizer)
    tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer


def under(tokenizer, template):
    changed = deepcopy(tokenizer)
    changed.chat_template = template
    return changed


def spans(rendered):
    return [rendered.text[s.start : s.end] for s in rendered.spans]


def test_the_bundled_template_is_chatml_word_for_word(bundled_tokenizer):
    assert render(bundled_tokenizer, CHAT.messages[:2], None, prompt=True) == (
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_spans_are_the_answers_with_their_end_mark(bundled_tokenizer):
    assert spans(render_example(bundled_tokenizer, CHAT)) == ["4<|im_end|>", "6<|im_end|>"]


def test_spans_under_the_plain_template(plain):
    rendered = render_example(plain, CHAT)
    assert spans(rendered) == ["4<|im_end|>", "6<|im_end|>"]
    assert rendered.text.startswith("### system\nbe brief\n\n### user\n2+2?\n\n### assistant\n4")


def test_a_served_prompt_ends_with_the_opening_of_the_answer(bundled_tokenizer):
    rendered = render_prompt(bundled_tokenizer, CHAT.prompt(), None)
    assert rendered.text.rsplit("3+3?", 1)[1].replace("<|im_end|>\n", "<|im_end|>") == (
        "<|im_end|><|im_start|>assistant\n"
    )
    assert spans(rendered) == ["4<|im_end|>"]


def test_weights_of_turns_become_weights_of_tokens(bundled_tokenizer):
    messages = tuple(
        m.model_copy(update={"weight": w}) for m, w in zip(CHAT.messages, (None, None, 0, None, 0.25), strict=True)
    )
    [one] = encode(bundled_tokenizer, [Example(messages=messages)])
    assert set(one.loss_weight.tolist()) == {0.0, 0.25}
    assert one.labelled == 2
    assert bundled_tokenizer.decode(one.input_ids[one.loss_weight > 0]) == "6<|im_end|>"


def test_a_template_that_rewrites_earlier_turns_is_refused(bundled_tokenizer):
    forgetful = under(
        bundled_tokenizer,
        "{% for m in messages %}{% if m['role'] != 'assistant' or loop.last %}[{{ m['role'] }}]{{ m['content'] }}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}",
    )
    with pytest.raises(TemplateError, match="turn 2 otherwise in training"):
        render_example(forgetful, CHAT)


def test_turns_that_would_overlap_are_refused(bundled_tokenizer):
    """A prompt of the first message alone: each answer would begin behind it, over all that was said between."""
    short_sighted = under(
        bundled_tokenizer,
        "{% for m in messages %}{% if loop.first or not add_generation_prompt %}{{ m['content'] }};{% endif %}"
        "{% endfor %}",
    )
    assert spans(render_example(short_sighted, turns(("user", "2+2?"), ("assistant", "4")))) == ["4;"]
    [refused] = encode_unrolled(short_sighted, [turns(*[("user", "2+2?"), ("assistant", "4")] * 2)])
    assert "turn 3 otherwise in training" in str(refused)


def test_a_template_that_raises_is_refused_with_its_reason(bundled_tokenizer):
    strict = under(bundled_tokenizer, "{{ raise_exception('no system role here') }}")
    with pytest.raises(TemplateError, match="no system role here"):
        render_example(strict, CHAT)


def fitted(tokenizer, rows, max_length=99, **options):
    """What is told of rows under a template."""
    fitting = Fitting(tokenizer, max_length, "error", **options)
    for row, shown in encode_rows(tokenizer, rows):
        fitting.take(row, shown)
    return list(fitting.findings(ends=True))


def told(fitting, rows, encoded):
    """What is told of rows with these tokens."""
    for row, one in zip(rows, encoded, strict=True):
        fitting.take(row, [(row, one)])
    return list(fitting.findings(ends=True))


def test_a_refused_row_leaves_the_others_in_their_places(bundled_tokenizer):
    picky = under(
        bundled_tokenizer,
        "{% for m in messages %}{% if m['role'] == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
        "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    )
    bad = turns(("user", "x"), ("tool", "y"), ("assistant", "z"))
    first, second, third = encode(picky, [CHAT, bad, CHAT])
    assert isinstance(second, TemplateError)
    assert first.input_ids.tolist() == third.input_ids.tolist()
    [finding] = fitted(picky, [CHAT, bad, CHAT])
    assert (finding.severity, finding.rows) == ("block", ("f:1",))


def test_tool_calls_that_the_template_leaves_out_are_no_silent_empty_answer(bundled_tokenizer):
    call = Message(role="assistant", tool_calls=({"function": {"name": "add", "arguments": {"a": 1}}},))
    row = Example(messages=(Message(role="user", content="add"), call))
    with pytest.raises(TemplateError, match="does not show the tool calls of turn 1"):
        render_example(bundled_tokenizer, row)
    shows = under(
        bundled_tokenizer,
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}{% for c in m['tool_calls'] or [] %}"
        "{{ c['function'] | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    )
    [span] = spans(render_example(shows, row))
    assert '"name": "add"' in span


def test_the_first_token_carries_no_loss(bundled_tokenizer):
    [one] = encode(under(bundled_tokenizer, "{% for m in messages %}{{ m['content'] }}{% endfor %}"), [
        Example(messages=(Message(role="user", content=""), Message(role="assistant", content="hello there you")))
    ])  # fmt: skip
    assert one.loss_weight[0] == 0
    assert one.labelled == len(one.input_ids) - 1 > 0


def test_cutting_keeps_the_beginning_and_says_so():
    one = Encoded(np.arange(5, dtype=np.int32), np.array([0, 0, 1, 1, 1], dtype=np.float32))
    assert one.cut(5) is one
    short = one.cut(3)
    assert (short.input_ids.tolist(), short.labelled, short.truncated) == ([0, 1, 2], 1, True)


def test_plain_text_is_all_labelled_but_the_first_token(bundled_tokenizer):
    one = encode_text(bundled_tokenizer, "Once upon a time")
    assert one.labelled == len(one.input_ids) - 1
    assert encode(bundled_tokenizer, []) == []


def test_an_answer_without_an_end_mark_is_found(bundled_tokenizer):
    open_ended = under(
        bundled_tokenizer,
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}",
    )
    row = turns(("user", "x"), ("assistant", "yes"))
    [finding] = fitted(open_ended, [row])
    assert (finding.code, finding.severity) == ("no_end_of_turn", "warn")
    assert not fitted(bundled_tokenizer, [row])


def test_an_earlier_learned_turn_without_an_end_mark_is_found(bundled_tokenizer):
    end = bundled_tokenizer.eos_token_id
    ids = np.array([5, 6, 7, 5, 8, end], dtype=np.int32)
    weights = [[0, 0, 1, 0, 1, 1], [0, 1, 1, 1, 1, 1], [0, 0, 1, 0, 0, 1]]
    rows = [Encoded(ids, np.array(w, dtype=np.float32)) for w in weights]
    examples = [turns(("user", "x"), ("assistant", "y")).model_copy(update={"origin": f"f:{i}"}) for i in range(3)]
    [finding] = told(Fitting(bundled_tokenizer, 9, "error"), examples, rows)
    assert finding.rows == ("f:0", "f:2")
    _, finding = told(Fitting(bundled_tokenizer, 5, "truncate"), examples, rows)
    assert finding.rows == ("f:0", "f:2"), "what the limit cut off has no end, what stands before it has"


def test_too_long_rows_follow_the_policy(bundled_tokenizer):
    row = turns(("user", "x"), ("assistant", "y"))
    long = Encoded(np.arange(9, dtype=np.int32), np.ones(9, dtype=np.float32))
    for policy, severity in (("error", "block"), ("drop", "warn"), ("truncate", "warn")):
        fitting = Fitting(bundled_tokenizer, 8, policy)
        taken = fitting.take(row, [(row, long)]) + fitting.take(row, [(row, long.cut(8))])
        assert [len(one.input_ids) for _, one in taken] == ([8] if policy == "drop" else [8, 8])
        [finding] = fitting.findings(ends=False)
        assert (finding.severity, finding.count) == (severity, 1)
        assert "longest has 9" in finding.message
    assert "too_long" not in {f.code for f in told(Fitting(bundled_tokenizer, 9, "error"), [row], [long])}


def test_repetitions_and_contradictions_are_told_apart():
    rows = [
        turns(("user", "a"), ("assistant", "1")), turns(("user", "A "), ("assistant", "1")),
        turns(("user", "a"), ("assistant", "2")), turns(("user", "b"), ("assistant", "1")),
    ]  # fmt: skip
    rows = [r.model_copy(update={"origin": f"f:{i}"}) for i, r in enumerate(rows)]
    found = {f.code: f.rows for f in checks.duplicates(rows, Keys.of(rows))}
    assert found == {"duplicate_rows": ("f:1 = f:0",), "conflicting_answers": ("f:2 = f:0",)}


def test_a_row_without_any_loss_blocks(bundled_tokenizer):
    row = turns(("user", "x"), ("assistant", "y"))
    nothing = Encoded(np.arange(4, dtype=np.int32), np.zeros(4, dtype=np.float32))
    [finding] = told(Fitting(bundled_tokenizer, 9, "error"), [row], [nothing])
    assert (finding.severity, finding.rows) == ("block", ("f:1",))


# Shows the answers but the last without their end: no answer but the last stands as it was served.
FORGETFUL = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{{ '<|im_end|>' if m['role'] != 'assistant' or loop.last else '...' }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_unrolled_rows_are_counted_once(bundled_tokenizer):
    forgetful = under(bundled_tokenizer, FORGETFUL)
    rows = [CHAT, turns(("user", "x"), ("assistant", "y")), turns(("assistant", "y")), CHAT]
    [_, finding] = fitted(forgetful, rows)
    assert (finding.code, finding.severity, finding.count) == ("unrolled", "info", 2)
    assert "one example for each answer (4 in all)" in finding.message
    [_, finding] = fitted(forgetful, rows, last_only=True)
    assert "its last answer alone is scored" in finding.message
    assert [f.code for f in fitted(forgetful, rows[1:3])] == ["template_refuses"]
    long = {f.code: f.rows for f in fitted(forgetful, rows[:1], max_length=2)}
    assert long["too_long"] == ("f:1",), "a row is told once, though both of its pieces are too long"


@pytest.fixture
def base(tmp_path, bundled_tokenizer):
    """What preparing needs of a base: a tokenizer, here with a template that forgets, and a configuration."""
    folder = tmp_path / "base"
    under(bundled_tokenizer, FORGETFUL).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 256}))
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def conversation(number, turns=2):
    """`turns` questions and answers that no other number has."""
    asked = [{"role": "user", "content": f"question {number} {turn}"} for turn in range(turns)]
    said = [{"role": "assistant", "content": f"answer {number} {turn}"} for turn in range(turns)]
    return {"messages": [message for pair in zip(asked, said, strict=True) for message in pair]}


def prepared(folder, base, train, *, test=(), **data):
    for name, rows in (("train", train), ("test", test)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"train": [{"path": str(folder / "train.jsonl"), **data.pop("source", {})}], **data}
    if test:
        data["test"] = str(folder / "test.jsonl")
    return prepare(RunSpec.model_validate({"name": "x", "base": str(base), "data": data}))


def test_unrolled_rows_stay_beside_their_tokens_and_their_repetitions(tmp_path, base, bundled_tokenizer):
    rows = [conversation(0), conversation(1, turns=1), conversation(2, turns=3)]
    rows[2]["messages"][3]["weight"] = 0
    data = prepared(tmp_path, base, rows, validation=0.0, source={"weight": 2})
    train = data.train
    said = [f"answer {i}" for i in ("0 0", "0 1", "1 0", "2 0", "2 2")]
    assert [example.answer() for example in train.examples] == said
    learned = [bundled_tokenizer.decode(one.input_ids[one.loss_weight > 0]) for one in train.encoded]
    assert learned == [f"{text}<|im_end|>" for text in said]
    assert data.repeats == [2] * 5
    [finding] = [f for f in data.audit.findings if f.code == "unrolled"]
    assert (finding.severity, finding.rows) == ("info", ("train.jsonl:1", "train.jsonl:3"))
    assert data.audit.tokens.rows == 5
    assert [f.code for f in data.audit.blocking] == ["too_few_rows"]


def test_half_a_source_of_unrolled_rows_is_half_its_conversations(tmp_path, base):
    rows = [conversation(i) for i in range(8)]
    data = prepared(tmp_path, base, rows, validation=0.0, source={"weight": 0.5})
    assert data.repeats == [1] * 8
    assert [e.origin for e in data.train.examples[::2]] == [e.origin for e in data.train.examples[1::2]]


def test_pieces_of_a_conversation_never_stand_on_both_sides(tmp_path, base):
    data = prepared(tmp_path, base, [conversation(i, turns=3) for i in range(20)], validation=0.25)
    train, held = ([e.origin for e in rows.examples] for rows in (data.train, data.validation))
    assert (len(train), len(held)) == (45, 15)
    assert not set(train) & set(held)
    assert len(data.validation.encoded) == 15


def test_test_rows_are_not_multiplied(tmp_path, base, bundled_tokenizer):
    rows = [conversation(i) for i in range(3)]
    asked = [conversation(7, turns=3), conversation(8, turns=1)]
    data = prepared(tmp_path, base, rows, test=asked, validation=0.0)
    assert [e.answer() for e in data.test.examples] == ["answer 7 2", "answer 8 0"]
    assert [len(e.prompt()) for e in data.test.examples] == [5, 1]
    learned = [bundled_tokenizer.decode(one.input_ids[one.loss_weight > 0]) for one in data.test.encoded]
    assert learned == ["answer 7 2<|im_end|>", "answer 8 0<|im_end|>"]
    found = [f.rows for f in data.audit.findings if f.code == "unrolled"]
    assert found == [("train.jsonl:1", "train.jsonl:2", "train.jsonl:3"), ("test.jsonl:1",)]


def test_the_mark_that_closes_a_turn_is_found_even_where_the_tokenizer_lists_another_end() -> None:
    words = tiny.tokenizer()
    assert end_of_turn_id(words) == words.eos_token_id
    words.add_special_tokens({"additional_special_tokens": ["<done>"]})
    words.chat_template = tiny.TEMPLATE.replace("</s>", "<done>")
    assert end_of_turn_id(words) == words.convert_tokens_to_ids("<done>") != words.eos_token_id
    words.chat_template = tiny.TEMPLATE.replace("</s>", "")
    assert end_of_turn_id(words) is None
    words.chat_template = "{{ raise_exception('no') }}"
    assert end_of_turn_id(words) is None


def test_an_answer_is_scored_without_its_thinking() -> None:
    assert spoken("<think>\n\n</think>\n\n42") == "42"
    assert spoken("so I add\n</think>\n42") == "42", "the prompt may have opened the thinking"
    assert spoken("a < b") == "a < b"
    row = Example(messages=(Message(role="user", content="q"), Message(role="assistant", content="<think>x</think> y")))
    assert row.answer() == "y"
