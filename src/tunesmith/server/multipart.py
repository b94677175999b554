"""Multipart forms as a stream: a file goes from the socket to its place and is never whole in memory.

Frameworks' form parsers spool a body before anyone is asked whether it may be sent. Here the parser is pulled by what
consumes the parts, and a name that a client gives is a text to store and never a path.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from .errors import ApiError, invalid

_FIELD = 2**16
"""Longest text of a field in bytes."""
_HEADERS, _HEADER = 16, 2**13
"""Most headers of a part, and the longest in bytes."""
_PARTS = 32


@dataclass(frozen=True)
class Part:
    """One part of a form. `content` must be consumed before the next part is asked for; its rest is skipped."""

    name: str
    filename: str | None
    content: Iterator[bytes]

    def text(self) -> str:
        """The value of a field. ApiError 400 when it is too long or no UTF-8."""
        value = b""
        for piece in self.content:
            value += piece
            if len(value) > _FIELD:
                raise invalid(f"The value of '{self.name}' is too long.", self.name, "string_above_max_length")
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise invalid(f"The value of '{self.name}' is not UTF-8.", self.name) from error


def boundary(content_type: str | None) -> bytes:
    """The boundary that a Content-Type names. ApiError 400 where it is no multipart form."""
    kind, options = parse_options_header(content_type or "")
    found = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(found) <= 200:
        raise invalid("The request must be sent as multipart/form-data with a boundary.")
    return found


class Form:
    """The parts of a form, one after the other.

    ApiError 400 for a body that is no form, that ends before its last boundary, or with more than a form may have.
    """

    def __init__(self, pieces: Iterable[bytes], content_type: str | None):
        self._pieces = iter(pieces)
        self._events: deque[tuple[str, bytes]] = deque()
        self._seen, self._whole = 0, False
        mark = self._events.append
        self._parser = MultipartParser(
            boundary(content_type),
            {
                "on_header_field": lambda data, start, end: mark(("field", data[start:end])),
                "on_header_value": lambda data, start, end: mark(("value", data[start:end])),
                "on_header_end": lambda: mark(("header", b"")),
                "on_headers_finished": lambda: mark(("headers", b"")),
                "on_part_data": lambda data, start, end: mark(("data", data[start:end])),
                "on_part_end": lambda: mark(("part", b"")),
                "on_end": lambda: mark(("end", b"")),
            },
        )

    def __iter__(self) -> Iterator[Part]:
        """Each part in its turn."""
        while part := self._next_part():
            yield part
            for _ in part.content:
                pass

    def _next_event(self) -> tuple[str, bytes]:
        while not self._events:
            piece = next(self._pieces, None)
            if piece is None:
                raise invalid("The multipart form ends before its last boundary.", code="incomplete_body")
            try:
                self._parser.write(piece)
            except MultipartParseError as error:
                raise invalid("The body is not a well-formed multipart form.") from error
        return self._events.popleft()

    def _next_part(self) -> Part | None:
        if self._whole:
            return None
        headers: dict[bytes, bytes] = {}
        name = value = b""
        while True:
            event, data = self._next_event()
            if event == "end":
                self._whole = True
                return None
            name, value = (name + data, value) if event == "field" else (name, value)
            value = value + data if event == "value" else value
            if len(name) + len(value) > _HEADER or len(headers) > _HEADERS:
                raise invalid("A part of the multipart form has too many or too long headers.")
            if event == "header":
                headers[name.strip().lower()] = value
                name = value = b""
            elif event == "headers":
                return self._part(headers)

    def _part(self, headers: dict[bytes, bytes]) -> Part:
        self._seen += 1
        if self._seen > _PARTS:
            raise invalid("The multipart form has too many parts.")
        kind, options = parse_options_header(headers.get(b"content-disposition", b""))
        if kind != b"form-data" or not options.get(b"name"):
            raise invalid("A part of the multipart form has no name.")
        filename = options.get(b"filename")
        return Part(_text(options[b"name"]), None if filename is None else _text(filename), self._content())

    def _content(self) -> Iterator[bytes]:
        while True:
            event, data = self._next_event()
            if event == "part":
                return
            if data:
                yield data


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace").replace("\x00", "")


def twice(name: str) -> ApiError:
    """400 for a field that was given two times."""
    return invalid(f"'{name}' was given twice.", name, "duplicate_parameter")
