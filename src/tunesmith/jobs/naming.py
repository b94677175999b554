"""Names of tuned models: `ft:<base>:<organization>:<suffix or nothing>:<8 letters and digits>`."""

from __future__ import annotations

from ..core import ids


def tuned(model: str, organization: str, suffix: str | None) -> str:
    """A new name. A model that was tuned already gives the name of what it was made of."""
    base = model.split(":")[1] if model.startswith("ft:") else model
    return f"ft:{base}:{organization}:{suffix or ''}:{ids.base62(8)}"


def checkpoint(step: int) -> str:
    """What stands behind the name of a checkpoint that is not the last."""
    return f":ckpt-step-{step}"
