"""The answering service as the server sees it, and how it is set. Loads no torch before `build`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from pydantic import Field

from ..core.spec import Spec
from ..inference.ask import Ask, Limits, Served
from ..inference.handle import Handle


class Service(Protocol):
    """What `inference.serve.Answering` does; a test has one without a model."""

    def submit(self, ask: Ask) -> Handle:
        """Take a request in."""

    def embed(self, model: Served, inputs: Sequence[str | Sequence[int]]) -> Future[tuple[list[list[float]], int]]:
        """(a vector for each input, tokens read)."""

    def text(self, model: Served, ids: Sequence[int]) -> str:
        """Tokens as text."""

    def forget(self, folder: Path) -> Future[None]:
        """Drop what was loaded from a folder."""

    def close(self) -> None:
        """End what is under way."""


@dataclass(frozen=True)
class Engine:
    """The service, and what turns a base or a run into a model that it takes."""

    service: Service
    base: Callable[[str], Served]
    run: Callable[[Path, str, Path], Served]
    """Takes a run's folder, the model's name, and the folder of its weights."""


class AnsweringSettings(Spec):
    """What the answering service takes on."""

    waiting: int = Field(default=256, gt=0)
    """Answers that may wait at once; more are told to come again (429)."""
    rows: int = Field(default=32, gt=0)
    """Answers that are written at once."""
    batches: int = Field(default=4, gt=0)
    """Batches that are at work at once."""
    prompt_tokens: int = Field(default=32_768, gt=0)
    """Longest prompt; the model's own context may be shorter."""
    answer_tokens: int = Field(default=8_192, gt=0)
    """Longest answer, and how long one may become that names no limit."""
    answers: int = Field(default=128, gt=0)
    """Largest `n`."""
    memory_bytes: int = Field(default=8 * 2**30, gt=0)
    """Of weights, bases and adapters together."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Number type of weights and activations. auto: bases in what this machine is fast in, a run's model in what it was
    trained in. In fp32 answers are those of `tunesmith generate --precision fp32`."""

    def limits(self) -> Limits:
        """As the service takes them."""
        return Limits(
            waiting=self.waiting, rows=self.rows, batches=self.batches, prompt_tokens=self.prompt_tokens,
            answer_tokens=self.answer_tokens, answers=self.answers, memory=self.memory_bytes,
        )  # fmt: skip

    def build(self) -> Engine:
        """The real service. Loads torch."""
        from ..inference.serve import Answering
        from ..pipelines.served import served_base, served_run

        return Engine(
            Answering(self.limits()), partial(served_base, number_type=self.precision),
            partial(served_run, number_type=self.precision),
        )  # fmt: skip
