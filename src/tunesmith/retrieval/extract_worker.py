"""A process that takes the text out of HTML and PDF files: `python -m tunesmith.retrieval.extract_worker`.

Such files come from anywhere, and some are made so that reading them never ends or fills the memory. This process has
a limit of memory, and `extract`, which starts it, ends it when a file takes too long. A line with a path comes in, a
line of JSON goes out: {"text", "pages"} or {"reason"}.
"""

from __future__ import annotations

import json
import re
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from pypdf import PdfReader
from pypdf.errors import DependencyError

from ..data.tickets.html import to_text
from .extract import MEMORY, SECONDS

CHARACTERS = 32 << 20
"""The most text that is taken from one file."""
_LAST = 2 * round(SECONDS)
"""Seconds after which a file ends this process, should nobody be there any more to end it."""
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


class UnreadableError(Exception):
    """There is no text to be had; the message is the reason."""


def main() -> None:
    """Answer every path on stdin until it ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    for line in sys.stdin:
        signal.alarm(_LAST)
        print(json.dumps(read(Path(json.loads(line)))), flush=True)  # noqa: T201  the answer, and only that
        signal.alarm(0)


def read(path: Path) -> dict[str, Any]:
    """{"text": all of it, "pages": where in it each page begins}, or {"reason": why there is none}."""
    try:
        return _pdf(path) if path.suffix.lower() == ".pdf" else {"text": _html(path.read_bytes()), "pages": []}
    except UnreadableError as error:
        return {"reason": str(error)}
    except DependencyError:
        return {"reason": "it is encrypted in a way that is not read here: save it without"}
    except MemoryError:
        return {"reason": f"reading it takes more than {MEMORY >> 30} GB of memory"}
    except RecursionError:
        return {"reason": "it is nested too deeply"}
    except Exception as error:  # pypdf raises many kinds on a damaged file; the person needs one sentence
        first = (str(error).strip().splitlines() or [""])[0]
        return {"reason": f"it is damaged, or no such file at all ({type(error).__name__}: {first[:200]})"}


def _pdf(path: Path) -> dict[str, Any]:
    reader = PdfReader(path, strict=False)
    if reader.is_encrypted and not reader.decrypt(""):
        raise UnreadableError("it is protected by a password: save it without one")
    texts: list[str] = []
    starts: list[int] = []
    size = 0
    for page in reader.pages:
        text = page.extract_text().replace("\0", "").encode("utf-8", "replace").decode()
        starts.append(size)
        texts.append(text)
        size += len(text) + len("\n\n")
        if size > CHARACTERS:
            raise UnreadableError(f"it holds more than {CHARACTERS >> 20} million characters: cut it into several")
    whole = "\n\n".join(texts)
    if not whole.strip():
        raise UnreadableError("there is no text in it: are its pages pictures? Have their text recognised first (OCR)")
    return {"text": whole, "pages": starts}


def _html(content: bytes) -> str:
    if not content.strip():
        raise UnreadableError("it is empty")
    text = to_text(_decoded(content), page=True)
    if "\0" in text:
        raise UnreadableError("it holds a NUL character: it is no text")
    if len(text) > CHARACTERS:
        raise UnreadableError(f"it holds more than {CHARACTERS >> 20} million characters: cut it into several")
    return text


def _decoded(content: bytes) -> str:
    """By its mark, else as it says itself, else as UTF-8."""
    told = _CHARSET.search(content[:4096])
    named = told[1].decode("ascii", "replace") if told else "utf-8"
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), named)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise UnreadableError(
            f"it is not in {encoding}; is it Latin-1? Convert it (iconv -f ISO-8859-1 -t UTF-8)"
        ) from None
    except LookupError:
        raise UnreadableError(f"it says to be in '{encoding}', which nobody knows: convert it to UTF-8") from None


if __name__ == "__main__":
    main()
