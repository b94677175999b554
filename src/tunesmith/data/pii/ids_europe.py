"""National numbers of Europe."""

from __future__ import annotations

import re
from collections import Counter

from .checksums import DNI_LETTERS, is_day, luhn, mod11_10, weighted
from .hits import CODE, DIGITS, LONG, words
from .ids import NumberId, shape

_NOT_NINO = {"BG", "GB", "KN", "NK", "NT", "TN", "ZZ"}


def nino(text: str) -> bool:
    """UK national insurance number: prefixes that were never given out are none (HMRC, NIM39110)."""
    return text[:2] not in _NOT_NINO


def nhs(number: str) -> bool:
    """UK NHS number: weights 10 to 2, modulus 11; a check of 10 is not given out."""
    check = 11 - weighted(number, range(10, 1, -1)) % 11
    return check != 10 and check % 11 == int(number[9])


def german_tax_id(number: str) -> bool:
    """Steuer-ID: of the first ten digits exactly one occurs twice or three times; MOD 11,10."""
    often = [n for n in Counter(number[:10]).values() if n > 1]
    return len(often) == 1 and often[0] in (2, 3) and mod11_10(number)


_CORSICA = {"2A": "19", "2B": "18"}


def french_nir(text: str) -> bool:
    """NIR: sex, year, month, department, commune, order, and 97 minus the rest modulo 97; Corsica is 2A and 2B."""
    if text[5:7] in _CORSICA:
        text = text[:5] + _CORSICA[text[5:7]] + text[7:]
    if not text.isdigit():
        return False
    number = int(text[:13])
    month = int(text[3:5])
    return (1 <= month <= 12 or 20 <= month <= 42 or month >= 50) and 97 - number % 97 == int(text[13:])


def spanish_dni(text: str) -> bool:
    """DNI and NIE: the letter is the number modulo 23; X, Y, Z in front count as 0, 1, 2."""
    number = text[:-1].translate(str.maketrans("XYZ", "012"))
    return DNI_LETTERS[int(number) % 23] == text[-1]


_ODD = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16,
         10, 22, 25, 24, 23),
        strict=True,
    )
)  # fmt: skip


_HOMOCODIA = str.maketrans("LMNPQRSTUV", "0123456789")


def codice_fiscale(text: str) -> bool:
    """Italian tax code: odd places by a table, even ones by their rank, the sum modulo 26 is the last letter."""
    day = int(text[9:11].translate(_HOMOCODIA))
    if not (1 <= day <= 31 or 41 <= day <= 71):  # women's days count from 41
        return False
    total = sum(_ODD[c] for c in text[:15:2])
    total += sum(int(c) if c.isdigit() else ord(c) - ord("A") for c in text[1:15:2])
    return total % 26 == ord(text[15]) - ord("A")


def bsn(number: str) -> bool:
    """Dutch burgerservicenummer: the test of eleven, weights 9 to 2 and -1."""
    return int(number) > 0 and weighted(number, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


_CENTURY = {0: 1900, 20: 2000, 40: 2100, 60: 2200, 80: 1800}


def pesel(number: str) -> bool:
    """PESEL: a birthday whose month carries the century, and weights 1, 3, 7, 9."""
    year, month, day = int(number[:2]), int(number[2:4]), int(number[4:6])
    century = _CENTURY[month // 20 * 20]
    if not is_day(century + year, month % 20, day):
        return False
    return weighted(number, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def personnummer(number: str) -> bool:
    """Swedish personnummer: a birthday (60 is added to the day of a coordination number) and Luhn over ten digits."""
    ten = number[-10:]
    month, day = int(ten[2:4]), int(ten[4:6])
    return is_day(2000, month, day - 60 if day > 60 else day) and luhn(ten)


# Where two people would have the same code, letters stand for digits.
_N = "[0-9LMNPQRSTUV]"
_CF = rf"[A-Z]{{6}}{_N}{{2}}[ABCDEHLMPRST]{_N}{{2}}[A-Z]{_N}{{3}}[A-Z]"

UK_NINO = NumberId(
    "uk_nino",
    shape(r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] [0-9]{2} [0-9]{2} [0-9]{2} [A-D]"),
    shape(r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{6} ?[A-D]"),
    nino,
    words("national insurance", "nino", "ni", "insurance number"),
    DIGITS,
)
UK_NHS = NumberId(
    "uk_nhs", None, shape(r"[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{4}"), nhs, words("nhs", "health service", "patient")
)
DE_TAX_ID = NumberId(
    "de_tax_id",
    shape(r"[1-9][0-9] ?[0-9]{3} ?[0-9]{3} ?[0-9]{3}"),
    None,
    german_tax_id,
    words("steuer-?id", r"steuerliche\w*", r"steuer-?identifikations\w*", "idnr", "tin", r"steuernummer"),
)
FR_NIR = NumberId(
    "fr_nir",
    shape(r"[1-478] ?[0-9]{2} ?[0-9]{2} ?[0-9][0-9AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}"),
    None,
    french_nir,
    words("nir", r"s[ée]curit[ée] sociale", "insee", "num[ée]ro de s[ée]cu"),
    LONG | CODE,
)
ES_DNI = NumberId(
    "es_dni",
    # Eight digits, or a letter and seven; the engine skips to a set of characters, not to one of two branches.
    shape(r"[0-9XYZxyz](?:(?<=[XYZxyz])-?)?[0-9]{7}[ -]?[A-HJ-NP-TV-Za-hj-np-tv-z]"),
    None,
    spanish_dni,
    words("dni", "nie", "nif", "documento", "identidad"),
    DIGITS,
)
IT_CODICE_FISCALE = NumberId(
    "it_codice_fiscale",
    shape(_CF, re.IGNORECASE),
    None,
    codice_fiscale,
    words("codice fiscale", r"c\.?f", "fiscale"),
    CODE,
)
NL_BSN = NumberId(
    "nl_bsn", None, shape(r"[0-9]{9}|[0-9]{4}\.[0-9]{2}\.[0-9]{3}"), bsn,
    words("bsn", r"burgerservice\w*", r"sofi-?nummer", "citizen service number"),
)  # fmt: skip
PL_PESEL = NumberId("pl_pesel", None, shape(r"[0-9]{11}"), pesel, words("pesel"))
SE_PERSONNUMMER = NumberId(
    "se_personnummer",
    shape(r"(?:19|20)?[0-9]{6}[-+][0-9]{4}"),
    shape(r"(?:19|20)?[0-9]{10}"),
    personnummer,
    words(r"person-?(?:nummer|nr)", r"samordningsnummer", "swedish personal number"),
)
EUROPE = (UK_NINO, UK_NHS, DE_TAX_ID, FR_NIR, ES_DNI, IT_CODICE_FISCALE, NL_BSN, PL_PESEL, SE_PERSONNUMMER)
