"""Texts cut into words have the tokens that the library makes of the whole text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data import words
from tunesmith.data.template import PLAIN_TEMPLATE
from tunesmith.models.find import find
from tunesmith.models.refs import DEFAULT
from tunesmith.models.tokenizer import tokenizer

BUNDLED = tokenizer(find(DEFAULT), PLAIN_TEMPLATE)
PARTS = [
    "a",
    "The",
    "cat's",
    " ",
    "  ",
    "\n",
    "\t",
    "\u00a0",
    "12",
    "e\u0301",
    "\u0301",
    "<|im_end|>",
    "...",
    "\u4e2d\u6587",
    "x" * 50,
]


@given(st.lists(st.lists(st.sampled_from(PARTS)).map("".join) | st.text()))
def test_words_kept_make_the_tokens_of_whole_texts(texts: list[str]) -> None:
    made = words.token_ids(BUNDLED, texts)
    assert made == words._made(BUNDLED, texts)
    assert words.token_ids(BUNDLED, texts) == made


def test_the_bundled_tokenizer_is_one_that_can_be_cut() -> None:
    assert words.cuts_before_spaces(BUNDLED)
