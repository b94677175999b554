"""A process that works on rows: `python -m tunesmith.pipelines.crew_worker BASE DATE`, told by `crew`."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from functools import cache

# Tokenizers need no torch, and transformers does without when it is not there: 80 MB and 2 s instead of 480 and 6.
sys.modules["torch"] = None  # type: ignore[assignment]
os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"

import orjson  # noqa: E402

from ..core.messages import Example  # noqa: E402
from ..data.judge import Judge  # noqa: E402
from ..data.language import Usual  # noqa: E402
from ..data.pii.rows import find_in_rows  # noqa: E402
from ..data.template import PLAIN_TEMPLATE  # noqa: E402
from ..data.tokenize import encode_unrolled  # noqa: E402
from ..data.wire import (  # noqa: E402
    packed_finds,
    packed_judgements,
    packed_pieces,
    read_frame,
    unpacked_rows,
    write_frame,
)
from ..models.find import find  # noqa: E402
from ..models.tokenizer import tokenizer as load_tokenizer  # noqa: E402

LESS = 10
"""How much nicer than who began it a worker is: all wait for that process in the end."""
Work = Callable[[list[Example]], bytes]


def work(task: bytes, base: str, date: str) -> Work:
    """What a task does to a portion of rows: `find` personal data, `judge` each row, `encode` it.

    A task is a JSON object: its name as `task`; for `judge` the `usual` languages, null where none is to be judged.
    """
    told = orjson.loads(task)
    if told["task"] == "find":
        return lambda rows: packed_finds(find_in_rows(rows))
    if told["task"] == "judge":
        judge = Judge(Usual(*told["usual"]) if told["usual"] else None)
        return lambda rows: packed_judgements(judge.of(rows))
    tokenizer = load_tokenizer(find(base), PLAIN_TEMPLATE, date)
    gc.freeze()  # what the libraries made stays: it need not be looked through again and again
    return lambda rows: packed_pieces(rows, encode_unrolled(tokenizer, rows))


def main(base: str, date: str) -> None:
    """Answer every task and its frame of rows on stdin with what it makes of them on stdout, until stdin ends."""
    os.nice(LESS)
    known = cache(lambda task: work(task, base, date))
    gc.freeze()
    gc.set_threshold(100_000)  # the rows of a portion are gone before they are looked through
    try:
        while (task := read_frame(sys.stdin.buffer)) is not None and (rows := read_frame(sys.stdin.buffer)) is not None:
            write_frame(sys.stdout.buffer, known(task)(unpacked_rows(rows)))
    except BrokenPipeError:  # who began it is gone; Python would tell of what is still to be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
