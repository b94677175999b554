"""Distillation on answers: the teacher answers the training prompts once, and its answers are learned like the data's.

Sequence-level distillation (Kim & Rush 2016, arXiv 1606.07947, section 3.2): the teacher's distribution over whole
answers, approximated by its likeliest one (greedy where the paper searches a beam), or by samples. Of a conversation
the teacher gives the last answer; earlier ones stay as they are and are not learned. Validation rows keep the data's
answers. Answers that did not end, or are empty, or do not fit, would teach not to stop: their rows are left out.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.errors import ContentError
from ...core.events import Note, Progress
from ...core.messages import Example, Message
from ...data.template import TemplateError
from ...data.tokenize import Encoded, encode, encode_prompt
from ...inference.backends.remote import Endpoint, Question, Remote
from ...inference.generate import BATCH_ROWS, Sampling, generate
from ...inference.stops import stop_ids
from ..base import Figures, Learned, Scene, Scores
from ..sft.config import SftSpec
from ..sft.method import Sft
from . import live
from .answer_file import AnswerFile, Given
from .config import DistillSpec, EndpointSpec
from .teacher import Teacher, find_teacher

NAME = "teacher-answers.jsonl"
Portions = Generator[dict[int, Given], None, None]
"""Answers by the places of their rows, as they come in."""


class OnAnswers:
    """Cross entropy on a teacher's answers."""

    figures: tuple[str, ...] = ()

    def __init__(self, spec: DistillSpec):
        self.spec = spec
        self._learn = Sft(SftSpec())
        self.tally = self._learn.tally

    def prepare(self, scene: Scene) -> Learned:
        """Have every prompt answered; answers that an earlier start of this run got are not asked for again."""
        given: dict[int, Given] = scene.world.from_main(lambda: self._given(scene))
        rows, places = [], []
        counts = {"rows": len(scene.examples), "ended": 0, "cut": 0, "empty": 0, "unfit": 0}
        for place, example in enumerate(scene.examples):
            row = _row(example, given[place], scene)
            if isinstance(row, Encoded):
                rows.append(row)
                places.append(place)
            counts["ended" if isinstance(row, Encoded) else row] += 1
        summary = _summary(counts)
        if not rows:
            raise ContentError(
                "the teacher gave no answer that could be learned", why=summary,
                mend="raise method.answers.max_tokens, or take a teacher that ends its answers",
            )  # fmt: skip
        scene.sink(Note(summary, "info" if len(rows) == len(scene.examples) else "warning"))
        return Learned(rows, scene.validation, places, {"teacher": {**counts, "summary": summary}})

    def _given(self, scene: Scene) -> dict[int, Given]:
        """The answers by their rows' places."""
        with AnswerFile(scene.folder / NAME if scene.folder else None, scene.identity) as file:
            missing = [place for place in range(len(scene.examples)) if place not in file.given]
            if not missing:
                return file.given
            scene.sink(Note(f"the teacher {self._name} answers {len(missing):,} prompts, once"))
            with closing(self._asked(scene, missing)) as asked:
                for answers in asked:
                    file.add(answers)
                    scene.sink(Progress(len(file.given), len(scene.examples), "answers of the teacher"))
            return file.given

    @property
    def _name(self) -> str:
        return self.spec.teacher if isinstance(self.spec.teacher, str) else self.spec.teacher.model

    def _asked(self, scene: Scene, missing: Sequence[int]) -> Portions:
        how = self.spec.answers
        sampling = Sampling(how.max_tokens, how.temperature, how.top_p, scene.seed)
        if isinstance(self.spec.teacher, EndpointSpec):
            return _remote(self.spec.teacher, scene, missing, sampling)
        return _local(find_teacher(self.spec.teacher), scene, missing, sampling)

    def step_rows(self, model: Any, rows: Sequence[Encoded], step: int | None) -> Sequence[Encoded]:
        """Those with the teacher's answers."""
        return rows

    def batch(self, rows: Sequence[Encoded], pad_id: int, device: torch.device) -> Any:
        """Padded on the right."""
        return self._learn.batch(rows, pad_id, device)

    def loss_sum(self, model: Any, batch: Any) -> Tensor:
        """Cross entropy, as in supervised fine-tuning."""
        return self._learn.loss_sum(model, batch)

    def regulariser(self, model: Any, step: int) -> Tensor | None:
        """None."""
        return None

    def held_out(self, model: Any, rows: Sequence[Encoded], *, pad_id: int, number_type: str) -> Figures:
        """Nothing: answers and losses say it all."""
        return {}

    def compared(self, base: Figures, tuned: Figures) -> dict[str, tuple[Scores, Scores]]:
        """Nothing besides."""
        return {}


