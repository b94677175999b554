"""Documents for tests of retrieval: PDF files made by hand, and folders of texts."""

from __future__ import annotations

import zlib
from pathlib import Path


def pdf(pages: list[str], *, packed: bool = False) -> bytes:
    """A PDF with a page for each text, a line of the page for each line; with `packed` streams are compressed."""
    fonts, objects = (
        3,
        [b"<< /Type /Catalog /Pages 2 0 R >>", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"],
    )
    kids = []
    for text in pages:
        lines = b"".join(b"(%s) Tj 0 -14 Td\n" % line.encode("latin-1") for line in text.split("\n"))
        stream = b"BT /F1 12 Tf 50 750 Td\n" + lines + b"ET"
        kids.append(page(objects, stream, fonts, packed=packed))
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), b" ".join(b"%d 0 R" % kid for kid in kids))
    return assembled(objects)


def page(objects: list[bytes], stream: bytes, font: int, *, packed: bool) -> int:
    """Add a page with a content stream; the number of its object."""
    content = zlib.compress(stream, 9) if packed else stream
    how = b" /Filter /FlateDecode" if packed else b""
    objects.append(b"<< /Length %d%s >>\nstream\n%s\nendstream" % (len(content), how, content))
    objects.append(
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
        b"/Resources << /Font << /F1 %d 0 R >> >> >>" % (len(objects), font)
    )
    return len(objects)


def assembled(objects: list[bytes]) -> bytes:
    """Objects to a file, the first its catalog."""
    made, places = bytearray(b"%PDF-1.4\n"), []
    for number, content in enumerate(objects, start=1):
        places.append(len(made))
        made += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    at = len(made)
    made += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    made += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, at)
    return bytes(made)


def bomb(size: int) -> bytes:
    """A PDF of some kilobytes with a page whose content grows to `size` bytes."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Count 1 /Kids [5 0 R] >>",
               b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]  # fmt: skip
    page(objects, b" " * size, 3, packed=True)
    return assembled(objects)


def written(folder: Path, **texts: str) -> Path:
    """A folder with a Markdown file for each text, `__` in a name for a folder."""
    for name, text in texts.items():
        path = folder / (name.replace("__", "/") + ".md")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return folder


def holding(folder: Path, words: list[str]) -> list[str]:
    """The files below a folder, hidden ones too, in whose bytes or name one of the words stands."""
    return [
        f"{path.relative_to(folder)}: {word}"
        for path in folder.rglob("*")
        for word in words
        if word.encode() in (path.read_bytes() if path.is_file() else b"") or word in path.name
    ]
