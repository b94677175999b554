"""The text of an HTML mail or page.

What mail programs mark as quoted gets `>` in front; what they mark as a signature goes. Of a page the headings are
marked as in Markdown, code is fenced, and what leads about the site goes.
"""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

_BLOCKS = frozenset(
    ("address", "article", "aside", "center", "dd", "div", "dl", "dt", "fieldset", "footer", "form", "header", "h1",
     "h2", "h3", "h4", "h5", "h6", "li", "main", "nav", "ol", "p", "pre", "section", "table", "tbody", "tfoot",
     "thead", "tr", "ul", "blockquote", "body")
)  # fmt: skip
_APART = frozenset(("p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "table", "pre", "blockquote"))
"""Blocks with an empty line around them."""
_SILENT = frozenset(("script", "style", "head", "title", "template"))
_HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_VOID = frozenset(("br", "hr", "img", "input", "meta", "link", "area", "base", "col", "embed", "source", "wbr"))
_QUOTES = re.compile(r"\b(?:gmail_quote|yahoo_quoted|moz-cite-prefix|protonmail_quote|zmail_extra)\b")
_SIGNATURES = re.compile(r"\b(?:gmail_signature|moz-signature|protonmail_signature_block)\b")
_LOOKS = re.compile(r"\s*<(?:!doctype|html|body|div|p|span|table|br|meta)\b[^<]*>", re.IGNORECASE)


def looks_like_html(text: str) -> bool:
    """Whether a text that is called plain begins with a tag of a page and ends with one."""
    return text.rstrip().endswith(">") and _LOOKS.match(text) is not None


def to_text(html: str, *, page: bool = False) -> str:
    """Paragraphs, lines, list items, and the addresses of links; nothing of scripts and styles.

    `page` for a document rather than a mail.
    """
    reader = _Reader(page=page)
    reader.feed(_without_comments(html))
    reader.close()
    return reader.text()


def _without_comments(html: str) -> str:
    """HTMLParser takes time that grows with the square of comments that never end."""
    kept, at = [], 0
    while (start := html.find("<!--", at)) >= 0:
        kept.append(html[at:start])
        end = html.find("-->", start + 4)
        if end < 0:
            return "".join(kept) + html[start:].replace("<!--", "")
        at = end + 3
    return "".join(kept) + html[at:]


class _Reader(HTMLParser):
    """Collects lines. Each open element is remembered with what it does, for tags are often left open or crossed."""

    def __init__(self, *, page: bool) -> None:
        super().__init__(convert_charrefs=True)
        self._page = page
        self._lines: list[str] = []
        self._line = ""
        self._quoted = self._silent = self._kept = 0
        self._open: list[tuple[str, str]] = []
        self._depth: Counter[str] = Counter()
        self._link, self._linked = "", ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a line where the element is a block."""
        held = dict(attrs)
        if tag == "br":
            self._end_line(always=True)
            return
        if tag in ("td", "th") and self._line.strip():
            self._line = self._line.rstrip() + " | "
        if tag in _BLOCKS:
            self._end_line(apart=tag in _APART)
        if tag == "li":
            self._line = "- "
        if self._page and tag in _HEADINGS:
            self._line = "#" * int(tag[1]) + " "
        if tag == "a":
            self._link, self._linked = held.get("href") or "", ""
        if tag not in _VOID:
            self._enter(tag, held.get("class") or "")

    def _enter(self, tag: str, name: str) -> None:
        does = ""
        if tag in _SILENT or _SIGNATURES.search(name) or (self._page and tag == "nav"):
            does, self._silent = "silent", self._silent + 1
        elif tag == "blockquote" or _QUOTES.search(name):
            self._end_line()
            does, self._quoted = "quoted", self._quoted + 1
        elif tag == "pre":
            does, self._kept = "kept", self._kept + 1
            self._fence()
        self._open.append((tag, does))
        self._depth[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        """End the line of a block, and what the element did; an end without a beginning is passed over."""
        if tag == "a":
            self._end_link()
        if not self._depth[tag]:
            return
        if tag in _BLOCKS:
            self._end_line(apart=tag in _APART)
        while True:
            inner, does = self._open.pop()
            self._depth[inner] -= 1
            if does:
                self._end_line()
                if does == "kept":
                    self._fence()
                self._quoted -= does == "quoted"
                self._silent -= does == "silent"
                self._kept -= does == "kept"
            if inner == tag:
                return

    def handle_data(self, data: str) -> None:
        """Text: white space is one space, but where it is kept."""
        if self._silent:
            return
        self._linked += data
        if self._kept:
            first, *more = data.split("\n")
            self._line += first
            for line in more:
                self._end_line(always=True)
                self._line = line
            return
        words = re.sub(r"[ \t\r\n\f]+", " ", data)
        self._line += words.lstrip(" ") if not self._line or self._line.endswith(" ") else words

    def _fence(self) -> None:
        """Around code of a page, where a `#` begins no heading."""
        if self._page and not self._silent:
            self._line = "```"
            self._end_line()

    def _end_link(self) -> None:
        """The address behind the words of a link, where the words are not the address themselves."""
        address, words = self._link, " ".join(self._linked.split())
        self._link = ""
        bare = re.sub(r"^(?:https?://)?(?:www\.)?|/$", "", address)
        if not self._silent and address.startswith(("http://", "https://")) and words and bare not in words:
            self._line += f" ({address})"

    def _end_line(self, *, always: bool = False, apart: bool = False) -> None:
        line = self._line.rstrip() if self._kept else self._line.strip()
        self._line = ""
        mark = "> " * min(self._quoted, 3)
        if line or always:
            self._lines.append((mark + line).rstrip())
        if apart and self._lines and self._lines[-1].strip("> "):
            self._lines.append(mark.rstrip())

    def text(self) -> str:
        """All of it, without empty lines at either end and never two in a row."""
        self._end_line()
        while self._lines and not self._lines[-1].strip("> "):
            self._lines.pop()
        return re.sub(r"\n{3,}", "\n\n", "\n".join(self._lines)).strip("\n")
