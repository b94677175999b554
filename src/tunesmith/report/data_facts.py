"""The facts of a report about the data: files, findings, figures, and what the rows are about.

Lengths are in tokens; a share lies in 0..1.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from tunesmith.report.base import Count, Facts, Text

Severity = Literal["block", "warn", "info"]


class FileFacts(Facts):
    """One data file. `role` is train, validation, test or general; `sha256` is of its bytes, `root` of its rows."""

    path: Text
    role: Text
    rows: Count
    accepted: Count
    rejected: Count
    format: Text
    sha256: Text
    root: Text | None = None


class FindingFacts(Facts):
    """One finding of the data audit: what it is, how many rows it touches, how to mend it.

    `examples` are the first rows, `shown` what stands there, `waived` the reason for which it does not block.
    """

    code: Text
    severity: Severity
    count: Count
    message: Text
    mend: Text = ""
    examples: Sequence[Text] = ()
    shown: Text = ""
    waived: Text = ""


class TokenFacts(Facts):
    """The training rows in tokens. Lengths are tokens per row; `labelled_tokens` carry loss."""

    rows: Count
    tokens: Count
    labelled_tokens: Count
    length_p50: float
    length_p95: float
    length_max: Count
    truncated_rows: Count


class SupervisionFacts(Facts):
    """How many training examples teach how much; `prompts_*` of the trained prompts compared with served ones."""

    examples: Count
    no_loss: Count
    lost_all: Count
    lost_part: Count
    dropped: Count
    no_end_of_turn: Count
    prompts_compared: Count
    prompts_equal: Count


class LengthFacts(Facts):
    """How long rows are: `bins` of (from, up to, rows) in tokens; `limit` is the longest that is trained whole."""

    bins: Sequence[tuple[int, int, Count]]
    limit: Count | None = None
    over_limit: Count = 0

    @property
    def most(self) -> int:
        """The rows of the fullest bin."""
        return max((rows for _, _, rows in self.bins), default=0)


class SourceFacts(Facts):
    """What one training file is to an epoch: `seen` counts its rows as often as they come, `tokens` theirs."""

    path: Text
    rows: Count
    seen: Count
    tokens: Count
    share_of_rows: float
    share_of_tokens: float


class SplitFacts(Facts):
    """Rows drawn for validation or test; `label_shares` are what was drawn of each label, where that was asked for."""

    role: Text
    wanted: float
    rows: Count
    of: Count
    rule: Mapping[Text, Text] = Field(default_factory=dict)
    without_group: Count = 0
    label_shares: Sequence[float] = ()

    @property
    def share(self) -> float:
        """What was drawn, 0..1."""
        return self.rows / self.of if self.of else 0.0


class CapFacts(Facts):
    """Rows left out so that no label has more than `at_most`: how many of each label; `rows` are trained on."""

    by: Text
    at_most: Count
    rows: Count
    left_out: Mapping[Text, Count]
    unlabelled: Count = 0


class ClusterFacts(Facts):
    """Prompts that share words: the most telling ones, and how many of the sampled rows."""

    name: Text
    size: Count
    share: float


class ShownRowFacts(Facts):
    """One row's place, the beginning of its prompt, its cluster, and the cosine to the cluster's centre."""

    origin: Text
    excerpt: Text
    cluster: Text
    nearness: float


class LabelFacts(Facts):
    """Answers that are labels: the most frequent of `different` ones; entropy in bits."""

    different: Count
    counts: Mapping[Text, Count]
    entropy: float
    largest_share: float


class DiversityFacts(Facts):
    """What the training rows are about, from a sample of `sampled` of them."""

    rows: Count
    sampled: Count
    clusters: Sequence[ClusterFacts] = ()
    typical: Sequence[ShownRowFacts] = ()
    odd: Sequence[ShownRowFacts] = ()
    labels: LabelFacts | None = None


class ForecastFacts(Facts):
    """What the training was expected to take: tokens over all epochs, bytes by number type, seconds (least, most)."""

    tokens: Count
    parameters: Count
    trained_parameters: Count
    operations: float
    cores: Count
    memory: Mapping[Text, Count]
    cpu_seconds: tuple[float, float]
    gpu_seconds: tuple[float, float]


class AuditFacts(Facts):
    """What was checked in the data before training. The counts are rows, by what was found in them."""

    files: Sequence[FileFacts] = ()
    findings: Sequence[FindingFacts] = ()
    tokens: TokenFacts | None = None
    supervision: SupervisionFacts | None = None
    lengths: LengthFacts | None = None
    tokens_per_epoch: Count | None = None
    mixture: Sequence[SourceFacts] = ()
    splits: Sequence[SplitFacts] = ()
    cap: CapFacts | None = None
    diversity: DiversityFacts | None = None
    forecast: ForecastFacts | None = None
    duplicates: Mapping[Text, Count] = Field(default_factory=dict)
    leakage: Mapping[Text, Count] = Field(default_factory=dict)
    personal_data: Mapping[Text, Count] = Field(default_factory=dict)

    @property
    def open(self) -> list[FindingFacts]:
        """The findings that are not waived."""
        return [finding for finding in self.findings if not finding.waived]

    @property
    def waived(self) -> list[FindingFacts]:
        """Those that would block, and the reasons for which they do not."""
        return [finding for finding in self.findings if finding.waived]
