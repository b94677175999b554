"""Fine-tuning jobs as the hosted API has them: what a worker needs to know of files, recipes and runs. No torch."""

from __future__ import annotations

from .handler import Hosted

__all__ = ["Hosted"]
