"""pass@k: programs against the tests of their row, run in the sandbox."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod

from ...core import sandbox
from ...core.errors import ContentError, nearest
from ...core.messages import Example
from .config import PassAtKSpec

_FENCED = re.compile(r"```[\w+-]*[ \t]*\n(.*?)```", re.DOTALL)
ENTRY_POINT = "entry_point"
"""The key of a row that may hold the function's name, as in HumanEval."""
_Program = tuple[str, str]
"""The program and its tests."""


class PassAtK:
    """The chance that at least one of k programs passes its row's tests, by the unbiased estimate from n drawn ones.

        1 - C(n - c, k) / C(n, k),   c of n pass     (Chen et al. 2021, arXiv 2107.03374, equation 1)

    A program is the first fenced block of the answer, or all of it. With k = 1 and one sample it is the greedy answer.
    """

    uses_reference = True

    def __init__(self, spec: PassAtKSpec):
        sandbox.require()
        self.name, self._spec = spec.named(), spec
        self._limits = sandbox.Limits(spec.seconds, spec.memory_mb)

    @property
    def samples(self) -> int:
        """Programs to draw for each row; 0 where the greedy one is enough."""
        drawn = self._spec.drawn()
        return 0 if drawn == 1 else drawn

    @property
    def temperature(self) -> float:
        """Of the drawing."""
        return self._spec.temperature

    def require(self, rows: Sequence[Example]) -> None:
        """ContentError, naming the row, where one has no tests."""
        for row in rows:
            self._tests(row)

    def score(self, prediction: str, reference: str) -> float:
        """1 where the program passes; `reference` are its tests."""
        return float(self._passes((code_of(prediction), reference)))

    def scores(self, predictions: Sequence[str], rows: Sequence[Example]) -> list[float]:
        """1 or 0 of one answer to each row."""
        return self.scores_of_drawn([[text] for text in predictions], rows)

    def scores_of_drawn(self, drawn: Sequence[Sequence[str]], rows: Sequence[Example]) -> list[float]:
        """The estimate for each row; of fewer than k answers, whether one passes."""
        programs = [[self._program(text, row) for text in texts] for texts, row in zip(drawn, rows, strict=True)]
        passed = self._all(program for row in programs for program in row)
        return [pass_at_k(len(row), sum(passed[program] for program in row), self._spec.k) for row in programs]

    def _all(self, programs: Iterable[_Program]) -> dict[_Program, bool]:
        """Each different program once, as many at a time as there are cores."""
        different = list(dict.fromkeys(programs))
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return dict(zip(different, pool.map(self._passes, different), strict=True))

    def _passes(self, program: _Program) -> bool:
        code, tests = program
        return sandbox.run(("answer", code), ("tests", tests), limits=self._limits).ended == "finished"

    def _program(self, text: str, row: Example) -> _Program:
        code, tests, entry = code_of(text), self._tests(row), row.metadata.get(ENTRY_POINT)
        if isinstance(entry, str):
            if not re.search(rf"\bdef {re.escape(entry)}\b", code):  # the answer goes on where the prompt ends
                code = f"{code_of(row.prompt()[-1].content or '')}\n{code}"
            if re.search(r"^def check\(", tests, re.MULTILINE):
                tests = f"{tests}\ncheck({entry})\n"
        return code, tests

    def _tests(self, row: Example) -> str:
        key = self._spec.tests
        tests = row.metadata.get(key)
        if isinstance(tests, list) and tests and all(isinstance(line, str) for line in tests):
            return "\n".join(tests)
        if isinstance(tests, str) and tests.strip():
            return tests
        held = "is not there" if key not in row.metadata else f"holds {tests!r:.40}"
        raise ContentError(
            f"{self.name} asks for tests under '{key}', which {held}", where=row.origin or "evaluation.metrics",
            mend=f"give every test row Python code there, or name another key as `tests`: {nearest(key, row.metadata)}"
            if row.metadata else "give every test row Python code there",
        )  # fmt: skip


def pass_at_k(drawn: int, passed: int, k: int) -> float:
    """The estimate above; it is 1 where fewer than k fail. Of fewer than k drawn, whether one passed."""
    if drawn < k:
        return float(passed > 0)
    failed = drawn - passed
    return 1 - prod((failed - i) / (drawn - i) for i in range(k)) if failed >= k else 1.0


def code_of(text: str) -> str:
    """The first fenced block of an answer, or all of it."""
    block = _FENCED.search(text)
    return block.group(1) if block else text
