"""Parquet and Arrow files, row by row.

A small file can stand for terabytes: one long value, repeated by reference. So texts stay references to a dictionary
until a few rows were measured, and only rows within the limits are spelled out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from ..core.errors import ContentError
from ..core.later import later
from .raw import DamagedError, Limits, RawRow, megabytes

pa, pc, pq, types = (later(name) for name in ("pyarrow", "pyarrow.compute", "pyarrow.parquet", "pyarrow.types"))

PARQUET, ARROW, ARROW_STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
_ROWS = 64
"""Rows measured, and spelled out, together."""
_ROW_COST = 256
"""Bytes counted for a row, however little it says."""
_LISTS = ("is_list", "is_large_list", "is_fixed_size_list")
"""Of `pyarrow.types`."""


def columnar_rows(path: Path, head: bytes, limits: Limits) -> Iterator[RawRow]:
    """Rows counted from 1."""
    number, spent, budget = 0, 0, limits.budget(path.stat().st_size)
    try:
        for batch in _parquet(path, limits, budget) if head.startswith(PARQUET) else _arrow(path, head, limits):
            whole = batch.to_struct_array()
            for at in range(0, len(whole), _ROWS):
                part = whole.slice(at, _ROWS)
                size = dense(part)
                if size > limits.row:  # some row may be too large: look at each
                    yield from _one_by_one(part, number, limits)
                    size = sum(min(dense(part.slice(i, 1)), limits.row) for i in range(len(part)))
                else:
                    yield from (RawRow(number + i, plain(v), tabular=True) for i, v in enumerate(part.to_pylist(), 1))
                number, spent = number + len(part), spent + max(size, _ROW_COST * len(part))
                if spent > budget:
                    raise DamagedError(_too_much(budget))
    except DamagedError as error:
        yield RawRow(number + 1, reason=str(error))
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError, ValueError) as error:
        first = (str(error).splitlines() or [""])[0][:200]
        yield RawRow(number + 1, reason=f"the file is damaged here: {first}")


def _one_by_one(part: Any, number: int, limits: Limits) -> Iterator[RawRow]:
    for i in range(len(part)):
        one = part.slice(i, 1)
        if dense(one) > limits.row:
            yield RawRow(number + i + 1, reason=f"the row is larger than {megabytes(limits.row)}")
        else:
            yield RawRow(number + i + 1, plain(one.to_pylist()[0]), tabular=True)


def _parquet(path: Path, limits: Limits, budget: int) -> Iterator[Any]:
    with pq.ParquetFile(path) as plain_file:
        schema, about = plain_file.schema, plain_file.metadata
        _require_narrow(about.num_columns, limits)
        columns = [schema.column(i) for i in range(about.num_columns)]
        deepest = max((c.max_definition_level for c in columns), default=0)
        groups = [about.row_group(i).total_byte_size for i in range(about.num_row_groups)]
        texts = [c.path for c in columns if c.physical_type == "BYTE_ARRAY"]
    if deepest > limits.depth:
        raise DamagedError(f"columns are nested more than {limits.depth} deep")
    if about.num_rows * _ROW_COST > budget or sum(groups) > budget:
        raise DamagedError(_too_much(budget))
    with pq.ParquetFile(path, read_dictionary=texts, pre_buffer=False, buffer_size=1 << 16) as file:
        yield from file.iter_batches(batch_size=_ROWS, use_threads=False)


def _arrow(path: Path, head: bytes, limits: Limits) -> Iterator[Any]:
    with pa.memory_map(str(path)) as source:
        if head.startswith(ARROW_STREAM):
            with pa.ipc.open_stream(source) as stream:
                _require_narrow(len(stream.schema), limits)
                yield from map(_valid, stream)
            return
        with pa.ipc.open_file(source) as file:
            _require_narrow(len(file.schema), limits)
            for i in range(file.num_record_batches):
                yield _valid(file.get_batch(i))


def _valid(batch: Any) -> Any:
    """The batch, whose offsets and texts were looked at: damaged ones would be followed into other memory."""
    batch.validate(full=True)
    return batch


def _require_narrow(columns: int, limits: Limits) -> None:
    if columns > limits.columns:
        raise ContentError(f"the table has {columns} columns; at most {limits.columns} are read",
                           mend="write a table with the columns that are needed")  # fmt: skip


def _too_much(budget: int) -> str:
    return f"the file grows beyond {megabytes(budget)}: split it, or write it as JSON Lines, if that is meant"


def dense(array: Any) -> int:
    """About how many bytes the values take once they are spelled out."""
    kind, here = array.type, 16 * len(array)
    if types.is_dictionary(kind):
        return here + _dense_dictionary(array)
    if types.is_struct(kind):
        return here + sum(dense(field) for field in array.flatten())
    if any(getattr(types, known)(kind) for known in _LISTS):
        return here + dense(array.flatten())
    if types.is_map(kind):
        return here + dense(array.keys) + dense(array.items)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind):
        return here + (pc.sum(pc.binary_length(array)).as_py() or 0)
    if types.is_primitive(kind) or types.is_null(kind) or types.is_decimal(kind):
        return here
    raise DamagedError(f"a column of type {str(kind)[:60]} cannot be read")


def _dense_dictionary(array: Any) -> int:
    counts = pc.value_counts(array.indices.drop_null())
    if not len(counts):
        return 0
    used, times = array.dictionary.take(counts.field("values")), counts.field("counts")
    if not (types.is_string(used.type) or types.is_large_string(used.type) or types.is_binary(used.type)):
        return int(dense(used))
    return int(pc.sum(pc.multiply(pc.fill_null(pc.binary_length(used), 0).cast(pa.int64()), times)).as_py())


def plain(value: Any) -> Any:
    """A value of Arrow as JSON would have it: dates as text, no NaN; null stays null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | timedelta):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value
