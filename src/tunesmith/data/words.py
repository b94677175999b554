"""Texts to token ids, each word once: the tokenizers library makes them, and a word met again is looked up.

Most tokenizers in use cut a text into words by an expression in which a space stands only at the beginning of a word,
and make tokens of each word for itself. So before a single space between two other characters a text can be cut, and
its parts make the tokens of the whole. So they do where a text is cut around special tokens, which the library looks
for first. Where a tokenizer is of another kind (SentencePiece's, say) the library gets whole texts.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary, ref

MOST_WORDS = 2**19
"""Kept; then all are forgotten, and the frequent ones are soon there again."""
LONGEST = 40
"""Characters of a word that is kept. Longer ones, like whole sentences of Chinese, hardly ever come again."""
_LEADING_SPACE = {
    # GPT-4, Llama 3; Qwen 2 and 3; GPT-4o
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
"""Expressions that cut words so: no alternative has a space but as its first character, or consists of white space."""
_BETWEEN = re.compile(r"(?<=\S) (?=\S)")
_OTHER_SPACE = re.compile(r"\s | \s|\A | \Z")
"""A space where a text is not cut."""
_UNCUT = re.compile(r"[^\S ]|\A | \Z|  (?![A-Za-z])")
"""What keeps a part with two spaces between its words whole."""
_LONG_SPACE = re.compile(r"  (?![A-Za-z])")
"""Of two spaces before a letter each is a token. Of more the first may be one together; and so may two before a digit,
where digits are cut off first."""


def token_ids(tokenizer: Any, texts: Sequence[str]) -> list[bytes]:
    """The ids of each text, int32 one behind the other; without special tokens beside those the text spells."""
    library = getattr(tokenizer, "backend_tokenizer", None)
    if library is None or not texts:
        return _made(tokenizer, texts)
    size = library.get_vocab_size()
    words = _known.get(tokenizer)
    if words is None or words.size != size:
        words = _known[tokenizer] = _words(tokenizer, library, size)
    return words.of(texts)


def _words(tokenizer: Any, library: Any, size: int) -> Words:
    if cuts_before_spaces(tokenizer):
        return Words(lambda texts: _made_by_library(library, texts), size, cuts=True, added=_added(library))
    behind = ref(tokenizer)  # what is kept for a tokenizer must not keep it
    return Words(lambda texts: _made(behind(), texts), size, cuts=False)


def _added(library: Any) -> re.Pattern[str] | None:
    """What finds the added tokens as the library does, the first and of these the longest.

    None where there are none, or where some are looked for in the normalized text, which may be another.
    """
    tokens = library.get_added_tokens_decoder().values()
    if not tokens or any(token.normalized for token in tokens):
        return None
    contents = sorted((token.content for token in tokens), key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, contents))})")


class Words:
    """The words met so far, and how more are made."""

    def __init__(
        self, make: Callable[[Sequence[str]], list[bytes]], size: int = 0, *, cuts: bool,
        added: re.Pattern[str] | None = None,
    ):  # fmt: skip
        self._make, self._cuts, self._added, self.size = make, cuts, added, size
        self._ids: dict[str, bytes] = {}
        """By key, see `_marked`."""

    def of(self, texts: Sequence[str]) -> list[bytes]:
        """The ids of each text."""
        if not self._cuts:
            return self._make(texts)
        ids = self._ids
        known = [_joined(ids, self._keys(text, _at_each_space)) if _quick(text) else None for text in texts]
        others = iter(self._learned([text for text, one in zip(texts, known, strict=True) if one is None]))
        return [next(others) if one is None else one for one in known]

    def _keys(self, text: str, split: Callable[[str], list[str]]) -> list[str]:
        """The keys of a text's words. Each added token is a word, and what stands between two is a text by itself."""
        if not self._added:
            return _marked(split(text))
        keys: list[str] = []
        for number, part in enumerate(self._added.split(text)):
            if part:
                keys += _marked([part] if number % 2 else split(part))
        return keys

    def _learned(self, texts: Sequence[str]) -> list[bytes]:
        """The ids of texts with words that are not kept yet; those that are worth it are from now on."""
        if len(self._ids) > MOST_WORDS:
            self._ids = {}  # another thread may still look into the old ones
        ids = self._ids
        if not ids:
            ids[""] = self._make([" "])[0]  # the first of two spaces
        split = [self._keys(text, _between) for text in texts]
        new = list(set[str]().union(*split).difference(ids))
        made = dict(zip(new, self._make([_text(key) for key in new]), strict=True))
        joined = [b"".join([made[key] if key in made else ids[key] for key in keys]) for keys in split]
        ids.update((key, one) for key, one in made.items() if len(key) <= LONGEST)
        return joined


