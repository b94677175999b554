"""E-mail addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .hits import AT, Hit

# RFC 5321 in the form that people use: no quoted names, no addresses in brackets; letters of any script.
_EMAIL = re.compile(
    r"(?<![\w.+%\-])[\w+%\-](?:[\w.+%'\-]{0,62}[\w+%\-])?@(?:[^\W_](?:[\w\-]{0,61}[^\W_])?\.)+[^\W\d_]{2,24}(?![\w@])"
)
_FILES = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp")  # logo@2x.png


class Email:
    """`name@host.tld`; not the user name of git over ssh, which is nobody's mailbox."""

    kind = "email"
    needs = AT

    def find(self, text: str) -> Iterator[Hit]:
        """All addresses."""
        if "@" not in text:
            return
        for match in _EMAIL.finditer(text):
            if not match[0].lower().endswith(_FILES) and not match[0].startswith("git@"):
                yield Hit(self.kind, *match.span())
