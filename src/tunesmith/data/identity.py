"""What a row is, as 16 bytes, and what a set of rows is, as one root: equal content, equal identity.

A row's digest is BLAKE2b of 16 bytes over its canonical JSON (the standard library's: sorted keys, no spaces, UTF-8,
floats in their shortest form), and neither the machine, the file's format nor the row's place counts. Two rows are the
same when a model is shown the same and the rest of the row says the same:

- an absent content is an empty one, a weight of 1 is none: templates and loss make no difference between them;
- metadata is taken as a table would hold it: a number or truth value is its text, an empty value is absent. So a CSV
  and a JSONL of the same rows are the same set.

A set's root is SHA-256 over the sorted digests: the order of rows makes no difference, a row twice does. (A sum of
digests would need no sorting, but other rows with the same sum can be found; see Bellare and Micciancio 1997.)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ..core.messages import Message, Row

Digests = NDArray[np.uint8]
"""uint8 [N, 16]: a row's digest each."""

SIZE = 16
_MARK = b"tunesmith rows 1\n"
"""Hashed before the digests; another number means that rows are told apart in another way."""
_written = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False).encode


def digest(row: Row) -> bytes:
    """The 16 bytes that stand for the row's content."""
    return hashlib.blake2b(_canonical(content(row)), digest_size=SIZE).digest()


def _canonical(value: dict[str, Any]) -> bytes:
    """A JSON value in its canonical form. orjson writes the same but for floats, and sooner."""
    if _plain(value):
        with suppress(TypeError):  # what it does not write: lone surrogates
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return _written(value).encode("utf-8", "surrogatepass")


def _plain(value: Any) -> bool:
    """Whether it consists of texts, lists and objects with texts as keys."""
    items = value
    if type(value) is dict:
        for key in value:
            if type(key) is not str:
                return False
        items = value.values()
    elif type(value) is not list:
        return type(value) is str
    for item in items:  # noqa: SIM110  a generator for all() is slower
        if type(item) is not str and not _plain(item):
            return False
    return True


def digests(rows: Iterable[Row]) -> Digests:
    """The digest of each row, in order; the rows themselves are not kept."""
    found = bytearray()
    for row in rows:
        found += digest(row)
    return joined(found)


def joined(found: bytearray) -> Digests:
    """Digests that stand one behind the other."""
    return np.frombuffer(found, dtype=np.uint8).reshape(-1, SIZE)


def root(rows: Digests, times: Sequence[int] | None = None) -> str:
    """Hex SHA-256 of a set of rows; with `times` each counts so often."""
    rows = rows if times is None else np.repeat(rows, times, axis=0)
    high, low = halves(rows)
    return hashlib.sha256(_MARK + rows[np.lexsort((low, high))].tobytes()).hexdigest()


def halves(rows: Digests) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """(first, last) eight bytes of each digest as numbers that are in the order of the bytes."""
    pairs = np.ascontiguousarray(rows).view(">u8").astype(np.uint64)
    return pairs[:, 0], pairs[:, 1]


def content(row: Row) -> dict[str, Any]:
    """What counts of a row, as a JSON value."""
    found: dict[str, Any] = {"kind": row.kind}
    for name, value in row.__dict__.items():
        if name == "metadata":
            found[name] = _as_in_a_table(value)
        elif isinstance(value, Message):
            found[name] = turn(value)
        elif name == "messages" and not value:
            continue  # of a text that is no conversation
        elif isinstance(value, tuple):
            found[name] = [turn(item) if isinstance(item, Message) else item for item in value]
        elif value is not None and name != "origin":
            found[name] = value
    return found


def turn(message: Message) -> dict[str, Any]:
    """What counts of a message. A weight of 0 counts, one of 1 does not."""
    made = {key: value for key, value in message.__dict__.items() if value}
    if message.weight is not None:
        made["weight"] = float(message.weight)
        if message.weight == 1:
            del made["weight"]
    return made


def _as_in_a_table(metadata: dict[str, Any]) -> dict[str, Any]:
    """Scalars as text, empty ones left out."""
    return {
        key: json.dumps(value) if isinstance(value, int | float) else value
        for key, value in metadata.items()
        if value is not None and value != ""
    }
