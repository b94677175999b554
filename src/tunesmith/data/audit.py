"""What was found in the data: findings by code and severity, and figures of the tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from .lengths import Lengths
from .tokens import Sizes

Severity = Literal["block", "warn", "info"]
_BESIDE = re.compile(r"(.+?:\d+) [=~] .*:\d+$", re.DOTALL)
"""A place beside another; the names of files may hold anything."""
DUPLICATES = {"exact": ("duplicate_rows",), "near": ("near_duplicates", "near_duplicates_dropped")}
LEAKAGE = {
    "exact": ("overlap", "overlap_dropped", "overlap_held_out"), "near": ("near_leakage", "near_leakage_dropped"),
}  # fmt: skip
"""The codes whose rows are counted as repeating each other, or held-out rows."""


def place_of(text: str) -> str:
    """The row that an entry of a finding's `rows` is about: `a` of `a ~ b` and of `a = b`."""
    beside = _BESIDE.match(text)
    return beside[1] if beside else text


@dataclass(frozen=True)
class Finding:
    """One kind of trouble: how often, where, and how to mend it. `rows` are all places (`file:line`)."""

    code: str
    severity: Severity
    message: str
    mend: str
    rows: tuple[str, ...] = ()
    example: str = ""
    """The beginning of the first row, or the first clusters of rows; personal data is masked."""
    waived: str = ""
    """The reason for which it does not block, where the recipe waives it."""
    kind: str = ""
    """What was found, where a code has several kinds: `email` of personal_data."""

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
class Supervision:
    """How many training examples (rows, or their pieces where a template asks for it) teach how much."""

    examples: int
    no_loss: int
    """Those of which no token carries loss."""
    lost_all: int
    """Those of which the length limit takes every token with loss."""
    lost_part: int
    """Those of which it takes some."""
    dropped: int
    """Those left out for their length."""
    no_end_of_turn: int = 0
    prompts_compared: int = 0
    """Trained prompts that were compared with the served ones, token by token."""
    prompts_equal: int = 0


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
    supervision: Supervision | None = None
    lengths: Lengths | None = None
    """Of all training rows, before any is cut, left out or drawn for validation."""
    diversity: dict[str, Any] | None = None
    """What the training rows are about, as `Diversity.as_json` gives it."""
    describe: Callable[[], dict[str, Any]] | None = None
    """Makes `diversity`, for which a run does not wait."""
    splits: list[SplitFacts] = field(default_factory=list)
    cap: CapFacts | None = None
    mixture: list[SourceShare] = field(default_factory=list)

    def described(self) -> Audit:
        """The same, once it is known what the rows are about."""
        if self.diversity is None and self.describe:
            self.diversity = self.describe()
        return self

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
        """The content of `data-audit.json`. Rows and format are those of the training files."""
        training = [f for f in self.files if f.role == "train"]
        formats = {f.path: f.format for f in training}
        return {
            "rows": sum(f.rows for f in training),
            "format": formats if len(set(formats.values())) > 1 else next(iter(formats.values()), None),
            "tokens": asdict(self.tokens) if self.tokens else None,
            "supervision": self._supervision(),
            "duplicates": self._told(DUPLICATES),
            "leakage": self._told(LEAKAGE),
            "personal_data": self._personal_data(),
            "findings": [asdict(f) | {"count": f.count, "rows": list(f.rows)} for f in self.ordered()],
            "files": [asdict(f) for f in self.files],
            "lengths": self.lengths.as_json() if self.lengths else None,
            "diversity": self.diversity,
            "splits": [split.as_json() for split in self.splits],
            "cap": asdict(self.cap) if self.cap else None,
            "mixture": [asdict(source) for source in self.mixture],
        }

    def _told(self, table: Mapping[str, Sequence[str]]) -> dict[str, int]:
        """How many rows the findings of these codes name; one that is exactly the same counts as nothing else."""
        known: set[str] = set()
        counts = {}
        for name, codes in table.items():
            mine = {place_of(place) for f in self.findings if f.code in codes for place in f.rows}
            counts[name] = len(mine - known)
            known |= mine
        return counts

    def _supervision(self) -> dict[str, Any] | None:
        if not self.supervision:
            return None
        tokens = self.tokens.tokens if self.tokens else 0
        labelled = self.tokens.labelled_tokens if self.tokens else 0
        return {"share": labelled / tokens if tokens else 0.0, **asdict(self.supervision)}

    def _personal_data(self) -> dict[str, int]:
        """Rows by kind of what was found in them, secrets included."""
        found: dict[str, int] = {}
        for finding in self.findings:
            if finding.code.startswith(("personal_data", "secrets")):
                found[finding.kind] = found.get(finding.kind, 0) + len(finding.rows)
        return dict(sorted(found.items()))
