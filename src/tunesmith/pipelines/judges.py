"""Models that judge instead of writing: a classifier's label for a prompt, a reward model's number for an answer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ContentError
from ..core.messages import Message, Preference
from ..data.answers import encode_answers
from ..data.branches import Family
from ..data.template import TemplateError
from ..data.tokenize import Encoded, encode_prompt
from ..methods.classify.config import ClassifySpec
from ..methods.classify.method import log_probabilities
from ..methods.reward.config import RewardSpec
from ..methods.reward.method import rewards
from . import bench as benches
from .bench import Bench
from .rundir import RunDir


def is_classifier(path: Path) -> bool:
    """Whether the run at `path` trained one."""
    return isinstance(RunDir.open(path).recipe().method, ClassifySpec)


class _Judge:
    """The model of a run, and how a conversation with it begins."""

    def __init__(self, path: Path, kind: type[ClassifySpec] | type[RewardSpec], what: str):
        self._run = run = RunDir.open(path)
        self.spec = run.recipe()
        if not isinstance(self.spec.method, kind):
            raise ContentError(
                f"{path} holds no {what}: its method is '{self.spec.method.type}'",
                mend=f"name a run of method: {{type: {kind.model_fields['type'].default}}}",
            )
        self.bench: Bench = benches.open_run(run)
        self._system = str(run.read_json("run.json").get("system_message") or "")

    def _asked(self, prompt: str, system: str | None) -> tuple[Message, ...]:
        text = self._system if system is None else system
        opening = (Message(role="system", content=text),) if text else ()
        return (*opening, Message(role="user", content=prompt))

    def _within(self, tokens: int) -> None:
        context = self.bench.context
        if context and tokens > context:
            raise ContentError(f"the text has {tokens} tokens, the model takes {context}", mend="shorten it")


class Classifier(_Judge):
    """A classifier of a run."""

    def __init__(self, path: Path):
        super().__init__(path, ClassifySpec, "classifier")

    def probabilities(self, prompt: str, system: str | None = None, *, base: bool = False) -> dict[str, float]:
        """Of every label for one user message, the likeliest first; labels alike in the recipe's order."""
        ids = encode_prompt(self.bench.tokenizer, self._asked(prompt, system))
        self._within(len(ids))
        row = Encoded(np.array(ids, dtype=np.int32), np.zeros(len(ids), dtype=np.float32))
        apart = base and not self.spec.adapter.keeps_base
        bench = benches.open_base(self._run, self.spec) if apart else self.bench
        with bench.as_base() if base and not apart else nullcontext():
            logp_NK = log_probabilities(bench.model, [Family((row,), 0)], bench.pad_id, number_type=bench.number_type)
        labels = self.spec.method.head.labels if self.spec.method.head else ()
        found = dict(zip(labels, np.exp(logp_NK[0]).tolist(), strict=True))
        return dict(sorted(found.items(), key=lambda entry: -entry[1]))


class RewardModel(_Judge):
    """A reward model of a run."""

    def __init__(self, path: Path):
        super().__init__(path, RewardSpec, "reward model")

    def scores(self, pairs: Sequence[tuple[str, str]], system: str | None = None) -> list[float]:
        """The reward of each (prompt, answer), in order."""
        rows = [
            Preference(prompt=self._asked(prompt, system), chosen=(said,), rejected=(said,))
            for prompt, answer in pairs
            for said in (Message(role="assistant", content=answer),)
        ]
        found = [self._sequence(one) for one in encode_answers(self.bench.tokenizer, rows)]
        families = [Family((one,), 0) for one in found]
        how: dict[str, Any] = {"share": False, "number_type": self.bench.number_type}
        scores: list[float] = rewards(self.bench.model, families, self.bench.pad_id, **how).tolist()
        return scores

    def _sequence(self, shown: tuple[Encoded, ...] | TemplateError) -> Encoded:
        if isinstance(shown, TemplateError):
            raise ContentError("the base's chat template cannot show this prompt with this answer", why=str(shown))
        self._within(shown[0].length)
        return shown[0]
