"""Talk to the model of a run: one loaded base, the adapter on or off for each answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..core.errors import ContentError
from ..core.messages import Message
from ..data.tokenize import encode_prompt
from ..inference.generate import Sampling, stream
from . import bench as benches
from .bench import Bench
from .rundir import RunDir

Which = Literal["base", "tuned"]


@dataclass(frozen=True)
class Piece:
    """The next part of an answer; `finish_reason` is set on the last one, whose text is empty."""

    text: str
    finish_reason: Literal["stop", "length"] | None = None
    tokens: int = 0


class Speaker:
    """The trained model of a run, and its base; `precision` takes the place of the recipe's."""

    def __init__(self, path: Path, precision: Literal["auto", "bf16", "fp32"] | None = None):
        self._run = run = RunDir.open(path)
        self.spec = run.recipe()
        if precision is not None:
            training = self.spec.training.model_copy(update={"precision": precision})
            self.spec = self.spec.model_copy(update={"training": training})
        if self.spec.method.head:
            raise ContentError(
                f"the model of {path} writes no answers: it is {self.spec.method.wording()}",
                mend="score answers with a reward model by api.score_answers; ask a classifier by tunesmith generate",
            )
        self.tuned = benches.open_run(run, self.spec)
        self.system_message = str(run.read_json("run.json").get("system_message") or "")
        # An adapter is switched off; a fully trained model needs its base beside it, loaded when asked for.
        self._separate_base = not self.spec.adapter.keeps_base
        self._base: Bench | None = None if self._separate_base else self.tuned

    def answer(self, messages: Sequence[Message], which: Which, sampling: Sampling) -> Iterator[Piece]:
        """The answer as it is written; whole characters only."""
        bench, mode = self._voice(which)
        tokenizer = bench.tokenizer
        prompt = encode_prompt(tokenizer, messages)
        context = bench.context
        if context and len(prompt) >= context:
            raise ContentError(
                f"the conversation has {len(prompt)} tokens, the model takes {context}",
                mend="start again or shorten it",
            )
        ids: list[int] = []
        shown = ""
        with mode:
            for token in stream(
                bench.model, prompt, sampling, pad_id=bench.pad_id, stop_ids=bench.stop_ids, context=context
            ):
                ids.append(token)
                text = tokenizer.decode(ids, skip_special_tokens=True)
                if text.startswith(shown) and not text.endswith("\ufffd") and text != shown:
                    yield Piece(text[len(shown) :])
                    shown = text
        rest = tokenizer.decode(ids, skip_special_tokens=True)[len(shown) :]
        if rest:  # an answer may end in half a character
            yield Piece(rest)
        limit = min(sampling.max_tokens, context - len(prompt)) if context else sampling.max_tokens
        yield Piece("", "length" if len(ids) >= limit else "stop", len(ids))

    def _voice(self, which: Which) -> tuple[Bench, AbstractContextManager[None]]:
        if which == "tuned":
            return self.tuned, nullcontext()
        if self._base is None:
            self._base = benches.open_base(self._run, self.spec)
        return self._base, nullcontext() if self._separate_base else self._base.as_base()


def opening(speaker: Speaker, system: str | None) -> list[Message]:
    """How a conversation starts: the system message given, or the one that all training rows shared."""
    text = speaker.system_message if system is None else system
    return [Message(role="system", content=text)] if text else []


def conversation(speaker: Speaker, prompt: str, system: str | None) -> list[Message]:
    """One user message behind the opening."""
    return [*opening(speaker, system), Message(role="user", content=prompt)]
