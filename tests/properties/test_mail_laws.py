"""Of a plain message without quotes and signature no word is lost; cleaning twice changes nothing more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data.tickets.mail import clean

# Words of which signatures, quotes and automatic messages are made, among others.
WORDS = st.sampled_from(
    ["On", "Monday", "wrote:", "wrote", "From:", "Sent", "Subject:", "To:", "regards", "Best", "Thanks,", "--", "-",
     ">", "iPhone", "my", "from", "Am", "schrieb", "Le", "écrit", "10:15", "2024", "a@b.example", "Original", "Message",
     "P.S.", "Mira", "lamp", "the", "Grüße", "LG", "5", "order", "4711", "<b>", "&amp;", "Cordialement"]
)  # fmt: skip
SENTENCES = st.builds(
    lambda first, words: f"{first} {' '.join(words)} then.",
    WORDS.filter(lambda word: word not in (">", "<b>")), st.lists(WORDS, min_size=7, max_size=12),
)  # fmt: skip
MESSAGES = st.lists(st.lists(SENTENCES, min_size=1, max_size=3).map("\n".join), min_size=1, max_size=4).map("\n\n".join)


@given(MESSAGES)
def test_no_word_of_a_plain_message_is_lost(message: str) -> None:
    cleaned = clean(message, author="Mira Holt")
    assert cleaned.text.split() == message.split()
    assert not cleaned.taken


@given(MESSAGES, st.sampled_from(["Best regards,\nMira Holt", "-- \nMira", "Viele Grüße\nMira", "Sent from my iPhone"]))
def test_a_signature_below_costs_no_word(message: str, signature: str) -> None:
    assert clean(f"{message}\n\n{signature}").text.split() == message.split()


@given(MESSAGES, MESSAGES)
def test_a_quote_below_costs_no_word(message: str, old: str) -> None:
    quoted = "\n".join(f"> {line}" for line in old.split("\n"))
    introduced = f"{message}\n\nOn Tue, Mar 5, 2024 at 10:15 Shop <help@shop.example> wrote:\n"
    assert clean(introduced + quoted).text.split() == message.split()
    assert clean(introduced + old).text.split() == message.split()
    assert clean(f"{introduced}{quoted}\n\n{message}").text.split() == [*message.split(), *message.split()]


@given(st.lists(st.sampled_from([*"ab>-:\n .@F", "From:", "\nSent:", "Subject:", "<p>", "</p>"])).map("".join))
def test_any_text_is_cleaned_and_none_is_invented(text: str) -> None:
    cleaned = clean(text).text
    assert set("".join(cleaned.split())) <= set(text)
