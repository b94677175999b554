"""The audit of rows that supervised fine-tuning cannot learn from: pairs, labelled answers, prompts, texts.

The checks are those of supervised rows, on the rows as conversations (`data.kinds`), and what a kind alone can have
wrong. Nothing is split or left out: these rows are looked at, not prepared.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import ContentError
from ..core.messages import Kind, Preference, Prompt, Row, Text
from ..data import checks, kind_checks, repeats, supervision
from ..data.audit import Audit, Finding, TokenFacts
from ..data.check_privacy import personal_data
from ..data.config import SourceSpec
from ..data.diversity import DiversityLook
from ..data.documents import encode_document
from ..data.fitting import LongPolicy, too_long
from ..data.illustrate import Shelf, illustrated
from ..data.keys import Keys, overlapping
from ..data.kinds import better, joined, worse
from ..data.language import Languages, usual_languages
from ..data.lengths import Lengths
from ..data.load import METHODS, Loaded
from ..data.quality import quality
from ..data.rows import Joined, Mapped
from ..data.template import TemplateError
from ..data.tokenize import Encoded, encode, encode_prompt
from ..data.tokens import Sizes
from .recipe import RunSpec
from .sift import benchmarks

_ANSWERED = ("conflicting_answers", "few_per_label", "typo_label", "json_invalid", "json_schema_differs")
"""Findings that speak of one right answer for each prompt, which these rows do not have."""
_FEW = ("too_few_rows", "few_rows")
"""Findings that count rows; of texts one may be a whole book."""


@dataclass(frozen=True)
class Part:
    """A sequence of tokens that a row is trained with, and its name where a row has several."""

    name: str
    encoded: Encoded


def kind_of(files: Sequence[Loaded]) -> Kind:
    """The one kind that the files hold; a ContentError where they differ."""
    kinds = {file.kind: file for file in files}
    if len(kinds) > 1:
        held = ", ".join(f"{file.path.name} holds {kind} rows" for kind, file in kinds.items())
        raise ContentError(
            "files of different kinds cannot be checked together", why=held, mend="check them one kind at a time"
        )
    return next(iter(kinds))


def all_rows(files: Sequence[Loaded]) -> Sequence[Row]:
    """The good rows of the files, one behind the other."""
    return files[0].records if len(files) == 1 else Joined([file.records for file in files])


def audit_kind(
    spec: RunSpec, train: Sequence[Loaded], test: Loaded | None, tokenizer: Any, limit: int, *,
    validation: Loaded | None = None, wanted: bool = False,
) -> Audit:  # fmt: skip
    """Findings and figures of files of one kind; `limit` is the longest sequence in tokens.

    With `wanted` the rows are what the recipe's method learns from; else it is told which one would.
    """
    audit, kind, shelf = Audit(), kind_of(train), Shelf()
    for loaded, role, source in _told(spec, train, validation, test):
        audit.files.append(checks.file_facts(loaded, source.path, role))
        audit.findings += checks.bad_rows(loaded)
        shelf.add(loaded.records)
        audit.findings += personal_data(Mapped(loaded.records, joined))
    rows = all_rows(train)
    if not wanted:
        why = f"rows of kind '{kind}' are for {METHODS[kind]}"
        audit.add(Finding("other_method", "info", why, "nothing to do for the check; a recipe names the method"))
    _repeats(spec, rows, audit)
    for role, held in (("test", test), ("validation", validation)):
        if held:
            _leaks(spec, rows, held.records, role, audit)
    if questions := benchmarks(spec.data, audit):
        asked = Mapped(rows, better)
        found = repeats.leaks(asked, questions, spec.data.near_threshold)
        audit.findings += repeats.leaked_exactly([x for x in found if x.same], asked, "error")
        audit.findings += repeats.leaked([x for x in found if not x.same], asked, spec.data.on_near_overlap)
    diversity = DiversityLook()
    beside = (*_ANSWERED, *_FEW) if kind == "text" else _ANSWERED
    held_up = Mapped(rows, better)
    looks = (Languages(usual_languages(held_up)), diversity)
    audit.findings += [f for f in quality(held_up, looks) if f.code not in beside]
    audit.describe = diversity.told
    audit.findings += kind_checks.OF_KIND[kind](rows) if kind in kind_checks.OF_KIND else ()
    _tokens(rows, tokenizer, limit, spec.data.on_long if wanted else "error", audit)
    audit.findings = illustrated(audit.findings, shelf)
    return audit


def parts(row: Row, tokenizer: Any) -> list[Part]:
    """The row's sequences as tokens. TemplateError where the base's template cannot show it."""
    if isinstance(row, Text):
        return [Part("", encode_document(tokenizer, row))]
    if isinstance(row, Prompt):
        ids = np.array(encode_prompt(tokenizer, row.messages, row.tools), dtype=np.int32)
        return [Part("", Encoded(ids, np.zeros(len(ids), dtype=np.float32)))]
    answers = {"chosen": better(row), "rejected": worse(row)} if isinstance(row, Preference) else {"": better(row)}
    made = []
    for name, encoded in zip(answers, encode(tokenizer, list(answers.values())), strict=True):
        if isinstance(encoded, TemplateError):
            raise encoded
        made.append(Part(name, encoded))
    return made


def _told(
    spec: RunSpec, train: Sequence[Loaded], validation: Loaded | None, test: Loaded | None
) -> Iterator[tuple[Loaded, str, SourceSpec]]:  # fmt: skip
    yield from ((loaded, "train", source) for loaded, source in zip(train, spec.data.train, strict=True))
    held = ((validation, "validation", spec.data.validation), (test, "test", spec.data.test))
    yield from ((loaded, role, source) for loaded, role, source in held if loaded and isinstance(source, SourceSpec))


def _repeats(spec: RunSpec, rows: Sequence[Row], audit: Audit) -> None:
    for view in kind_checks.comparable(rows):
        keys = Keys.of(view)
        audit.findings += kind_checks.duplicates(view, keys)
        found = repeats.find_repeats(view, spec.data.near_threshold)
        audit.findings += repeats.near_duplicates(found, view, keys, spec.data.near_threshold, "report")


def _leaks(spec: RunSpec, rows: Sequence[Row], held: Sequence[Row], role: str, audit: Audit) -> None:
    asked, withheld = Mapped(rows, better), Mapped(held, better)
    pairs = overlapping(Keys.of(asked), Keys.of(withheld))
    audit.findings += checks.overlap(pairs, asked, withheld, role, spec.data.on_overlap)
    known = set(pairs[0].tolist())
    near = repeats.leaks(asked, repeats.held(withheld, role), spec.data.near_threshold)
    audit.findings += repeats.leaked([x for x in near if x.row not in known], asked, spec.data.on_near_overlap)


def _tokens(rows: Sequence[Row], tokenizer: Any, limit: int, policy: LongPolicy, audit: Audit) -> None:
    """Figures of the sequences. Texts are cut into pieces for pre-training, so none is too long; prompts teach none."""
    cutting = bool(rows) and isinstance(rows[0], Text)
    counter, lengths = supervision.Measure(sys.maxsize if cutting else limit), array("i")
    long: dict[str, int] = {}
    refused: dict[str, list[str]] = {}

    def sequences() -> Iterator[Encoded]:
        for row in rows:
            try:
                made = parts(row, tokenizer)
            except TemplateError as error:
                refused.setdefault(str(error), []).append(row.origin)
                continue
            for part in made:
                counter.see(part.encoded)
                lengths.append(len(part.encoded.input_ids))
                if len(part.encoded.input_ids) > counter.max_length:
                    long[row.origin] = max(long.get(row.origin, 0), len(part.encoded.input_ids))
                yield part.encoded

    audit.tokens = TokenFacts.of(Sizes.of(sequences()))
    audit.lengths = Lengths.of(np.array(lengths, dtype=np.int64), limit)
    if rows and not isinstance(rows[0], Prompt):
        audit.supervision = counter.result()
    for reason, places in refused.items():
        mend = "change these rows to what the base's template takes"
        audit.add(Finding("template_refuses", "block", reason, mend, tuple(places)))
    if long:
        audit.add(too_long(tuple(long), max(long.values()), limit, policy))
