"""Texts cut into words have the tokens that the library makes of the whole text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tunesmith.data import words
from tunesmith.data.template import PLAIN_TEMPLATE
from tunesmith.models.find import find
from tunesmith.models.refs import DEFAULT
from tunesmith.models.tokenizer import tokenizer

LEARNED = [
    "the cat's hat, a cat; The end...\n\n  and 12 more\t345 hats",
    "don't e\u0301t\u00e9 \u4e2d\u6587 the end",
] * 4
PARTS = [
    "a", "The", "cat's", " ", "  ", "\n", "\t", "\u00a0", "12", "e\u0301", "\u0301", "<|im_end|>", "...",
    "\u4e2d\u6587", "/\n", "x" * 50,
]  # fmt: skip
TEXTS = st.lists(st.lists(st.sampled_from(PARTS)).map("".join) | st.text())


def _trained(pre_tokenizer: Any) -> Any:
    """A small tokenizer with this way to cut words."""
    made = Tokenizer(models.BPE())
    made.normalizer, made.pre_tokenizer, made.decoder = normalizers.NFC(), pre_tokenizer, decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(LEARNED, trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet))
    made.add_special_tokens(["<|im_end|>"])
    return PreTrainedTokenizerFast(tokenizer_object=made)


def _split(expression: str) -> Any:
    split = pre_tokenizers.Split(Regex(expression), "isolated")
    return _trained(pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]))


CUT = [tokenizer(find(DEFAULT), PLAIN_TEMPLATE), *map(_split, sorted(words._LEADING_SPACE))]


@pytest.mark.parametrize("cut", CUT, ids=range(len(CUT)))
@given(texts=TEXTS)
def test_words_kept_make_the_tokens_of_whole_texts(cut: Any, texts: list[str]) -> None:
    assert words.cuts_before_spaces(cut)
    made = words.token_ids(cut, texts)
    assert made == words._made(cut, texts)
    assert words.token_ids(cut, texts) == made


@pytest.mark.parametrize("cut", CUT, ids=range(len(CUT)))
@pytest.mark.parametrize(
    "space", [" ", "  ", "   ", "    ", " \n", "\n ", " \n ", "\t ", " \u00a0", "<|im_end|>", " <|im_end|> "]
)
def test_known_words_with_any_space_between_them(cut: Any, space: str) -> None:
    learned = ["the end", "12 the", " the end ", "end 12", "... the", "12 ..."]
    words.token_ids(cut, learned)
    texts = [f"{a}{space}{b}" for a in ("the", "12", "...", "") for b in ("end", "12", "...", "")]
    assert words.token_ids(cut, texts) == words._made(cut, texts)


def test_tokens_looked_for_in_normalized_text_are_no_place_to_cut() -> None:
    """NFC makes one character of the last of the token's and a stroke behind it, so there is no such token."""
    grown = _trained(pre_tokenizers.ByteLevel(add_prefix_space=False))
    grown.add_tokens([AddedToken("<end>", normalized=True)])
    texts = ["a <end>\u0338 b", "a <end> b", "a b"] * 2
    assert words.token_ids(grown, texts) == words._made(grown, texts)


@pytest.mark.parametrize(
    "pre_tokenizer",
    [
        pre_tokenizers.Metaspace(),
        pre_tokenizers.ByteLevel(add_prefix_space=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"\s+"), "isolated"), pre_tokenizers.Digits()]),
    ],
)
def test_a_tokenizer_of_another_kind_gets_whole_texts(pre_tokenizer: Any) -> None:
    other = _trained(pre_tokenizer)
    assert not words.cuts_before_spaces(other)
    assert words.token_ids(other, LEARNED) == words._made(other, LEARNED)


def test_words_are_forgotten_when_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "MOST_WORDS", 3)
    cut = CUT[0]
    for text in LEARNED[:2] * 2:
        assert words.token_ids(cut, [text]) == words._made(cut, [text])


def test_a_tokenizer_that_got_a_token_more_is_looked_at_again() -> None:
    grown = _trained(pre_tokenizers.ByteLevel(add_prefix_space=False))
    words.token_ids(grown, ["the end"])
    grown.add_tokens(["the end"])
    assert words.token_ids(grown, ["the end"]) == words._made(grown, ["the end"])
