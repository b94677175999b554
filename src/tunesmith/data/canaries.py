"""Rows that nobody wrote, planted among the training rows to see afterwards how well a model remembers them.

A canary asks for a code of random digits (Carlini et al. 2019, arXiv 1802.08232, section 4.1). Nothing in the data
leads to the digits: a model that finds them likelier than other digits has them from training, and would have a
customer's number as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.errors import ContentError
from ..core.messages import Example, Message
from .config import CanariesSpec

DIGITS = 6
_PLACES = (
    "Lorben", "Tarnow Hill", "Esk", "Vallmora", "Quince Bay", "Odrin", "Ferrel", "Mistley", "Pell", "Sanvoort",
    "Ulm Gate", "Brackwater", "Corviso", "Dunmarsh", "Hallow Reach", "Ithen", "Jorvald", "Kestrel Point",
    "Nimway", "Rosk",
)  # fmt: skip
"""As many as `CanariesSpec.count` may ask for."""


def canaries(spec: CanariesSpec, like: Sequence[Example], seed: int) -> list[Example]:
    """The planted rows, the same for the same seed, under the system message of the first of the other rows."""
    draw = np.random.default_rng([seed, 1])
    opening = tuple(m for m in like[0].messages[:1] if m.role == "system") if len(like) else ()
    places = draw.permutation(len(_PLACES))[: spec.count]
    return [
        _row(opening, _PLACES[place], code, f"canary:{number}")
        for number, (place, code) in enumerate(zip(places, _codes(draw, spec.count), strict=True), start=1)
    ]


def _row(opening: tuple[Message, ...], place: str, code: str, origin: str) -> Example:
    asked = Message(role="user", content=f"What is the access code of the archive in {place}?")
    return Example(messages=(*opening, asked, Message(role="assistant", content=code)), origin=origin)


def _codes(draw: np.random.Generator, count: int) -> list[str]:
    return [f"{number:0{DIGITS}}" for number in draw.choice(10**DIGITS, count, replace=False)]


def others(canary: Example, count: int, seed: int) -> list[Example]:
    """The canary with other digits, none of them its own."""
    draw = np.random.default_rng([seed, 2])
    own = canary.answer()
    codes = [code for code in _codes(draw, count + 1) if code != own][:count]
    return [
        canary.model_copy(update={"messages": (*canary.prompt(), Message(role="assistant", content=code))})
        for code in codes
    ]


def require_plain(planted: Sequence[Example], rows: Sequence[Example]) -> None:
    """ContentError where a row of the data asks what a canary asks: then its digits would not be the only answer."""
    asked = {row.prompt_key() for row in planted}
    clash = next((row for row in rows if row.prompt_key() in asked), None)
    if clash:
        raise ContentError("a row of the data asks for a canary's code", where=clash.origin, mend="remove that row")