def _remote(spec: EndpointSpec, scene: Scene, missing: Sequence[int], sampling: Sampling) -> Portions:
    """Answers one by one, as they come in."""

    def questions() -> Iterator[tuple[int, Question]]:
        for place in missing:
            example = scene.examples[place]
            yield place, Question(example.prompt(), example.tools, (scene.seed + place) % 2**31)

    with Remote(Endpoint(spec.url, spec.model, spec.timeout, spec.retries, spec.concurrency)) as remote:
        for place, said in remote.answers(questions(), sampling):
            yield {place: Given(said.text.strip(), said.finish_reason == "stop")}


def _local(teacher: Teacher, scene: Scene, missing: Sequence[int], sampling: Sampling) -> Portions:
    """Answers in portions that are the same however often the run was interrupted, so that answers are too."""
    tokenizer, wanted = teacher.tokenizer(scene.date), set(missing)
    prompts = [encode_prompt(tokenizer, example.prompt(), example.tools) for example in scene.examples]
    order = np.argsort([len(prompt) for prompt in prompts], kind="stable").tolist()
    with live.opened(teacher, scene.number_type) as model:
        ends = stop_ids(model, tokenizer)
        for start in range(0, len(order), BATCH_ROWS):
            places = order[start : start + BATCH_ROWS]
            if wanted.isdisjoint(places):
                continue
            answers = generate(
                model, [prompts[i] for i in places],
                Sampling(sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.seed * 1_000_003 + start),
                pad_id=tokenizer.pad_token_id, stop_ids=ends, context=teacher.context,
            )  # fmt: skip
            texts = [tokenizer.decode(answer.token_ids, skip_special_tokens=True).strip() for answer in answers]
            yield {
                place: Given(text, answer.finish_reason == "stop")
                for place, text, answer in zip(places, texts, answers, strict=True)
            }


def _row(example: Example, given: Given, scene: Scene) -> Encoded | str:
    """The row with the teacher's answer as tokens, or why it is left out."""
    if not given.ended:
        return "cut"
    if not given.text:
        return "empty"
    [encoded] = encode(scene.tokenizer, [_with_answer(example, given.text)])
    too_long = isinstance(encoded, Encoded) and scene.max_length and encoded.length > scene.max_length
    return "unfit" if isinstance(encoded, TemplateError) or too_long or not encoded.labelled else encoded


def _with_answer(example: Example, text: str) -> Example:
    """The conversation up to its last answer, with another one, which alone is learned."""
    prompt = example.prompt()
    weight = example.messages[len(prompt)].weight
    before = [m.model_copy(update={"weight": 0.0}) if m.role == "assistant" else m for m in prompt]
    answer = Message(role="assistant", content=text, weight=weight or None)
    return example.model_copy(update={"messages": (*before, answer)})


def _summary(counts: dict[str, int]) -> str:
    kinds = {"cut": "did not end", "empty": "were empty", "unfit": "do not fit"}
    left_out = [f"{counts[kind]:,} {words}" for kind, words in kinds.items() if counts[kind]]
    why = f"; left out: {', '.join(left_out)}" if left_out else ""
    return f"{counts['ended']:,} of {counts['rows']:,} answers of the teacher ended and are learned{why}"
