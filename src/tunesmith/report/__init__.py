"""Facts to one self-contained HTML report. Knows no torch, no database and no run directory."""

from tunesmith.report.facts import (
    AuditFacts,
    BaselineFacts,
    CostFacts,
    FileFacts,
    FindingFacts,
    ForgettingFacts,
    GateReason,
    LossCurves,
    MetricFacts,
    NextCommand,
    OutcomeCounts,
    OverfittingFacts,
    PhaseTime,
    ReportFacts,
    RowFacts,
    SliceFacts,
    TokenFacts,
)
from tunesmith.report.render import render

__all__ = [
    "AuditFacts",
    "BaselineFacts",
    "CostFacts",
    "FileFacts",
    "FindingFacts",
    "ForgettingFacts",
    "GateReason",
    "LossCurves",
    "MetricFacts",
    "NextCommand",
    "OutcomeCounts",
    "OverfittingFacts",
    "PhaseTime",
    "ReportFacts",
    "RowFacts",
    "SliceFacts",
    "TokenFacts",
    "render",
]