def _quick(text: str) -> bool:
    """Whether `_at_each_space` may cut it."""
    return "  " not in text or not _LONG_SPACE.search(text)


def _at_each_space(text: str) -> list[str]:
    """Other white space between words than a space, or two, makes keys that are never kept."""
    return text.split(" ")


def _between(text: str) -> list[str]:
    """At each place where it may be cut."""
    if not _OTHER_SPACE.search(text):
        return text.split(" ")
    words: list[str] = []
    for part in _BETWEEN.split(text):
        words += [part] if _UNCUT.search(part) else part.split(" ")
    return words


def _joined(ids: dict[str, bytes], keys: Sequence[str]) -> bytes | None:
    """The ids of a text; None where one of its words is not kept."""
    try:
        return b"".join([ids[key] for key in keys])
    except KeyError:
        return None


_known: WeakKeyDictionary[Any, Words] = WeakKeyDictionary()


def _marked(words: list[str]) -> list[str]:
    """The keys of a text's words. A space marks the first one at its beginning and the last one at its end: there the
    white space of a word has no neighbour. No other key begins or ends with a space."""
    words[0] = f" {words[0]}"
    words[-1] = f"{words[-1]} "
    return words


def _text(key: str) -> str:
    """What a word stands for: itself, with the space before it where it is not the first."""
    text = key[1:] if key[0] == " " else f" {key}"
    return text[:-1] if key[-1] == " " else text


def cuts_before_spaces(tokenizer: Any) -> bool:
    """Whether this tokenizer makes the same tokens of a text cut before single spaces."""
    library = getattr(tokenizer, "backend_tokenizer", None)
    if library is None or getattr(tokenizer, "split_special_tokens", False):
        return False
    normalizer, pre_tokenizer = _settings(library.normalizer), _settings(library.pre_tokenizer)
    return (
        normalizer.get("type", "NFC") == "NFC"  # which never joins a space to what stands before it
        and type(library.model).__name__ == "BPE"
        and not library.model.dropout
        and _leading_space(pre_tokenizer)
        and not any(map(_reaches_out, library.get_added_tokens_decoder().values()))
    )


def _settings(part: Any) -> dict[str, Any]:
    """A part of the library's tokenizer as its file has it; empty where there is none."""
    return json.loads(part.__getstate__()) if part else {}


def _leading_space(pre_tokenizer: dict[str, Any]) -> bool:
    """Whether one of the steps cuts words with their space before them, and the others only within words."""
    kinds = [_kind(step) for step in pre_tokenizer.get("pretokenizers", [pre_tokenizer])]
    return None not in kinds and "words" in kinds


def _kind(step: dict[str, Any]) -> str | None:
    """ "words" or "within"; None where a step is of neither kind."""
    kind = step.get("type")
    if kind == "Digits":
        return "within"
    if kind == "ByteLevel" and not step["add_prefix_space"]:
        return "words" if step.get("use_regex", True) else "within"
    known = kind == "Split" and step["behavior"] == "Isolated" and not step["invert"]
    return "words" if known and step["pattern"].get("Regex") in _LEADING_SPACE else None


def _reaches_out(token: Any) -> bool:
    """Whether an added token holds white space, or looks at or takes some of what stands beside it."""
    return any(map(str.isspace, token.content)) or token.lstrip or token.rstrip or token.single_word


def _made_by_library(library: Any, texts: Sequence[str]) -> list[bytes]:
    """What the library makes when it is asked without transformers, which for a single word takes longer than it."""
    library.no_truncation()
    library.no_padding()
    library.encode_special_tokens = False
    return [array("i", made.ids).tobytes() for made in library.encode_batch_fast(texts, add_special_tokens=False)]


def _made(tokenizer: Any, texts: Sequence[str]) -> list[bytes]:
    """What a tokenizer makes. Masks and types are not asked for: they cost as much again."""
    if not texts:
        return []
    made = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False)
    return [array("i", ids).tobytes() for ids in made["input_ids"]]
