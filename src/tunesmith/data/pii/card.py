"""Payment card numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .checksums import luhn
from .hits import END, LONG, Hit, compact, labelled_otherwise, matches, near, words

_CARD = re.compile(
    r"(?:[0-9]{12,19}|[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{1,7}|[0-9]{4}([ -])[0-9]{6}\2[0-9]{4,5})" + END
)
# Issuers' prefixes and lengths (ISO/IEC 7812): Visa, Mastercard, American Express, Diners, Discover, JCB, UnionPay.
_ISSUERS = re.compile(
    r"4(?:\d{15}|\d{18})|(?:5[1-5]|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d+(?<=^\d{16})|3[47]\d{13}"
    r"|3(?:0[0-5]|[689]\d)\d{11}|(?:6011|64[4-9]\d|65\d\d)\d{12,15}|35\d{14,17}"
    r"|(?:2131|1800)\d{11}|62\d{14,17}"
)
# Old Visa numbers of 13 digits and Maestro's of 12 and more look like trade numbers: these ask for a word.
_RARE = re.compile(r"4\d{12}|(?:50|5[6-9]|6[0-9]|0604)\d{8,17}|180\d{12}")
_WORDS = words(
    "cards?", "visa", "mastercard", "maestro", "amex", "american express", "discover", "jcb", "credit", "debit",
    r"kredit\w*", r"karten\w*", "carte", "bancaire", "tarjeta", "carta", "cartão", "creditcard", r"kart\w*", r"kort\w*",
    "pan",
)  # fmt: skip


class Card:
    """An issuer's prefix and length, and Luhn."""

    kind = "card"
    needs = LONG

    def find(self, text: str) -> Iterator[Hit]:
        """All numbers that pass."""
        for match in matches(_CARD, text):
            number = compact(match[0])
            if len(set(number)) > 1 and luhn(number) and self._taken(number, text, match):
                yield Hit(self.kind, *match.span())

    @staticmethod
    def _taken(number: str, text: str, match: re.Match[str]) -> bool:
        announced = near(_WORDS, text, *match.span())
        if _ISSUERS.fullmatch(number):
            return announced or not labelled_otherwise(text, match.start())
        return announced and _RARE.fullmatch(number) is not None
