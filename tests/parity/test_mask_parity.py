"""Our spans beside the mask that transformers makes from a template's own {% generation %} marks."""

from copy import deepcopy

import pytest

from tunesmith.core.messages import Example, Message
from tunesmith.data.load import load
from tunesmith.data.tokenize import encode
from tunesmith.pipelines.demo import FOLDER

CASES = [
    [("user", "2+2?"), ("assistant", "4")],
    [("system", "be brief"), ("user", "2+2?"), ("assistant", "4"), ("user", "3+3?"), ("assistant", "6, surely")],
    [("user", "a"), ("assistant", "caf\xe9 \U0001f600"), ("user", "b"), ("assistant", '{"a": [1, 2]}')],
    [("user", "a"), ("assistant", "first"), ("assistant", "second")],
    [("user", "two\nlines\n\n"), ("assistant", " spaces around ")],
]


def theirs(tokenizer, example):
    return tokenizer.apply_chat_template(
        [m.template_form() for m in example.messages],
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )


def compared(tokenizer, example):
    [ours] = encode(tokenizer, [example])
    reference = theirs(tokenizer, example)
    assert ours.input_ids.tolist() == list(reference["input_ids"])
    assert (ours.loss_weight > 0).astype(int).tolist() == list(reference["assistant_masks"])
    assert sum(reference["assistant_masks"]) > 0


@pytest.mark.parametrize("turns", CASES)
def test_hand_made_conversations(bundled_tokenizer, turns):
    compared(bundled_tokenizer, Example(messages=tuple(Message(role=r, content=c) for r, c in turns)))


def test_rows_of_the_packaged_data(bundled_tokenizer):
    for example in load(FOLDER / "train.jsonl", limit=60).examples:
        compared(bundled_tokenizer, example)


# The shapes of Llama 3 (trimmed answers), Phi (a second mark closes the conversation) and Gemma (another role's name).
MARKED = {
    "llama": "{% for m in messages %}{{ '<|im_start|>' + m.role + '<|im_start|>\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ (m.content | trim) + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ (m.content | trim) + '<|im_end|>' }}{% endif %}{% endfor %}",
    "phi": "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content + '<|im_start|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ m.content + '<|im_start|>\n' }}{% endif %}{% endfor %}"
    "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}",
    "gemma": "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|im_start|>model\n' }}"
    "{% generation %}{{ (m.content | trim) + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\n' + (m.content | trim) + '<|im_end|>\n' }}{% endif %}{% endfor %}",
}
OPENING = {
    "llama": "<|im_start|>assistant<|im_start|>\n",
    "phi": "<|im_start|>assistant\n",
    "gemma": "<|im_start|>model\n",
}


@pytest.mark.parametrize("turns", CASES)
@pytest.mark.parametrize("name", MARKED)
def test_templates_in_the_shape_of_other_families(bundled_tokenizer, name, turns):
    tokenizer = deepcopy(bundled_tokenizer)
    opening = "{% if add_generation_prompt %}{{ '" + OPENING[name] + "' }}{% endif %}"
    tokenizer.chat_template = MARKED[name] + opening
    compared(tokenizer, Example(messages=tuple(Message(role=r, content=c) for r, c in turns)))


@pytest.mark.parametrize("name", ["snips-json", "banking77", "gsm8k", "e2e"])
def test_rows_of_real_data(bundled_tokenizer, shared, name):
    for example in load(shared / "data" / name / "train.jsonl", limit=60).examples:
        compared(bundled_tokenizer, example)
