"""Laws of finding and masking personal data, on texts made of values, words that announce them, and noise."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.pii import find, find_all, mask

PIECES = st.sampled_from(
    ["ann@example.org", "Ann@Example.org", "+44 20 7946 0018", "(0161) 496 0066", "555-010-1234", "079 123 45 67",
     "4111 1111 1111 1111", "GB82 WEST 1234 5698 7654 32", "DE89370400440532013000", "856-45-6789", "8.8.8.8",
     "2001:db8::8a2e:370:7334", "123.456.789-09", "529.982.247-25", "811218-9876", "RSSMRA85T10A562S", "12345678Z",
     "44051401359", "943 476 5919", "111222333", "AKIAIOSFODNN7EXAMPLE", "ghp_" + "a1B2" * 9, "hunter2!x",
     "https://bob:s3cr3t9@host.example/x", "-----BEGIN PRIVATE KEY-----\nMIIEvQ==\n-----END PRIVATE KEY-----",
     "[EMAIL_1]", "[PHONE_7]", "[CARD_2", "password=", "my password is ", "api_key: ", "call ", "tel. ", "PESEL ",
     "BSN ", "NHS ", "order number ", "version ", "2024-03-05", "10:30", "3.14", "1 234 567", " ", ", ", "\n", "-", "x",
     "0", "12", "\u00a0", "\u2013", "é", "\U0001f600", "."]
)  # fmt: skip
TEXTS = st.one_of(st.lists(PIECES, max_size=12).map("".join), st.lists(PIECES, max_size=12).map(" ".join), st.text())
LAWS = settings(max_examples=400, deadline=None)
PLACEHOLDER = re.compile(r"\[[A-Z][A-Z0-9_]*_[0-9]+\]")


@LAWS
@given(texts=st.lists(TEXTS, max_size=4))
def test_masking_again_changes_nothing_and_nothing_is_found_again(texts):
    once = mask(texts)
    assert all(find(text) == [] for text in once.texts)
    again = mask(once.texts, once.known)
    assert again.texts == once.texts
    assert again.known == once.known


@LAWS
@given(text=TEXTS)
def test_all_text_outside_the_finds_stays(text):
    """What stands between the placeholders of the result stands in the original, in that order, and nothing else."""
    [masked] = mask([text]).texts
    parts = [re.escape(part) for part in PLACEHOLDER.split(masked)]
    assert re.fullmatch("(?s:.*?)".join(parts), text)
    if not find(text):
        assert masked == text


@LAWS
@given(text=TEXTS)
def test_the_first_masking_replaces_exactly_the_finds(text):
    hits = find(text)
    assert all(0 <= hit.start < hit.end <= len(text) for hit in hits)
    assert all(a.end <= b.start for a, b in pairwise(hits))
    assert not any(mark in text[hit.start : hit.end] for hit in hits for mark in "[]")
    assert sorted(mask([text]).kinds[0][: len(hits)]) == sorted(hit.kind for hit in hits)


@LAWS
@given(texts=st.lists(TEXTS, max_size=6))
def test_the_sieve_loses_nothing(texts):
    found = [(i, text, hits) for i, text in enumerate(texts) if (hits := find(text))]
    assert list(find_all(enumerate(texts))) == found
