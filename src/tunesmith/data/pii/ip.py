"""Addresses of machines on the internet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from .hits import COLONS, DOTTED, Hit, near, starts_free, words

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_V4 = re.compile(rf"{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}(?![\w]|\.\d)")
# One stretch of bounded length: what it is, the standard library says. Nested repetitions would take forever on `::::`.
_V6 = re.compile(r"[0-9A-Fa-f:]{7,45}(?:\.[0-9]{1,3}){0,3}(?![\w:])")
_NUMBERED = words(
    "v", r"ver\.?", "versions?", "releases?", "build", "firmware", "driver", "section", "chapter", "clause",
    "paragraph", "upgrade[ds]?", "update[ds]?", "patch", "chrome", "kernel", "sdk", "figure", "assembly", "schema",
)  # fmt: skip
_WORDS = words("ip", "ips", "ipv4", "address", "host", "server", "ping", "router", "gateway", "dns", "client", "subnet")
_SMALL = 31


class Ip4:
    """Four numbers to 255. Small ones (2.4.1.13) are versions or sections unless a word says otherwise."""

    kind = "ip_address"
    needs = DOTTED

    def find(self, text: str) -> Iterator[Hit]:
        """All addresses that may lead to a person: not this machine, not a net mask, not "any"."""
        position = 0
        while match := _V4.search(text, position):
            position = match.start() + 1
            if starts_free(text, match.start()) and self._taken(text, match):
                yield Hit(self.kind, *match.span())
                position = match.end()

    @staticmethod
    def _taken(text: str, match: re.Match[str]) -> bool:
        address = IPv4Address(match[0])
        if address.is_loopback or address.is_unspecified or match[0].startswith("255."):
            return False
        announced = near(_WORDS, text, *match.span())
        if max(address.packed) <= _SMALL:
            return announced
        return announced or not near(_NUMBERED, text, *match.span(), before=25, after=0)


class Ip6:
    """What the standard library reads as IPv6, with four groups or more, or two and a gap between."""

    kind = "ip_address"
    needs = COLONS

    def find(self, text: str) -> Iterator[Hit]:
        """All addresses but this machine's own."""
        if text.count(":") < 2:
            return
        for match in _V6.finditer(text):
            before = text[match.start() - 1 : match.start()]
            found = match[0]
            if found.endswith(":") and not found.endswith("::"):  # the colon of the sentence
                found = found[:-1]
            if not before.isalnum() and before not in ("_", ":", ".") and self._taken(found):
                yield Hit(self.kind, match.start(), match.start() + len(found))

    @staticmethod
    def _taken(found: str) -> bool:
        try:
            address = IPv6Address(found)
        except AddressValueError:
            return False
        # `a::b` is more often a name in C++ or Rust than an address: ask for a digit and some length.
        written = found.replace(":", "")
        return not address.is_loopback and len(written) >= 5 and any(c.isdigit() for c in written)
