"""International bank account numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .checksums import mod97
from .hits import CODE, DIGITS, Hit, matches

_LENGTHS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
    "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
    "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 "
    "PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
LENGTHS = {entry[:2]: int(entry[2:]) for entry in _LENGTHS.split()}
"""Characters of an IBAN by country (ISO 13616 registry)."""

_START = re.compile(r"[A-Za-z]{2}[0-9]{2}(?=[ \-]?[A-Za-z0-9])")


class Iban:
    """A known country's length and MOD 97-10; written together or in groups with one space or dash between."""

    kind = "iban"
    needs = DIGITS | CODE

    def find(self, text: str) -> Iterator[Hit]:
        """All numbers that pass."""
        for match in matches(_START, text):
            length = LENGTHS.get(match[0][:2].upper())
            end = _end(text, match.start(), length) if length else None
            if end is None:
                continue
            number = text[match.start() : end].replace(" ", "").replace("-", "").upper()
            if mod97(number[4:] + number[:4]) == 1:
                yield Hit(self.kind, match.start(), end)


def _end(text: str, start: int, length: int) -> int | None:
    """Where so many letters and digits end, single separators left aside; None where they do not come together."""
    place, left = start, length
    while left and place < len(text):
        if text[place].isalnum() and text[place].isascii():
            left -= 1
        elif text[place] not in " -" or text[place - 1] in " -":
            return None
        place += 1
    runs_on = place < len(text) and (text[place].isalnum() or text[place] == "_")
    return None if left or runs_on else place
