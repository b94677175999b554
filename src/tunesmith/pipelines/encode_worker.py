"""A process that makes tokens of rows: `python -m tunesmith.pipelines.encode_worker BASE DATE`, told by `encoding`."""

from __future__ import annotations

import gc
import os
import sys

# Tokenizers need no torch, and transformers does without when it is not there: 80 MB and 2 s instead of 480 and 6.
sys.modules["torch"] = None  # type: ignore[assignment]
os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"

from ..data.template import PLAIN_TEMPLATE  # noqa: E402
from ..data.tokenize import encode_unrolled  # noqa: E402
from ..data.wire import packed_pieces, read_frame, unpacked_rows, write_frame  # noqa: E402
from ..models.find import find  # noqa: E402
from ..models.tokenizer import tokenizer as load_tokenizer  # noqa: E402


def main(base: str, date: str) -> None:
    """Answer every frame of rows on stdin with one of tokens on stdout, until stdin ends."""
    tokenizer = load_tokenizer(find(base), PLAIN_TEMPLATE, date)
    gc.freeze()  # what the libraries made stays: it need not be looked through again and again
    while (rows := read_frame(sys.stdin.buffer)) is not None:
        examples = unpacked_rows(rows)
        write_frame(sys.stdout.buffer, packed_pieces(examples, encode_unrolled(tokenizer, examples)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
