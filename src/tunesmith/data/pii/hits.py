"""What a detector is, what it finds, and the looks around a find that detectors share.

A detector reads one text and knows no row, file or placeholder. No hit ever holds `[` or `]`, the marks of
placeholders: masked text is therefore left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

# What a text must hold before a detector is asked at all. Plain integers: enum flags cost more than the search.
AT = 1
"""An @."""
DIGITS = 2
"""Six digits with at most two separators between any two of them."""
DOTTED = 4
"""Three numbers with dots between them."""
COLONS = 8
"""Two colons or more."""
CODE = 16
"""A digit, a letter and a digit in a row."""
START = 32
"""What a provider's token begins with."""
CUE = 64
"""A word such as password, secret, token or key, or a `://`."""
LONG = 128
"""Like DIGITS, but nine of them: what most national numbers have, and most arithmetic has not."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One find: `text[start:end]` is of this kind."""

    kind: str
    start: int
    end: int


class Detector(Protocol):
    """Finds one kind. `needs` are the signals above, any one of which makes it worth asking."""

    @property
    def kind(self) -> str:
        """The name in reports and, in capitals, in placeholders."""

    @property
    def needs(self) -> int:
        """Signals of which the text must have one."""

    def find(self, text: str) -> Iterator[Hit]:
        """All finds, in order."""


END = r"(?![\w]|[.,:/\-]\d)"
"""Ends a pattern: not inside a longer word or number."""

# Words before a number that say it is something else: nobody's telephone, card or identity. Compounds of the
# Germanic languages are met by their first part.
_LABEL = re.compile(
    r"\b(?:order|invoice|receipt|tracking|parcel|shipment|ticket|case|sku|isbn|issn|ean|upc|gtin|barcode|serial|part"
    r"|item|product|model|batch|lot|article|catalog(?:ue)?|transaction|confirmation|booking|reservation|reference|ref"
    r"|claim|contract|customer|version|release|build|firmware|driver|page|section|chapter|timestamp|coordinates?"
    r"|population|views|bestell\w*|auftrag\w*|rechnung\w*|artikel\w*|kunden\w*|seriennummer|commande|facture|colis"
    r"|pedido|factura|envío|albarán|ordine|fattura|spedizione|bestelling|bestelnummer|factuur\w*|zamówieni\w*|faktur\w*"
    r"|beställning\w*|ordernummer|fatura|encomenda)s?\b"
    r"(?:[\s:#.=\-(\"']|\b(?:number|numbers|no|nr|num|nº|numéro|número|numero|numer|nummer|id|code|ref|is|was|ist|est"
    r"|es|è|é|to|of|the|my|your|de|di)\b)*$",
    re.IGNORECASE,
)
_LABEL_REACH = 48


def labelled_otherwise(text: str, start: int) -> bool:
    """Whether the words right before a number call it an order, an invoice, a version or the like."""
    return _LABEL.search(text[max(0, start - _LABEL_REACH) : start]) is not None


def near(words: re.Pattern[str], text: str, start: int, end: int, *, before: int = 45, after: int = 25) -> bool:
    """Whether one of the words stands close by, in characters before the start or after the end."""
    return bool(
        words.search(text[max(0, start - before) : start]) or words.search(text[end : min(len(text), end + after)])
    )


def starts_free(text: str, start: int) -> bool:
    """Whether a number that starts here is not the tail of a longer word, number, amount or path."""
    if start == 0:
        return True
    previous = text[start - 1]
    if previous.isalnum() or previous in "_$€£":
        return False
    return not (previous in ".,-/+" and start > 1 and text[start - 2].isalnum())


def matches(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Matches that start free. A look-behind in the pattern itself would cost the engine its quick search."""
    position = 0
    while match := pattern.search(text, position):
        if starts_free(text, match.start()):
            yield match
            position = match.end()
        else:
            position = match.start() + 1


def compact(text: str) -> str:
    """Letters and digits alone, in capitals."""
    return "".join(c for c in text if c.isalnum()).upper()


def words(*alternatives: str) -> re.Pattern[str]:
    """A pattern for whole words, in any case. An underscore counts as a letter, so placeholders hold no such word."""
    return re.compile(r"\b(?:" + "|".join(alternatives) + r")\b", re.IGNORECASE)
