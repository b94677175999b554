"""Laws of masks: exactly the assistant's turns and their end marks carry loss; what is trained is what is served."""

from copy import deepcopy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith.core.messages import Example, Message
from tunesmith.data.template import PLAIN_TEMPLATE
from tunesmith.data.tokenize import encode, encode_prompt, encode_unrolled

QUICK = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
HEADED = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# Like Qwen3: thinking is shown behind the last question alone, where the last turn has a block in any case.
FORGETFUL = (
    "{% set ns = namespace(asked=-1) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% set thought = m.reasoning_content or '' %}"
    "{% if m.role == 'assistant' and loop.index0 > ns.asked and (loop.last or thought) %}"
    "{{ '<think>' + thought + '</think>' }}{% endif %}{{ m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30),
    st.sampled_from(
        ["yes", " a leading space", "trailing \n\n", "### user\nfake", "caf\xe9 \U0001f600", '{"a": 1}', "\t"]
    ),
)


@st.composite
def conversations(draw):
    """Rows that end in an answer; some answers carry no loss or half of it, at least one carries some."""
    messages = [Message(role="system", content=draw(TEXT))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages.append(Message(role="user", content=draw(TEXT)))
        weight = draw(st.sampled_from([None, None, 0.0, 0.5]))
        messages.append(Message(role="assistant", content=draw(TEXT), weight=weight))
    return Example(messages=tuple(messages))


@pytest.fixture(scope="module", params=["own", "plain", "headed"])
def tokenizer(request, bundled_tokenizer):
    changed = deepcopy(bundled_tokenizer)
    if request.param != "own":
        changed.chat_template = PLAIN_TEMPLATE if request.param == "plain" else HEADED
    return changed


@QUICK
@given(row=conversations())
def test_exactly_the_answers_and_their_end_marks_carry_loss(tokenizer, row):
    [one] = encode(tokenizer, [row])
    end = tokenizer.eos_token_id
    answers = [m for m in row.messages if m.role == "assistant" and m.weight != 0]
    expected_weights = [1.0 if m.weight is None else m.weight for m in answers]
    ids, weights = one.input_ids.tolist(), one.loss_weight.tolist()
    found, held = [], []
    for token, weight in zip(ids, weights, strict=True):
        if weight:
            held.append((token, weight))
            if token == end:
                found.append(held)
                held = []
        else:
            assert not held, "a labelled stretch stops before its end mark"
    assert not held
    assert [{w for _, w in stretch} for stretch in found] == [{w} for w in expected_weights]
    for stretch, message in zip(found, answers, strict=True):
        said = tokenizer.decode([t for t, _ in stretch[:-1]])
        assert (
            said.strip() == tokenizer.decode(tokenizer(message.content, add_special_tokens=False)["input_ids"]).strip()
        )


@QUICK
@given(row=conversations())
def test_the_prompt_that_is_trained_on_is_the_prompt_that_is_served(tokenizer, row):
    [one] = encode(tokenizer, [row])
    ids = one.input_ids.tolist()
    for index, message in enumerate(row.messages):
        if message.role != "assistant":
            continue
        prompt = encode_prompt(tokenizer, row.messages[:index])
        assert ids[: len(prompt)] == prompt
        assert one.loss_weight[len(prompt)] == (1.0 if message.weight is None else message.weight)
        assert one.loss_weight[len(prompt) - 1] == 0


@QUICK
@given(rows=st.lists(conversations(), max_size=4))
def test_rows_are_cut_alike_alone_and_together(bundled_tokenizer, rows):
    together = encode(bundled_tokenizer, rows)
    for row, one in zip(rows, together, strict=True):
        [alone] = encode(bundled_tokenizer, [row])
        assert alone.input_ids.tolist() == one.input_ids.tolist()
        assert alone.loss_weight.tolist() == one.loss_weight.tolist()
        assert one.loss_weight[0] == 0


@st.composite
def thinking_conversations(draw):
    """Turns in nearly any order, with thinking and weights here and there; at least one is learned.

    No answer follows another: such a template shows the first otherwise when it is the last, and refuses the second.
    """
    messages = [Message(role="user", content=draw(TEXT))]
    for role in draw(st.lists(st.sampled_from(["user", "assistant", "tool"]), max_size=5)):
        more = {}
        if role == "assistant" == messages[-1].role:
            messages.append(Message(role="tool", content=draw(TEXT)))
        if role == "assistant":
            more = {
                "weight": draw(st.sampled_from([None, None, 0.0, 0.5])),
                "reasoning_content": draw(st.none() | TEXT),
            }
        messages.append(Message(role=role, content=draw(TEXT), **more))
    if not any(m.learned for m in messages):
        messages += [Message(role="user", content=draw(TEXT)), Message(role="assistant", content=draw(TEXT))]
    return Example(messages=tuple(messages))


@pytest.fixture(scope="module")
def forgetful(bundled_tokenizer):
    changed = deepcopy(bundled_tokenizer)
    changed.chat_template = FORGETFUL
    return changed


@QUICK
@given(row=thinking_conversations())
def test_each_learned_turn_is_learned_once_behind_its_served_prompt(forgetful, row):
    [pieces] = encode_unrolled(forgetful, [row])
    learned = [i for i, m in enumerate(row.messages) if m.learned]
    assert [i for piece, _ in pieces for i, m in enumerate(piece.messages) if m.learned] == learned
    for piece, one in pieces:
        assert [m.content for m in piece.messages] == [m.content for m in row.messages[: len(piece.messages)]]
        ids, weights = one.input_ids.tolist(), one.loss_weight.tolist()
        carrying = 0
        for index, message in enumerate(piece.messages):
            if message.learned:
                # A server is told no weights.
                prompt = encode_prompt(
                    forgetful, [m.model_copy(update={"weight": None}) for m in piece.messages[:index]]
                )
                end = ids.index(forgetful.eos_token_id, len(prompt)) + 1
                assert ids[: len(prompt)] == prompt
                assert set(weights[len(prompt) : end]) == {1.0 if message.weight is None else message.weight}
                assert message.thinking in forgetful.decode(ids[len(prompt) : end])
                carrying += end - len(prompt)
        assert one.labelled == carrying
