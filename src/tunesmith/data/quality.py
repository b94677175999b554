"""Rows that would teach the wrong thing: broken texts, refusals, odd JSON, mistyped labels, too few rows.

Each check looks at training rows and gives the findings it has; none changes anything. The limits are set so that
a clean set stays quiet (tests/unit/test_planted_defects.py): a warning that is usually wrong is soon not read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from ..core.messages import Example
from .audit import Finding
from .repeats import prompt_text

FEWEST_ROWS, FEW_ROWS = 10, 100
ENOUGH_FOR_LENGTHS = 50
FENCE = 3.0
"""Interquartile ranges beyond the quartiles from which Tukey (1977) calls a value far out."""
NARROWEST = 0.35
"""The least interquartile range of log lengths: rows of one template would make every other length an outlier."""
MOST_LABELS, LONGEST_LABEL = 0.1, 60
ROWS_A_LABEL = 8


class Row(NamedTuple):
    """What the checks look at."""

    origin: str
    prompt: str
    answer: str


def rows_of(examples: Sequence[Example]) -> list[Row]:
    """Prompt (without system turns) and answer of each row."""
    return [Row(e.origin, prompt_text(e), e.answer()) for e in examples]


def quality(examples: Sequence[Example]) -> Iterator[Finding]:
    """Every check of this module."""
    rows = rows_of(examples)
    for check in CHECKS:
        yield from check(rows)


def too_few(rows: Sequence[Row]) -> Iterator[Finding]:
    """A training set too small to learn from, or to trust."""
    if not 0 < len(rows) < FEW_ROWS:
        return
    least = len(rows) < FEWEST_ROWS
    yield Finding(
        "too_few_rows" if least else "few_rows", "block" if least else "warn", f"only {len(rows)} training rows",
        f"give at least {FEWEST_ROWS}, better {FEW_ROWS} or more; {_suggestion(rows)}",
    )  # fmt: skip


def _suggestion(rows: Sequence[Row]) -> str:
    """How many rows the literature found to be enough for such a task."""
    if labels := label_counts(rows):
        return (
            f"for the {len(labels)} labels here some {10 * len(labels)}: with 10 rows a label 85 % of banking77 came "
            "out right, with 30 91 %, with all 93 % (Casanueva et al. 2020)"
        )
    return "for free answers 1,000 careful rows taught a large model its style (LIMA, Zhou et al. 2023)"


def few_per_label(rows: Sequence[Row]) -> Iterator[Finding]:
    """Labels with so few rows that they are hardly learned."""
    labels = label_counts(rows)
    few = {label for label, count in labels.items() if count < ROWS_A_LABEL}
    if few and len(rows) >= FEW_ROWS:
        yield Finding(
            "few_per_label", "info", f"{len(few)} of {len(labels)} labels have fewer than {ROWS_A_LABEL} rows",
            "give more rows of them; 8 a label is where few-shot methods begin (SetFit, Tunstall et al. 2022)",
            tuple(r.origin for r in rows if r.answer.strip() in few),
        )  # fmt: skip


def label_counts(rows: Sequence[Row]) -> Counter[str]:
    """How often each answer occurs, where answers are labels: short, in one line, and few different ones."""
    counts = Counter(r.answer.strip() for r in rows)
    short = all(0 < len(label) <= LONGEST_LABEL and "\n" not in label and label[0] not in "{[" for label in counts)
    if not short:  # a few long answers among thousands of labels are a defect, not another task
        kept = {a: n for a, n in counts.items() if 0 < len(a) <= LONGEST_LABEL and "\n" not in a and a[0] not in "{["}
        if sum(kept.values()) < 0.95 * len(rows):
            return Counter()
        counts = Counter(kept)
    return counts if 2 <= len(counts) <= max(2, MOST_LABELS * len(rows)) else Counter()


def label_imbalance(rows: Sequence[Row]) -> Iterator[Finding]:
    """One label so frequent that always saying it would look good."""
    counts = label_counts(rows)
    if not counts or len(rows) < ENOUGH_FOR_LENGTHS:
        return
    [(label, most)] = counts.most_common(1)
    median = float(np.median(list(counts.values())))
    if most > 10 * median or most > 0.9 * len(rows):
        yield Finding(
            "label_imbalance", "warn",
            f"'{label}' is the answer of {most} of {len(rows)} rows, the median label of {median:g}",
            "give more rows of the rare labels or fewer of this one, and score with macro averages",
        )  # fmt: skip


def typo_labels(rows: Sequence[Row]) -> Iterator[Finding]:
    """A label seen once or twice beside a near-identical one that is frequent."""
    counts = label_counts(rows)
    rare = [label for label, count in counts.items() if count <= 2]
    meant = {label: other for label in rare if (other := _nearly(label, counts))}
    if meant:
        first = next(iter(meant))
        yield Finding(
            "typo_label", "warn", f"label looks mistyped, as '{first}' for '{meant[first]}'", "correct the label",
            tuple(r.origin for r in rows if r.answer.strip() in meant),
        )  # fmt: skip


def _nearly(label: str, counts: Counter[str]) -> str:
    """The frequent label that `label` is nearly, or ""."""
    plain = re.sub(r"[\W_]+", "", label.casefold())
    for other, count in counts.most_common():
        if count < max(5, 5 * counts[label]):
            return ""
        match = SequenceMatcher(None, plain, re.sub(r"[\W_]+", "", other.casefold()), autojunk=False)
        if match.real_quick_ratio() >= 0.85 and match.quick_ratio() >= 0.85 and match.ratio() >= 0.85:
            return other
    return ""


def length_outliers(rows: Sequence[Row]) -> Iterator[Finding]:
    """Prompts and answers far longer or shorter than the rest (Tukey's far-out fences, on log lengths)."""
    if len(rows) < ENOUGH_FOR_LENGTHS:
        return
    for name, texts in (("prompt", [r.prompt for r in rows]), ("answer", [r.answer for r in rows])):
        lengths = np.array([len(text) for text in texts])
        low, high = _fences(lengths[lengths > 0])
        out = np.flatnonzero((lengths > high) | ((lengths < low) & (lengths > 0)))
        if len(out):
            yield Finding(
                "length_outlier", "warn",
                f"{name} is far longer or shorter than the rest (outside {low:.0f} to {high:.0f} characters)",
                "look whether these rows belong here", tuple(rows[i].origin for i in out.tolist()),
            )  # fmt: skip


def _fences(lengths: NDArray[np.int64]) -> tuple[float, float]:
    if not len(lengths):
        return 0.0, np.inf
    low, high = np.quantile(np.log(lengths), [0.25, 0.75])
    reach = FENCE * max(high - low, NARROWEST)
    return float(np.exp(low - reach)), float(np.exp(high + reach))


_REFUSALS = (
    "as an ai", "as a language model", "as a large language model", "i'm just an ai", "i am just an ai",
    "i'm sorry, but i can", "i am sorry, but i can", "i'm sorry, i can't", "i cannot assist", "i can't assist",
    "i cannot help with", "i can't help with", "i'm unable to", "i am unable to", "i cannot fulfill",
    "i can't fulfill", "i cannot provide", "i can't provide", "my knowledge cutoff", "my training data",
)  # fmt: skip
_BOILERPLATE = (
    "certainly! here", "sure! here", "sure, here", "of course! here", "i hope this helps",
    "let me know if you have any", "let me know if you need", "feel free to ask", "happy to help with that",
)  # fmt: skip
REFUSAL_WITHIN = 200
"""Characters of an answer in which a refusal stands; one that quotes such words comes to them later."""


def refusals(rows: Sequence[Row]) -> Iterator[Finding]:
    """Answers in which another model declines: a specialist would learn to decline."""
    found = [r.origin for r in rows if _says(r.answer[:REFUSAL_WITHIN], _REFUSALS)]
    if found:
        yield Finding(
            "refusal", "warn", "answer is a refusal, or speaks of itself as an AI",
            "remove these rows, unless the model should decline here", tuple(found),
        )  # fmt: skip


def boilerplate(rows: Sequence[Row]) -> Iterator[Finding]:
    """Answers with an assistant's phrases around them."""
    edge = REFUSAL_WITHIN // 2
    found = [r.origin for r in rows if _says(r.answer[:edge], _BOILERPLATE) or _says(r.answer[-edge:], _BOILERPLATE)]
    if found:
        yield Finding(
            "boilerplate", "info", "answer has an assistant's phrases around it ('Sure! Here is', 'I hope this helps')",
            "cut them, unless the model should say them", tuple(found),
        )  # fmt: skip


def _says(text: str, phrases: Sequence[str]) -> bool:
    low = text.casefold().replace("\u2019", "'")
    return any(phrase in low for phrase in phrases)


_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")
# UTF-8 read as Windows-1252: the lead byte of a sequence shows as a letter from A-circumflex on, the bytes that go
# on with it as Latin-1's upper symbols or Windows-1252's own.
_WINDOWS = "".join(bytes([b]).decode("cp1252", "ignore") for b in range(0x80, 0xA0))
_MISREAD = re.compile("[\u00c2-\u00f4][\u0080-\u00bf" + _WINDOWS + "]{1,3}")


def broken_encoding(rows: Sequence[Row]) -> Iterator[Finding]:
    """Texts that were decoded wrongly: replacement and control characters, UTF-8 read as Windows-1252."""
    found = [r.origin for r in rows if _garbled(r.prompt) or _garbled(r.answer)]
    if found:
        yield Finding(
            "broken_encoding", "warn", "text was decoded wrongly (such as 'Ã©' for 'é', or control characters)",
            "read the source again in its own encoding", tuple(found),
        )  # fmt: skip


def _garbled(text: str) -> bool:
    if _CONTROL.search(text):
        return True
    return not text.isascii() and any(_was_utf8(match.group()) for match in _MISREAD.finditer(text))


def _was_utf8(piece: str) -> bool:
    """Whether the letters, as bytes of Windows-1252, begin with a character in UTF-8."""
    data = b"".join(c.encode("latin-1") if c < "\u0100" else c.encode("cp1252") for c in piece)
    for size in range(2, len(data) + 1):
        try:
            data[:size].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return True
    return False


REPETITIVE_WORDS, REPETITIVE_SHARE, LONGEST_RUN = 24, 0.4, 12
_RUN = re.compile(r"([^\W_])\1{%d}" % (LONGEST_RUN - 1))  # noqa: UP031  braces are the expression's own


def repetition(rows: Sequence[Row]) -> Iterator[Finding]:
    """Texts that say the same again and again, as models that lost the thread do."""
    found = [r.origin for r in rows if _repeats(r.answer) or _repeats(r.prompt)]
    if found:
        yield Finding(
            "repetition", "warn", "text repeats itself over and over",
            "remove these rows: a model learns to do the same", tuple(found),
        )  # fmt: skip


def _repeats(text: str) -> bool:
    """Fewer than two in five of its three-word runs are different, or one letter stands a dozen times in a row."""
    words = text.split()
    if len(words) >= REPETITIVE_WORDS and len(set(words)) < REPETITIVE_SHARE * len(words):
        runs = list(zip(words, words[1:], words[2:], strict=False))
        if len(set(runs)) < REPETITIVE_SHARE * len(runs):
            return True
    return any(len(word) >= LONGEST_RUN for word in words) and bool(_RUN.search(text))


USUAL, UNUSUAL = 0.95, 0.01


def json_answers(rows: Sequence[Row]) -> Iterator[Finding]:
    """Where most answers are JSON: those that do not parse, and those whose keys or types differ from nearly all."""
    looking = [r for r in rows if r.answer.lstrip()[:1] in ("{", "[")]
    if len(rows) < FEWEST_ROWS or len(looking) <= 0.5 * len(rows):
        return
    values = {r.origin: _parsed(r.answer) for r in rows}
    broken = tuple(origin for origin, value in values.items() if value is None)
    if broken:
        yield Finding(
            "json_invalid", "warn", "answer is no JSON, most others are", "correct these answers", broken
        )  # fmt: skip
    objects = {origin: value for origin, value in values.items() if isinstance(value, dict)}
    odd = _odd_objects(objects)
    if odd:
        _, why = next(iter(odd.items()))
        yield Finding(
            "json_schema_differs", "warn", f"answer's keys or types differ from nearly all others ({why})",
            "give all answers the same keys and types", tuple(odd),
        )  # fmt: skip


def _parsed(answer: str) -> Any:
    try:
        return orjson.loads(answer)
    except orjson.JSONDecodeError:
        return None


def _odd_objects(objects: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Origins of objects that lack a usual key, have an unusual one, or another type in a usual place; with why."""
    count = len(objects)
    keys = Counter(key for value in objects.values() for key in value)
    kinds = Counter((key, _kind(item)) for value in objects.values() for key, item in value.items())
    usual = {key for key, n in keys.items() if n >= USUAL * count}
    typed = {key: kind for (key, kind), n in kinds.items() if n >= USUAL * keys[key] and n >= ENOUGH_FOR_LENGTHS}
    odd: dict[str, str] = {}
    for origin, value in objects.items():
        missing = sorted(usual - value.keys())
        strange = [key for key in value if keys[key] < UNUSUAL * count]
        other = [key for key, item in value.items() if item is not None and typed.get(key, _kind(item)) != _kind(item)]
        for what, names in (("missing", missing), ("unusual", strange), ("of another type", other)):
            if names:
                odd.setdefault(origin, f"'{names[0]}' is {what}")
    return odd


def _kind(value: Any) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__


CHECKS = (
    too_few, few_per_label, label_imbalance, typo_labels, length_outliers, refusals, boilerplate, broken_encoding,
    repetition, json_answers,
)  # fmt: skip
