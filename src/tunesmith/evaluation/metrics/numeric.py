"""The number an answer ends in."""

from __future__ import annotations

import re
from decimal import Decimal

_MARK = "####"
"""GSM8K's own answers have the result behind this mark (Cobbe et al. 2021)."""
_NUMBER = re.compile(r"(?<![\w.])-?\$?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+|(?<=\d))(?:[eE][+-]?\d{1,4}(?!\w))?")


class Numeric:
    """1 when the answer's number equals the reference's: that behind the last `####`, or else the last one.

    Currency signs, commas between thousands and trailing zeros do not count. A reference without a number is compared
    as text.
    """

    name = "numeric"
    uses_reference = True

    def score(self, prediction: str, reference: str) -> float:
        """1 or 0."""
        wanted = last_number(reference)
        if wanted is None:
            return float(prediction.strip() == reference.strip())
        return float(last_number(prediction) == wanted)


def last_number(text: str) -> Decimal | None:
    """The number that a text gives as its result, None where it holds none."""
    _, mark, behind = text.replace("\N{MINUS SIGN}", "-").rpartition(_MARK)
    found = _NUMBER.findall(behind)
    if not found:
        return None
    return Decimal((found[0] if mark else found[-1]).replace(",", "").replace("$", ""))
