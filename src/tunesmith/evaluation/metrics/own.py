"""A metric of the user's own: a Python function in a file, run in the sandbox, once for all rows of a model."""

from __future__ import annotations

import ast
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core import sandbox
from ...core.errors import ContentError, MissingError, nearest
from ...core.messages import Example
from .base import Unit
from .config import PythonSpec

_SCRATCH_MB = 64
"""Many libraries look for a place for temporary files when they are imported."""
_CALL = """
result = []
for _said, _right, _row, _origin in data["rows"]:
    try:
        result.append(float(globals()[data["function"]](_said, _right, _row)))
    except Exception as _error:
        raise RuntimeError(f"{_origin}: {type(_error).__name__}: {_error}") from _error
"""


class Own:
    """What the user's function gives: `score(prediction, reference, row)`, a number for each row; the mean counts."""

    def __init__(self, spec: PythonSpec):
        sandbox.require()
        self.name, self.uses_reference, self._spec = spec.named(), spec.uses_reference, spec
        self._source = _read(spec)

    @property
    def lower_is_better(self) -> bool:
        """As the recipe says."""
        return self._spec.lower_is_better

    @property
    def unit(self) -> Unit:
        """As the recipe says."""
        return self._spec.unit

    def require(self, rows: Sequence[Example]) -> None:
        """Scores the right answers: ContentError, naming the row, where the function fails on them."""
        self.scores([row.answer() for row in rows], rows)

    def score(self, prediction: str, reference: str) -> float:
        """The score of one answer, of a row that holds nothing else."""
        return self._run([(prediction, reference, {}, "the answer")])[0]

    def scores(self, predictions: Sequence[str], rows: Sequence[Example]) -> list[float]:
        """The scores of all answers. ContentError, naming the row, where the function fails or gives no number."""
        pairs = zip(predictions, rows, strict=True)
        return self._run([(text, row.answer(), _as_dict(row), row.origin) for text, row in pairs])

    def _run(self, rows: list[tuple[str, str, dict[str, Any], str]]) -> list[float]:
        spec, path = self._spec, Path(self._spec.file)
        outcome = sandbox.run(
            (str(path), self._source), ("tunesmith", _CALL),
            data={"rows": rows, "function": spec.function},
            limits=sandbox.Limits(spec.seconds, spec.memory_mb, threads=True, scratch_mb=_SCRATCH_MB),
            paths=[str(path.parent), *_packages()],
        )  # fmt: skip
        if outcome.ended != "finished":
            lines = outcome.errors.strip().splitlines()
            raise self._failed({"timeout": f"it took longer than {spec.seconds:g} s", "memory": "it ran out of memory",
                                "output": "it printed more than 1 MiB"}.get(outcome.ended)
                               or (lines[-1] if lines else f"its process was {outcome.ended}"))  # fmt: skip
        for value, (_, _, _, origin) in zip(outcome.result, rows, strict=True):
            if not math.isfinite(value):
                raise self._failed(f"{origin}: it gave {value}, which is no number")
            if spec.unit == "share" and not 0 <= value <= 1:
                raise self._failed(f"{origin}: it gave {value:g}, which is no share: set unit: ratio")
        return [float(value) for value in outcome.result]

    def _failed(self, why: str) -> ContentError:
        where = f"evaluation.metrics: {self.name} ({self._spec.file})"
        return ContentError(
            f"the function {self._spec.function} fails", where=where, why=why.removeprefix("RuntimeError: "),
            mend="correct it; it is run confined: no files but its own folder's and installed packages', no network",
        )  # fmt: skip


def _read(spec: PythonSpec) -> str:
    """The file's text. MissingError and ContentError, before any row is scored."""
    path = Path(spec.file)
    try:
        source = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MissingError(
            f"cannot read {path}", where=f"evaluation.metrics: {spec.named()}", why=str(error),
            mend="name a Python file that is there; a relative path starts at the recipe's folder",
        ) from None  # fmt: skip
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise ContentError(f"{path} is no Python: {error}", where=f"{path}:{line}", mend="correct the file") from None
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    names += [
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    targets = (target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets)
    names += [target.id for target in targets if isinstance(target, ast.Name)]
    if spec.function not in names:
        raise ContentError(
            f"{path} has no function '{spec.function}'", where=f"evaluation.metrics: {spec.named()}",
            mend=nearest(spec.function, names) if names else "define it: def score(prediction, reference, row)",
        )  # fmt: skip
    return source


def _as_dict(row: Example) -> dict[str, Any]:
    """What the function sees of a row: its own keys, the conversation, the tools."""
    told = row.model_dump(mode="json", include={"messages", "tools"}, exclude_none=True)
    own: dict[str, Any] = row.model_dump(mode="json", include={"metadata"})["metadata"]
    return own | told


def _packages() -> list[str]:
    """Where installed packages lie."""
    return [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
