"""What trains a job: a Protocol, and processes on this machine. A cluster's runner will stand beside it."""

from __future__ import annotations

from .base import Ended, Runner, Running
from .local import LocalRunner

__all__ = ["Ended", "LocalRunner", "Runner", "Running"]
