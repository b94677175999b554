"""Plain texts alone take the short way through a chat template, and tokenizers that have no way of their own."""

from __future__ import annotations

import copy

import pytest

from tunesmith.models.plain_chat import Quick, quicken

TURN = {"role": "user", "content": "a"}


class Text(str):
    """A string with something more."""


def test_a_loaded_tokenizer_takes_it_and_so_does_its_copy(bundled_tokenizer):
    other = copy.deepcopy(bundled_tokenizer)
    other.chat_template = "{{ messages[0].content * 3 }}"
    assert isinstance(other.apply_chat_template, Quick)
    assert other.apply_chat_template([TURN], tokenize=False) == "aaa"
    assert "user" in bundled_tokenizer.apply_chat_template([TURN], tokenize=False)


@pytest.mark.parametrize(
    ("conversation", "options"),
    [
        ([TURN], {}),
        ([[TURN], [TURN]], {"tokenize": False}),
        ([TURN | {"name": "b"}], {"tokenize": False}),
        ([TURN | {"content": None}], {"tokenize": False}),
        ([TURN | {"content": Text("a")}], {"tokenize": False}),
        ([TURN], {"tokenize": False, "tools": [{"type": "function", "function": {"name": "b"}}]}),
        ([TURN], {"tokenize": False, "chat_template": "{{ messages }}"}),
    ],
)
def test_anything_else_goes_the_usual_way(bundled_tokenizer, monkeypatch, conversation, options):
    other = copy.deepcopy(bundled_tokenizer)
    other.chat_template = "{{ messages }}{{ tools }}"
    wanted = type(other).apply_chat_template(other, conversation, **options)
    monkeypatch.setattr(Quick, "_rendered", lambda *_, **__: pytest.fail("the short way"))
    assert other.apply_chat_template(conversation, **options) == wanted


def test_a_tokenizer_with_a_way_of_its_own_is_left_alone(bundled_tokenizer):
    class Own(type(bundled_tokenizer)):
        def apply_chat_template(self, *_, **__):
            return "its own way"

    own = Own.from_pretrained(bundled_tokenizer.name_or_path)
    quicken(own)
    assert own.apply_chat_template([TURN]) == "its own way"
