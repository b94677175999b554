"""Libraries that are loaded when something of them is first asked for.

Some take a second to load, and most runs come to their first training step without them: scikit-learn and scipy's
statistics, matplotlib, NLTK. `later` stands at the top of a module in place of the import. Only for other people's
libraries: our own modules are imported plainly, so that the arrow of imports can be read off the files.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class _Later:
    """Stands for a module."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)


def later(name: str) -> Any:
    """The module of this name; ImportError where it is first used and not installed."""
    return _Later(name)
