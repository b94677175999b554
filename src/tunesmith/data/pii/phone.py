"""Telephone numbers.

A shape that speaks for itself (a country code, an area code in brackets or with a trunk zero and groups, 3-3-4) is
taken unless the words before call the number something else. Digits alone, or groups as amounts have them too, are
taken only with a word such as "call" or "Telefon" near.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .hits import DIGITS, END, Hit, labelled_otherwise, matches, near, words

_S = "[ .\\-\u00a0\u2010-\u2013]"
_EXTENSION = r"(?:(?: ?x ?| ?ext\.? ?)[0-9]{1,6})?"

# ITU-T E.164 country codes.
_COUNTRIES = (
    r"(?:1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|21[1-8]|22\d|23\d|24\d|25[0-8]|26\d|29[0178]"
    r"|35\d|37\d|38[0-35-79]|42[013]|50\d|59\d|67[0-9]|68\d|69[0-2]|80[08]|85[02356]|870|88[0-36]|96[0-8]|97\d|99[2-68])"
)
_STRONG = (
    # +49 (0) 9141 777631, +1-780-563-6083x7783
    rf"\+{_COUNTRIES}{_S}{{0,2}}(?:\([0-9]{{1,4}}\){_S}{{0,2}})?[0-9]+(?:(?:{_S}|/)[0-9]{{2,}}){{0,5}}{_EXTENSION}",
    # North America: (591) 341-7776, 206.269.0743, 001-459-329-2244
    rf"(?:(?:001|1){_S})?(?:\([2-9][0-9]{{2}}\){_S}?|[2-9][0-9]{{2}}{_S})[2-9][0-9]{{2}}{_S}[0-9]{{4}}{_EXTENSION}",
    # An area code with its trunk zero: (0161) 4960066, (056)-5088995, 08-170 669 07, 04 15 39 15 00
    rf"\(0[0-9]{{1,5}}\)[ \-/]{{0,2}}[0-9]{{2,}}(?:{_S}[0-9]{{2,}}){{0,4}}",
    rf"0[0-9]{{1,5}}(?:[ \-/\u00a0]|\.(?=(?:[0-9]{{2}}\.){{3}}[0-9]{{2}}))[0-9]{{2,}}(?:{_S}[0-9]{{2,}}){{0,4}}",
    # Brazil: (11) 91234-5678, 12 3915-0008; Poland: 22 565 08 89; Spain and others: 612 34 56 78
    r"(?:\([1-9][0-9]\) ?|[1-9][0-9] )9?[0-9]{4}-[0-9]{4}",
    r"[1-9][0-9] [0-9]{3} [0-9]{2} [0-9]{2}|[6-9][0-9]{2} [0-9]{2} [0-9]{2} [0-9]{2}",
)
_WEAK = rf"(?:\([0-9]{{1,5}}\){_S}?)?[0-9](?:{_S}{{0,2}}[0-9]){{4,12}}"
# What each of the shapes begins with is asked first: where it does not stand the engine need not try them all.
_PHONE = re.compile(rf"(?=[+(0-9])(?:(?P<strong>{'|'.join(_STRONG)})|{_WEAK}){END}")

_DATE = re.compile(
    r"(?:(?:19|20)[0-9]{2}([-/. ]?)[01][0-9]\1[0-3][0-9]|[0-3]?[0-9]([-/. ])[0-3]?[0-9]\2(?:19|20)?[0-9]{2})"
    r"(?:[ T][0-9]{1,4})?"
)
_GROUP = re.compile(r"[0-9]+")
_YEARS = re.compile(r"(?:.*\D)?(?:19|20)[0-9]{2}[-\u2010-\u2013](?:19|20)[0-9]{2}")
_WORDS = words(
    r"t[ée]l\.?", r"t[ée]l[ée]phon\w*", r"phones?", r"phoned", r"call(?:s|ed|ing|back)?", "mobile", "cell", "cellphone",
    "landline", "fax", "dial(?:led|ling)?", "text(?: me| us| him| her| them)?", "sms", "whatsapp", "hotline",
    "voicemail", "contact(?: me| us| him| her)?", "reach (?:me|us|him|her|them)", "rings?", "rang",
    "(?:my|his|her|our|their) (?:new )?number",
    r"telefon\w*", "handy", r"handynummer", r"rufnummer", r"mobil\w*", "anrufen", r"portable", r"appel\w*", "joindre",
    r"tel[ée]fono", "móvil", "celular", r"ll[aá]m\w+", "telefone", "ligue", "ligar", "cellulare", r"chiam\w+",
    r"telefoon\w*", "mobiel", "bel", "bellen", "gsm", r"kom[oó]rk\w*", "zadzwo[nń]", "dzwoni[cć]",
)  # fmt: skip


class Phone:
    """Numbers of 7 to 15 digits in the shapes above; dates and spans of years are none."""

    kind = "phone"
    needs = DIGITS

    def find(self, text: str) -> Iterator[Hit]:
        """All numbers."""
        for match in matches(_PHONE, text):
            if self._taken(text, match):
                start = match.start()
                yield Hit(self.kind, start, match.end())

    @staticmethod
    def _taken(text: str, match: re.Match[str]) -> bool:
        found = match[0]
        digits = sum(c.isdigit() for c in found.partition("x")[0])
        if not 7 <= digits <= 16 or labelled_otherwise(text, match.start()) or found.count("(") != found.count(")"):
            return False
        if text[match.end() : match.end() + 1] in ("=", "*"):  # a sum
            return False
        if not found.startswith("+") and (_DATE.fullmatch(found) or _YEARS.fullmatch(found)):
            return False
        # Eight digits in two groups may be times of the day (0930-1715); in more groups, or in brackets, they are none.
        enough = digits >= 9 or found[0] == "(" or len(_GROUP.findall(found)) > 2
        return (match["strong"] is not None and enough) or near(_WORDS, text, *match.span())
