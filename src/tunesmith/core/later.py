"""What makes a start short: libraries that are loaded when something of them is first asked for, and no search for
garbage among what they make.

Some take a second to load, and most runs come to their first training step without them: scikit-learn and scipy's
statistics, matplotlib, NLTK. `later` stands at the top of a module in place of the import. Only for other people's
libraries: our own modules are imported plainly, so that the arrow of imports can be read off the files.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_LOADED = 500_000
"""Objects that the libraries of a training make, and some more."""
_OBJECTS = 100_000
"""Made between two searches for garbage from then on."""


class _Later:
    """Stands for a module."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)


class _WithoutScipy(MetaPathFinder):
    """Tells transformers' losses, when the first of them is looked for, that there is no scipy."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:  # fmt: skip
        """None: others find the module."""
        if name.startswith("transformers.loss."):
            sys.meta_path.remove(self)
            vars(sys.modules["transformers.utils"])["is_scipy_available"] = lambda: False
        return None


def spare_scipy() -> None:
    """Let transformers load without scipy's optimisers, for a program of our own.

    Every model loads all losses, and those of object detection load scipy, which takes up to a second. Not for a
    process of somebody else's, who may have use for them.
    """
    sys.meta_path.insert(0, _WithoutScipy())


def spare_searches() -> None:
    """Let libraries load without searches for garbage among what they make, for a program of our own.

    By the usual 700 objects from search to search, a third of the time that they take to load is searching. What is
    there when the first search is due stays, and is never looked through.
    """
    gc.callbacks.append(_settle)
    gc.set_threshold(_LOADED)


def _settle(phase: str, info: dict[str, int]) -> None:
    """At the first search, before it begins."""
    gc.callbacks.remove(_settle)
    gc.freeze()
    gc.set_threshold(_OBJECTS)


def later(name: str) -> Any:
    """The module of this name; ImportError where it is first used and not installed."""
    return _Later(name)
