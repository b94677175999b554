"""Conversations to text, spans and tokens: hand-worked cases. The laws are in properties/test_masks.py."""

from copy import deepcopy

import numpy as np
import pytest

from tunesmith.core.messages import Example, Message
from tunesmith.data import checks
from tunesmith.data.template import PLAIN_TEMPLATE, TemplateError, render, render_example, render_prompt
from tunesmith.data.tokenize import Encoded, encode, encode_text


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


def test_a_template_that_raises_is_refused_with_its_reason(bundled_tokenizer):
    strict = under(bundled_tokenizer, "{{ raise_exception('no system role here') }}")
    with pytest.raises(TemplateError, match="no system role here"):
        render_example(strict, CHAT)


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
    [finding] = checks.unrenderable([CHAT, bad, CHAT], [first, second, third])
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
    [finding] = checks.end_of_turn([row], encode(open_ended, [row]), open_ended)
    assert (finding.code, finding.severity) == ("no_end_of_turn", "warn")
    assert not list(checks.end_of_turn([row], encode(bundled_tokenizer, [row]), bundled_tokenizer))


def test_a_prompt_that_others_would_cut_otherwise_is_found(bundled_tokenizer):
    gluing = under(
        bundled_tokenizer,
        "{% for m in messages %}{% if m['role'] == 'assistant' %}\n{% endif %}{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}\n{% endif %}",
    )
    row = turns(("user", "say it"), ("assistant", "I am under"), ("user", "standing it"), ("assistant", "fine"))
    [finding] = checks.served_prompt([row], gluing)
    assert (finding.code, finding.rows) == ("prompt_tokens_differ", ("f:1",))
    assert not list(checks.served_prompt([row], bundled_tokenizer))


def test_too_long_rows_follow_the_policy():
    row = turns(("user", "x"), ("assistant", "y"))
    long = Encoded(np.arange(9, dtype=np.int32), np.ones(9, dtype=np.float32))
    for policy, severity in (("error", "block"), ("drop", "warn"), ("truncate", "warn")):
        [finding] = checks.too_long([row, row], [long, long.cut(8)], 8, policy)
        assert (finding.severity, finding.count) == (severity, 1)
        assert "longest has 9" in finding.message
    assert not list(checks.too_long([row], [long], 9, "error"))


def test_repetitions_and_contradictions_are_told_apart():
    rows = [
        turns(("user", "a"), ("assistant", "1")), turns(("user", "A "), ("assistant", "1")),
        turns(("user", "a"), ("assistant", "2")), turns(("user", "b"), ("assistant", "1")),
    ]  # fmt: skip
    rows = [r.model_copy(update={"origin": f"f:{i}"}) for i, r in enumerate(rows)]
    found = {f.code: f.rows for f in checks.duplicates(rows)}
    assert found == {"duplicate_rows": ("f:1",), "conflicting_answers": ("f:2",)}


def test_a_row_without_any_loss_blocks():
    row = turns(("user", "x"), ("assistant", "y"))
    nothing = Encoded(np.arange(4, dtype=np.int32), np.zeros(4, dtype=np.float32))
    [finding] = checks.no_supervision([row], [nothing])
    assert (finding.severity, finding.rows) == ("block", ("f:1",))
