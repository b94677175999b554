"""Check digits, as pure functions of digits. Each says by whose rule."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"


def luhn(number: str) -> bool:
    """ISO/IEC 7812: every second digit from the right doubled, the digits' sum a multiple of ten."""
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def mod97(text: str) -> int:
    """ISO 7064 MOD 97-10 of letters and digits, letters as 10 to 35."""
    return int("".join(str(int(c, 36)) for c in text)) % 97


def weighted(number: str, weights: Sequence[int]) -> int:
    """Sum of digit times weight, over as many digits as there are weights."""
    return sum(int(d) * w for d, w in zip(number, weights, strict=False))


def mod11_10(number: str) -> bool:
    """ISO 7064 MOD 11,10 with the check digit last (German tax number)."""
    product = 10
    for digit in number[:-1]:
        product = (int(digit) + product) % 10 or 10
        product = product * 2 % 11
    return (11 - product) % 10 == int(number[-1])


def _dihedral(a: int, b: int) -> int:
    """The product in the symmetry group of the pentagon: 0-4 turn it, 5-9 turn it over."""
    turned = (a + b) % 5 if a < 5 else (a - b) % 5
    return turned + (5 if (a < 5) != (b < 5) else 0)


_STEP = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def verhoeff(number: str) -> bool:
    """Verhoeff 1969: a product in the dihedral group of ten elements, digits permuted by place, is the unit."""
    state = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit)
        for _ in range(place % 8):
            value = _STEP[value]
        state = _dihedral(state, value)
    return state == 0


def is_day(year: int, month: int, day: int) -> bool:
    """Whether the calendar has this day."""
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True
