"""Safe mends of one row: what was misread is read again, what hides is taken out, what is private is masked.

Safe means: the row says the same afterwards, or says less of what it should not say. What needs a judgement (which of
two answers is right) is not mended here or anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..core.messages import Example, Row
from .kinds import joined, parted
from .pii import Known, find
from .pii.rows import changed, mask_row, texts
from .quality import CONTROL, MISREAD, garbled

TEXT_CODES = ("broken_encoding",)
PRIVATE_CODES = ("personal_data", "secrets")
CHANGING = (*TEXT_CODES, *PRIVATE_CODES, "typo_label")
"""Findings whose rows are changed."""
DROPPING = (
    "overlap", "near_leakage", "no_supervision", "too_long", "same_answers", "duplicate_rows", "near_duplicates",
)  # fmt: skip
"""Findings whose rows are left out; of several the first is the one that is told."""
SUBJECT = "subject"
"""The key of a row that names whom it is about, as `import csv-crm` writes it."""
_HIDDEN = re.compile("[\u200b\u2060\ufeff]")
_BREAKS = "\x0b\x0c\x85"


class LostError(Exception):
    """Characters were lost when the text was decoded; nothing can bring them back."""


def mended(
    row: Row, codes: Sequence[str], labels: Mapping[str, str], subjects: dict[str, Known] | None = None
) -> tuple[Row, dict[str, str]]:
    """The row without the troubles named by `codes`, and for each what was done; `labels` corrects mistyped ones.

    `subjects` is what is known of those whom rows are about (`SUBJECT` in their metadata), and is added to: one
    person's address has the same placeholder in all their rows.
    LostError where the text cannot be restored.
    """
    example, done = joined(row), {}
    for code in (code for code in TEXT_CODES if code in codes):
        example = changed(example, readable)
        if any(map(garbled, texts(example))):
            raise LostError
        done[code] = "read again, without control characters"
    if "typo_label" in codes and (meant := labels.get(example.answer().strip())):
        done["typo_label"] = f"label '{example.answer().strip()}' to '{meant}'"
        example = _answering(example, meant)
    if any(code in codes for code in PRIVATE_CODES):
        name = getattr(row, "metadata", {}).get(SUBJECT)
        before = (subjects or {}).get(str(name), {})
        told = {hit.kind for text in texts(example) for hit in find(text)}
        example, known = mask_row(example, before)
        if subjects is not None and name is not None:
            subjects[str(name)] = known
        kinds = ", ".join(sorted(told))
        done |= {code: f"masked: {kinds}" for code in PRIVATE_CODES if code in codes}
    return parted(row, example), done


def readable(text: str) -> str:
    """Text without control and zero-width characters, in which UTF-8 that was read as Windows-1252 is read again."""
    while (again := _clearer(text)) != text:
        text = again
    return text


def _clearer(text: str) -> str:
    """One step: every change makes the text shorter, or takes a control character out of it."""
    again = MISREAD.sub(lambda match: _as_utf8(match.group()), text)
    return _HIDDEN.sub("", CONTROL.sub(lambda match: _uncontrolled(match.group()), again))


def _as_utf8(piece: str) -> str:
    """The letters with the first character that their bytes, as of Windows-1252, are in UTF-8."""
    data = b"".join(c.encode("latin-1") if c < "\u0100" else c.encode("cp1252") for c in piece)
    for size in range(2, len(data) + 1):
        try:
            return data[:size].decode("utf-8") + piece[size:]
        except UnicodeDecodeError:
            continue
    return piece


def _uncontrolled(letter: str) -> str:
    """A line end for what breaks lines; a Windows-1252 letter for what was read as Latin-1; nothing for the rest."""
    if letter == "\ufffd":
        return letter
    if letter in _BREAKS:
        return "\n"
    return letter.encode("latin-1").decode("cp1252", "ignore") if letter >= "\x80" else ""


def _answering(example: Example, answer: str) -> Example:
    """The row with another last answer."""
    last = max(i for i, m in enumerate(example.messages) if m.role == "assistant")
    turn = example.messages[last].model_copy(update={"content": answer})
    return example.model_copy(update={"messages": (*example.messages[:last], turn, *example.messages[last + 1 :])})
