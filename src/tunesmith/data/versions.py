"""Two versions of a set of rows: what is the same, what changed, and what only one of them has.

Rows are matched in three rounds, each among those that the one before left: the same row; the same but for its
metadata; the same prompt. Within a round the first of A goes with the first of B, so a row that A has twice and B once
is once the same and once only in A. Where a row stands makes no difference.

Shapes: N rows, uint8 [N, 16] digests of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.messages import Example, Labelled, Message, Preference, Prompt, Row, Text, prompt_key
from . import identity
from .identity import SIZE, Digests

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Matched:
    """Places in A and in B. Every row is in one of them."""

    same: int
    changed: tuple[tuple[int, int], ...]
    """(row of A, row of B) with the same prompt and something else, in A's order."""
    only_a: tuple[int, ...]
    only_b: tuple[int, ...]


def match(a: Sequence[Row], b: Sequence[Row], digests_a: Digests, digests_b: Digests) -> Matched:
    """Match the rows of two sets; only those that are not the same in both are looked at again."""
    pairs, left_a, left_b = _paired(digests_a, digests_b)
    same, changed = len(pairs), list[tuple[int, int]]()
    for key in (_without_metadata, _prompt):
        found, rest_a, rest_b = _paired(_keys(a, left_a, key), _keys(b, left_b, key))
        changed += [(int(left_a[i]), int(left_b[j])) for i, j in found]
        left_a, left_b = left_a[rest_a], left_b[rest_b]
    return Matched(same, tuple(sorted(changed)), tuple(map(int, left_a)), tuple(map(int, left_b)))


def _paired(a: Digests, b: Digests) -> tuple[NDArray[np.intp], Indices, Indices]:
    """(pairs [P, 2] of equal ones, each taken once; those left of `a`; those left of `b`)."""
    high, low = identity.halves(np.concatenate((a, b)))
    side = np.repeat(np.array([0, 1]), (len(a), len(b)))
    order = np.lexsort((side, low, high))  # stable: within a side rows stay in their order
    first = np.ones(len(order), dtype=bool)
    first[1:] = (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0)
    group = np.cumsum(first) - 1
    counts = np.stack([np.bincount(group[side[order] == s], minlength=len(first)) for s in (0, 1)])
    within = np.arange(len(order)) - np.flatnonzero(first)[group] - np.where(side[order] == 1, counts[0][group], 0)
    taken = within < counts.min(axis=0)[group]
    mine = [order[taken & (side[order] == s)] for s in (0, 1)]
    left = [np.sort(order[~taken & (side[order] == s)]) for s in (0, 1)]
    return np.stack((mine[0], mine[1] - len(a)), axis=1), left[0], left[1] - len(a)


def _keys(rows: Sequence[Row], indices: Indices, key: Callable[[Row], bytes]) -> Digests:
    made = b"".join(hashlib.blake2b(key(rows[int(i)]), digest_size=SIZE).digest() for i in indices)
    return np.frombuffer(made, dtype=np.uint8).reshape(-1, SIZE)


def _without_metadata(row: Row) -> bytes:
    return identity.digest(row.model_copy(update={_extras(row): {}}))


def _prompt(row: Row) -> bytes:
    if isinstance(row, Text) and not row.messages:
        return row.text.encode("utf-8", "surrogatepass")
    return prompt_key(_before(row)).encode("utf-8", "surrogatepass")


def _before(row: Row) -> tuple[Message, ...]:
    """The turns to which the row gives, or waits for, an answer; of a text that is a conversation all of them."""
    if isinstance(row, Example):
        return row.prompt()
    return row.messages if isinstance(row, Prompt | Text) else row.prompt


def differences(a: Row, b: Row) -> dict[str, tuple[str, str]]:
    """The parts in which two rows differ, by name, as they stand in each; "" where one has no such part."""
    ours, theirs = _parts(a), _parts(b)
    names = dict.fromkeys((*ours, *theirs))
    found = {n: (ours.get(n, ""), theirs.get(n, "")) for n in names if ours.get(n, "") != theirs.get(n, "")}
    if not found:  # 4 and "4" look alike as text
        return {_extras(a): (_exact(a), _exact(b))}
    return found


