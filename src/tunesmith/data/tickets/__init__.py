"""Tickets and their comments, as help desks and CRM systems export them, to conversations."""

from __future__ import annotations

from pathlib import Path

PRESETS = {"zendesk": "Zendesk's exports", "salesforce": "the CSV files of Salesforce's Data Export"}
"""The systems that are known, and what is read of each."""


def preset(name: str) -> Path:
    """The mapping of a known system."""
    return Path(__file__).parent / "presets" / f"{name}.yaml"
