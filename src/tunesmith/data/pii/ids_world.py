"""National numbers outside Europe."""

from __future__ import annotations

from .checksums import verhoeff, weighted
from .hits import words
from .ids import NumberId, shape


def ssn(number: str) -> bool:
    """US social security number: no check digit; areas 000, 666 and 900 up, group 00, serial 0000 are never issued."""
    area, group, serial = number[:3], number[3:5], number[5:]
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def cpf(number: str) -> bool:
    """Brazilian CPF: two check digits modulo 11; eleven equal digits pass the sums but are none."""
    if len(set(number)) == 1:
        return False
    return all(weighted(number, range(n + 1, 1, -1)) * 10 % 11 % 10 == int(number[n]) for n in (9, 10))


_CNPJ = (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)


def cnpj(number: str) -> bool:
    """Brazilian CNPJ: two check digits modulo 11."""
    if len(set(number)) == 1:
        return False
    first, second = weighted(number, _CNPJ[1:]) % 11, weighted(number, _CNPJ) % 11
    return (int(number[12]), int(number[13])) == (0 if first < 2 else 11 - first, 0 if second < 2 else 11 - second)


US_SSN = NumberId(
    "us_ssn",
    shape(r"[0-9]{3}-[0-9]{2}-[0-9]{4}"),
    shape(r"[0-9]{3} ?[0-9]{2} ?[0-9]{4}"),
    ssn,
    words("ssn", "social security", "social"),
)
BR_CPF = NumberId(
    "br_cpf", shape(r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}"), shape(r"[0-9]{9}-?[0-9]{2}"), cpf, words("cpf")
)
BR_CNPJ = NumberId(
    "br_cnpj",
    shape(r"[0-9]{2}\.[0-9]{3}\.[0-9]{3}/[0-9]{4}-[0-9]{2}"),
    shape(r"[0-9]{12}-?[0-9]{2}"),
    cnpj,
    words("cnpj"),
)
# Three groups of four, and not the beginning or the end of a card's four.
IN_AADHAAR = NumberId(
    "in_aadhaar",
    shape(r"[2-9](?<![0-9][ -].)[0-9]{3}([ -])[0-9]{4}\1[0-9]{4}(?![ -][0-9])"),
    shape(r"[2-9][0-9]{11}"),
    verhoeff,
    words("aadhaar", "aadhar", "uidai"),
)
WORLD = (US_SSN, BR_CPF, BR_CNPJ, IN_AADHAAR)