def _parts(row: Row) -> dict[str, str]:
    """The row's parts as text, each key of its metadata one of them."""
    parts = {"text": row.text} if isinstance(row, Text) and not row.messages else {"prompt": _told(_before(row))}
    if isinstance(row, Example):
        behind = row.messages[len(row.prompt()) :]
        parts["answer"] = (behind[0].content or "") if _plain(behind) else _told(behind)
    elif isinstance(row, Preference):
        parts |= {"chosen": _told(row.chosen), "rejected": _told(row.rejected)}
    elif isinstance(row, Labelled):
        parts |= {"answer": _told((row.answer,)), "label": _json(row.label)}
    if "text" not in parts:
        parts["tools"] = _json(row.tools) if row.tools is not None else ""
    name = _extras(row)
    return parts | {f"{name}.{key}": _json(value) for key, value in identity.content(row)[name].items()}


def _extras(row: Row) -> str:
    """Where a row keeps what the model is not shown."""
    return "fields" if isinstance(row, Prompt) else "metadata"


def _exact(row: Row) -> str:
    return json.dumps(identity.content(row)[_extras(row)], sort_keys=True, ensure_ascii=False)


def outline(row: Row) -> list[str]:
    """What is asked last and what is answered, or the text itself: enough to know a row by."""
    parts = _parts(row)
    asked = next((m.content for m in reversed(_before(row)) if m.content), "")
    return [text for text in (asked, *(parts.get(name) for name in ("text", "answer", "chosen"))) if text]


def _plain(turns: Sequence[Message]) -> bool:
    return len(turns) == 1 and identity.turn(turns[0]).keys() <= {"role", "content"}


def _told(turns: Sequence[Message]) -> str:
    """Turns as text: who says what; what else a turn holds as JSON."""
    lines = []
    for turn in turns:
        more = {key: value for key, value in identity.turn(turn).items() if key not in ("role", "content")}
        lines.append(f"{turn.role}: {turn.content or ''}" + (f" {_json(more)}" if more else ""))
    return "\n".join(lines)


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


_WORDS = re.compile(r"\w+|\s+|[^\w\s]")
_AROUND, _LONGEST, _COMPARED = 6, 160, 2000


def word_difference(a: str, b: str) -> str:
    """What changed from `a` to `b` in git's notation, `[-old-]{+new+}`, with a few words around each change.

    Long texts are cut: ` ... ` stands for words that are the same or one too many to show.
    """
    ours, theirs = _WORDS.findall(a), _WORDS.findall(b)
    blocks = list(_blocks(ours, theirs))
    shown = []
    for number, (same, old, new) in enumerate(blocks):
        if same:
            shown.append(_context(old, first=number == 0, last=number == len(blocks) - 1))
        else:
            shown.append(f"[-{_cut(old)}-]" * bool(old) + f"{{+{_cut(new)}+}}" * bool(new))
    return "".join(shown)


def _blocks(ours: list[str], theirs: list[str]) -> Iterator[tuple[bool, list[str], list[str]]]:
    """(whether the same, words of a, words of b) in order. What is far too long to compare is one change."""
    shorter = min(len(ours), len(theirs))
    head = next((i for i in range(shorter) if ours[i] != theirs[i]), shorter)
    tail = next((i for i in range(shorter - head) if ours[-1 - i] != theirs[-1 - i]), shorter - head)
    end_a, end_b = len(ours) - tail, len(theirs) - tail
    middle_a, middle_b = ours[head:end_a], theirs[head:end_b]
    if head:
        yield True, ours[:head], []
    if max(len(middle_a), len(middle_b)) > _COMPARED:
        yield False, middle_a, middle_b
    else:
        for tag, i, j, k, m in SequenceMatcher(None, middle_a, middle_b, autojunk=False).get_opcodes():
            yield tag == "equal", middle_a[i:j], middle_b[k:m]
    if tail:
        yield True, ours[end_a:], []


def _context(words: list[str], *, first: bool, last: bool) -> str:
    keep = 2 * _AROUND
    if len(words) <= (keep if first or last else 2 * keep):
        return "".join(words)
    before = "" if first else "".join(words[:keep])
    behind = "" if last else "".join(words[-keep:])
    return f"{before} ... {behind}"


def _cut(words: list[str]) -> str:
    text = "".join(words)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
