"""A model on this machine that is asked as one behind an endpoint is: a base, or the tuned model of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from ..core.messages import spoken
from ..data.template import PLAIN_TEMPLATE
from ..data.tokenize import encode_prompt
from ..inference.backends.remote import Question, Said
from ..inference.generate import Sampling, generate
from ..inference.stops import stop_ids
from ..models import load
from ..models.find import find
from ..models.tokenizer import tokenizer as load_tokenizer
from . import bench as benches
from .known_answers import tuned_fingerprint
from .rundir import RunDir

_TOGETHER = 32
"""Questions that are answered side by side."""


class LocalModel:
    """Loaded when it is made. MissingError where there is neither a run nor a base of that name."""

    def __init__(self, name: str):
        self._model: Any
        if (Path(name) / "run.json").is_file():
            run = RunDir.open(Path(name))
            bench = benches.open_run(run)
            self.fingerprint = tuned_fingerprint(run, run.recipe(), bench.base.fingerprint())
            self._model, self._tokenizer, self._context = bench.model, bench.tokenizer, bench.context
        else:
            base = find(name)
            self.fingerprint = base.fingerprint()
            self._tokenizer = load_tokenizer(base, PLAIN_TEMPLATE)
            self._model, self._context = load.model(base, torch.float32), base.context
        self._stop = stop_ids(self._model, self._tokenizer)

    def answers(self, questions: Iterable[tuple[int, Question]], sampling: Sampling) -> Iterator[tuple[int, Said]]:
        """(number, answer) of every numbered question; where a question is too long an empty one, ended by `length`."""
        waiting: list[tuple[int, list[int]]] = []
        for number, question in questions:
            waiting.append((number, encode_prompt(self._tokenizer, question.messages, question.tools)))
            if len(waiting) == _TOGETHER:
                yield from self._said(waiting, sampling)
                waiting = []
        yield from self._said(waiting, sampling)

    def _said(self, waiting: list[tuple[int, list[int]]], sampling: Sampling) -> Iterator[tuple[int, Said]]:
        fits = [(n, ids) for n, ids in waiting if self._context is None or len(ids) < self._context]
        made = generate(
            self._model, [ids for _, ids in fits], sampling, pad_id=int(self._tokenizer.pad_token_id),
            stop_ids=self._stop, context=self._context,
        )  # fmt: skip
        found = {number: answer for (number, _), answer in zip(fits, made, strict=True)}
        for number, ids in waiting:
            if answer := found.get(number):
                text = spoken(self._tokenizer.decode(answer.token_ids, skip_special_tokens=True)).strip()
                yield number, Said(text, answer.finish_reason, len(ids), len(answer.token_ids))
            else:
                yield number, Said("", "length", len(ids), 0)
