"""The body of a message to the words that its author wrote."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .html import looks_like_html, to_text
from .quotes import without_quotes
from .signature import without_signature

QUOTE, SIGNATURE, HTML = "quoted mail", "signature", "HTML"


@dataclass(frozen=True)
class Cleaned:
    """A text, "" where nothing of the author's own was left, and what was taken off."""

    text: str
    taken: frozenset[str] = frozenset()


def clean(body: str, html: str = "", author: str = "") -> Cleaned:
    """The author's words of a plain body, or of an HTML one where the plain one is empty. `author` is their name."""
    if not body and not html:
        return Cleaned("")
    taken = set()
    if not body.strip() or looks_like_html(body):
        source = html if not body.strip() else body
        if source.strip():
            taken.add(HTML)
        body = to_text(source)
    body = body.replace("\r\n", "\n").replace("\r", "\n").replace("&nbsp;", " ").replace("\xa0", " ")
    lines = re.sub(r"\n[ \t]*(?:\n[ \t]*){2,}\n", "\n\n", f"{body}\n").split("\n")
    own, quoted = without_quotes(lines)
    own, signed = without_signature(own, author)
    if quoted:
        taken.add(QUOTE)
    if signed:
        taken.add(SIGNATURE)
    text = "\n".join(line.rstrip() for line in own)
    return Cleaned(re.sub(r"\n{3,}", "\n\n", text).strip(), frozenset(taken))
