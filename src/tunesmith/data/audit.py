"""What was found in the data: findings by code and severity, and figures of the tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from .tokenize import Encoded

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
    def of(encoded: Iterable[Encoded]) -> TokenFacts:
        """Count a set of encoded rows."""
        kept = list(encoded)
        if not kept:
            return TokenFacts(0, 0, 0, 0, 0, 0, 0)
        lengths = np.array([len(e.input_ids) for e in kept])
        p50, p95 = (int(np.percentile(lengths, q)) for q in (50, 95))
        labelled = sum(e.labelled for e in kept)
        cut = sum(e.truncated for e in kept)
        return TokenFacts(len(kept), int(lengths.sum()), labelled, p50, p95, int(lengths.max()), cut)


@dataclass
class Audit:
    """All files, findings and figures of one data set."""

    files: list[FileFacts] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    tokens: TokenFacts | None = None

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
        }
