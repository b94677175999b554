"""What was found in the data: findings by code and severity, and figures of the tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from .lengths import Lengths
from .tokens import Sizes

Severity = Literal["block", "warn", "info"]
SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One kind of trouble: how often, where, and how to mend it. `rows` are all places (`file:line`)."""

    code: str
    severity: Severity
    message: str
    mend: str
    rows: tuple[str, ...] = ()
    example: str = ""
    waived: str = ""
    """The reason for which it does not block, where the recipe waives it."""

    @property
    def count(self) -> int:
        """The number of rows concerned; 1 for a finding about the whole."""
        return max(1, len(self.rows))


@dataclass(frozen=True)
class FileFacts:
    """One file as it was read."""

    path: str
    role: str
    format: str
    rows: int
    accepted: int
    sha256: str
    root: str | None = None
    """What the set of good rows is, whatever their order and format (see `identity`); None for a benchmark."""


@dataclass(frozen=True)
class TokenFacts:
    """Figures of the training rows; lengths in tokens."""

    rows: int
    tokens: int
    labelled_tokens: int
    length_p50: int
    length_p95: int
    length_max: int
    truncated: int

    @staticmethod
    def of(sizes: Sizes) -> TokenFacts:
        """Count a set of encoded rows."""
        lengths = sizes.lengths
        if not len(lengths):
            return TokenFacts(0, 0, 0, 0, 0, 0, 0)
        p50, p95 = (int(np.percentile(lengths, q)) for q in (50, 95))
        return TokenFacts(
            len(lengths), int(lengths.sum()), int(sizes.labelled.sum()), p50, p95, int(lengths.max()),
            int(sizes.truncated.sum()),
        )  # fmt: skip


@dataclass(frozen=True)
class LabelShare:
    """How many rows of one label there were to draw from, and how many were drawn. Label "" is none."""

    label: str
    rows: int
    held_out: int


@dataclass(frozen=True)
class SplitFacts:
    """What was drawn for test or validation: `rows` out of `of`, where the share `wanted` was asked for."""

    role: str
    wanted: float
    rows: int
    of: int
    rule: dict[str, str]
    """The keys of `data.split`; empty where rows were drawn at random."""
    without_group: int
    """Rows to draw from that have no value under the group's key: each stands alone."""
    labels: tuple[LabelShare, ...] = ()
    """Where the split is stratified."""

    def as_json(self) -> dict[str, Any]:
        """With the exact shares."""
        labels = [asdict(label) | {"share": label.held_out / label.rows} for label in self.labels]
        return asdict(self) | {"share": self.rows / self.of, "labels": labels}


@dataclass(frozen=True)
class CapFacts:
    """Which rows `data.cap_per_label` left out of training: how many of each label."""

    by: str
    at_most: int
    rows: int
    """Rows that are trained on."""
    left_out: dict[str, int]
    unlabelled: int
    """Rows without a label, which are all trained on."""


@dataclass(frozen=True)
class SourceShare:
    """What one training file is to an epoch. `rows` are different ones, `seen` counts each as often as it comes."""

    path: str
    rows: int
    seen: int
    tokens: int
    """Tokens of the rows seen."""
    share_of_rows: float
    share_of_tokens: float


@dataclass
class Audit:
    """All files, findings and figures of one data set."""

    files: list[FileFacts] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    tokens: TokenFacts | None = None
    lengths: Lengths | None = None
    """Of all training rows, before any is cut, left out or drawn for validation."""
    diversity: dict[str, Any] | None = None
    """What the training rows are about, as `Diversity.as_json` gives it."""
    splits: list[SplitFacts] = field(default_factory=list)
    cap: CapFacts | None = None
    mixture: list[SourceShare] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        """Keep a finding; the severe ones come first when shown."""
        self.findings.append(finding)

    def waive(self, reasons: Mapping[str, str]) -> None:
        """Make warnings of the blocking findings with these codes; the reason stays in their message."""
        self.findings = [
            replace(f, severity="warn", waived=reasons[f.code], message=f"{f.message} [waived: {reasons[f.code]}]")
            if f.severity == "block" and f.code in reasons
            else f
            for f in self.findings
        ]

    @property
    def blocking(self) -> list[Finding]:
        """The findings that forbid training."""
        return [f for f in self.findings if f.severity == "block"]

    def ordered(self) -> list[Finding]:
        """Blocking first, then warnings, then remarks."""
        rank = {"block": 0, "warn": 1, "info": 2}
        return sorted(self.findings, key=lambda f: rank[f.severity])

    def as_json(self) -> dict[str, Any]:
        """The content of `data-audit.json`."""
        return {
            "files": [asdict(f) for f in self.files],
            "findings": [asdict(f) | {"count": f.count, "rows": list(f.rows)} for f in self.ordered()],
            "tokens": asdict(self.tokens) if self.tokens else None,
            "lengths": self.lengths.as_json() if self.lengths else None,
            "diversity": self.diversity,
            "splits": [split.as_json() for split in self.splits],
            "cap": asdict(self.cap) if self.cap else None,
            "mixture": [asdict(source) for source in self.mixture],
        }
