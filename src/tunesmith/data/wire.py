"""Rows, and what is made of them, as bytes between two processes of one machine.

A frame is its length in eight bytes, then that many. A frame of rows holds their JSON; so do those of what is found in
rows and of how they are judged. One of tokens holds a JSON head, what became of each row (a reason, or for each of its
pieces how many turns it has, -1 for all, and the stretches of tokens with one loss weight), and behind it all token ids
(int32), one piece behind the other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import numpy as np
import orjson
from pydantic import TypeAdapter

from ..core.messages import Example
from .look import Judgement
from .pii.hits import Hit
from .pii.rows import Found
from .template import TemplateError, piece_of
from .tokenize import Encoded, Pieces

_LENGTH = struct.Struct("<Q")
_ROWS = TypeAdapter(list[Example])


def write_frame(stream: BinaryIO, content: bytes) -> None:
    """Send one frame."""
    stream.write(_LENGTH.pack(len(content)))
    stream.write(content)
    stream.flush()


def read_frame(stream: BinaryIO) -> bytes | None:
    """The next frame; None where the stream has ended, be it within one."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    [length] = _LENGTH.unpack(head)
    content = stream.read(length)
    return content if len(content) == length else None


def packed_rows(records: Iterable[bytes]) -> bytes:
    """Rows, each as its JSON, as a frame's content."""
    return b"[" + b",".join(records) + b"]"


def unpacked_rows(content: bytes) -> list[Example]:
    """The rows of a frame."""
    return _ROWS.validate_json(content)


def packed_finds(found: Iterable[Found]) -> bytes:
    """What is found in some rows, as a frame's content."""
    return orjson.dumps(list(found))


def unpacked_finds(content: bytes, first: int) -> Iterator[Found]:
    """What was found, where `first` is the number of the frame's first row."""
    for index, texts in orjson.loads(content):
        finds: list[tuple[str, Sequence[Hit]]] = [(text, [Hit(**hit) for hit in hits]) for text, hits in texts]
        yield first + index, finds


def packed_judgements(judged: Iterable[Judgement]) -> bytes:
    """How rows are judged, as a frame's content."""
    return orjson.dumps([tuple(one) for one in judged])


def unpacked_judgements(content: bytes) -> Iterator[Judgement]:
    """How each row is judged."""
    return (Judgement(tuple(marks), (prompt, answer)) for marks, (prompt, answer) in orjson.loads(content))


def packed_pieces(examples: Sequence[Example], shown: Sequence[Pieces | TemplateError]) -> bytes:
    """What became of the rows, as a frame's content."""
    head: list[str | list[tuple[int, list[tuple[int, float]]]]] = []
    ids = []
    for example, row in zip(examples, shown, strict=True):
        if isinstance(row, TemplateError):
            head.append(str(row))
            continue
        head.append([(-1 if piece is example else len(piece.messages), _stretches(one)) for piece, one in row])
        ids += [one.input_ids.tobytes() for _, one in row]
    told = orjson.dumps(head)
    return b"".join((_LENGTH.pack(len(told)), told, *ids))


def unpacked_pieces(examples: Iterable[Example], content: bytes) -> Iterator[tuple[Example, Pieces | TemplateError]]:
    """Each row with what became of it."""
    [length] = _LENGTH.unpack_from(content)
    begin = _LENGTH.size + length
    head = orjson.loads(content[_LENGTH.size : begin])
    ids = np.frombuffer(content[begin:], dtype=np.int32)
    at = 0
    for example, row in zip(examples, head, strict=True):
        if isinstance(row, str):
            yield example, TemplateError(row)
            continue
        pieces: Pieces = []
        for turns, stretches in row:
            weight = np.repeat(np.array([w for _, w in stretches], np.float32), [size for size, _ in stretches])
            piece = example if turns < 0 else piece_of(example, turns - 1)
            pieces.append((piece, Encoded(ids[at : at + len(weight)], weight)))
            at += len(weight)
        yield example, pieces


def _stretches(one: Encoded) -> list[tuple[int, float]]:
    """(tokens, loss weight) of each stretch of one weight."""
    weight = one.loss_weight
    if not len(weight):
        return []
    starts = [0, *(np.flatnonzero(weight[1:] != weight[:-1]) + 1).tolist()]
    ends = [*starts[1:], len(weight)]
    return [(end - start, float(weight[start])) for start, end in zip(starts, ends, strict=True)]
