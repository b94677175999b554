"""Tasks of lm-evaluation-harness, asked of a loaded model: its prompts, metrics and figures, our forward passes.

Needs the extra `lm-eval`. Written for version 0.4.13 of its Python API: `simple_evaluate` with a model object.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from ..core.errors import ContentError, MissingError, nearest
from ..data.batch import collate, evaluation_batches
from ..data.tokenize import Encoded
from ..engine import precision
from ..engine.evaluate import EVALUATION_TOKENS
from ..engine.objective import TorchBatch
from ..inference.batch import Batch, Line
from ..inference.generate import BATCH_ROWS
from ..inference.sampling import Sampling
from ..models.head import labelled
from ..models.modes import evaluating
from .harness_config import HarnessSpec, Loaded, Outcome

MAX_TOKENS = 256
"""Of an answer, where the task does not say; the harness's own number."""
_ABSENT = (ConnectionError, FileNotFoundError)
"""What loading a task's data raises where it is neither here nor can be fetched."""
_NAMES_SHOWN = 400


Progressing = Callable[[int, int], None]
"""(done, of how many) requests."""


class Harness:
    """The tasks that were asked for. ContentError for an unknown one, MissingError where its data cannot be had."""

    def __init__(self, spec: HarnessSpec):
        self._spec = spec
        folders = sorted({str(Path(task).parent.absolute()) for task in spec.tasks if _is_file(task)})
        own = all(map(_is_file, spec.tasks))  # to read the harness's 14,000 tasks takes longer than many a task
        self._manager = TaskManager(include_path=folders or None, include_defaults=not own)
        self.names = [_named(task) if _is_file(task) else task for task in spec.tasks]
        known = self._manager.all_tasks
        for name in self.names:
            if name not in known:
                raise ContentError(f"lm-evaluation-harness knows no task '{name}'", mend=_near(name, known))

    def ask(self, loaded: Loaded, progress: Progressing) -> list[Outcome]:
        """One model on all tasks."""
        asked = _Asked(loaded, progress)
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        try:
            with evaluating(loaded.model), torch.inference_mode():
                found = simple_evaluate(
                    model=asked, tasks=self.names, task_manager=self._manager, limit=self._spec.limit,
                    num_fewshot=self._spec.shots, apply_chat_template=self._spec.chat,
                    fewshot_as_multiturn=self._spec.chat, bootstrap_iters=1000, log_samples=True,
                )  # fmt: skip
        except _ABSENT as error:
            raise MissingError(
                f"the data of {', '.join(self.names)} cannot be had", why=str(error).splitlines()[0],
                mend="name local files in the task's dataset_kwargs, or allow the network (HF_HUB_OFFLINE)",
            ) from error  # fmt: skip
        return _outcomes(found)


def _is_file(task: str) -> bool:
    return task.endswith((".yaml", ".yml"))


def _named(task: str) -> str:
    """The name in a task's file. Its tags (`!function`) are the harness's affair, so the line alone is read."""
    file = Path(task)
    if not file.is_file():
        raise MissingError(f"there is no task file {task}", mend="name the YAML file of a task, or a task by its name")
    for line in file.read_text("utf-8").splitlines():
        key, colon, value = line.partition(":")
        if key == "task" and colon:
            return value.partition("#")[0].strip().strip("'\"")
    raise ContentError("this file names no task", where=task, mend="give it a line `task: NAME`")


def _near(name: str, known: Sequence[str]) -> str:
    told = nearest(name, known)
    return told if len(told) <= _NAMES_SHOWN else f"{told.partition(' (')[0]}; `lm-eval ls tasks` lists {len(known):,}"


def _outcomes(found: dict[str, Any]) -> list[Outcome]:
    """A line for each task, metric and filter that has a number, as the harness tells them."""
    made = []
    for task, figures in found["results"].items():
        for key, value in figures.items():
            metric, comma, filtered = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = figures.get(f"{metric}_stderr,{filtered}")
            made.append(Outcome(
                task, metric, filtered, float(value), float(error) if isinstance(error, int | float) else None,
                higher_is_better=found["higher_is_better"].get(task, {}).get(metric) is not False,
                shots=int(found["n-shot"].get(task, 0) or 0), rows=_row_scores(found, task, metric, filtered, value),
                count=int(found["n-samples"].get(task, {}).get("effective", 0)),
            ))  # fmt: skip
    return made


def _row_scores(found: dict[str, Any], task: str, metric: str, filtered: str, value: float) -> tuple[float, ...]:
    """The scores of the rows where their mean is the figure; none of BLEU, perplexity and the like."""
    rows = [one[metric] for one in found["samples"].get(task, ()) if one["filter"] == filtered and metric in one]
    if not rows or not all(isinstance(score, int | float) for score in rows):
        return ()
    return tuple(map(float, rows)) if abs(float(np.mean(rows)) - value) < 1e-9 else ()


class _Asked(LM):  # type: ignore[misc]
    """The model as the harness wants it: texts in, texts and log-likelihoods out."""

    def __init__(self, loaded: Loaded, progress: Progressing):
        super().__init__()
        self._loaded, self._progress = loaded, progress
        words = loaded.tokenizer
        self._start = int(words.bos_token_id if words.bos_token_id is not None else words.eos_token_id)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Of each continuation behind its context, and whether greedy decoding would say it."""
        return self._scored([self._pair(*request.args) for request in requests])

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Of each whole text, those longer than the context in windows whose tokens are each predicted once."""
        longest = self._loaded.context or max((len(self._ids(r.args[0])) for r in requests), default=0) + 1
        pairs, owners = [], []
        for number, request in enumerate(requests):
            windows = get_rolling_token_windows(
                token_list=self._ids(request.args[0]), prefix_token=self._start, max_seq_len=longest - 1, context_len=1
            )
            for window in map(make_disjoint_window, windows):
                pairs.append((list(window[0]), list(window[1])))
                owners.append(number)
        sums = [0.0] * len(requests)
        for owner, (value, _) in zip(owners, self._scored(pairs), strict=True):
            sums[owner] += value
        return sums

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Answers, each cut before the first of its request's stop texts."""
        order = sorted(range(len(requests)), key=lambda i: len(requests[i].args[0]))
        said: dict[int, str] = {}
        for start in range(0, len(order), BATCH_ROWS):
            some = order[start : start + BATCH_ROWS]
            texts = self._written([requests[i].args for i in some], first=start)
            said |= dict(zip(some, texts, strict=True))
            self._progress(len(said), len(requests))
        return [said[i] for i in range(len(requests))]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as the model was taught to see it."""
        text: str = self._loaded.tokenizer.apply_chat_template(
            chat_history, tokenize=False, add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )  # fmt: skip
        return text

    def chat_template(self, chat_template: bool | str = False) -> str:
        """For the harness's record."""
        return str(self._loaded.tokenizer.chat_template) if chat_template else ""

    @property
    def tokenizer_name(self) -> str:
        """For the harness's record."""
        return str(self._loaded.tokenizer.name_or_path)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Tokens of both; spaces at the context's end go with the continuation, where tokenizers have them."""
        kept = context.rstrip()
        continuation = context[len(kept) :] + continuation
        if not kept:
            return [self._start], self._ids(continuation)
        before = self._ids(kept)
        return before, self._ids(kept + continuation)[len(before) :]

    def _scored(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        """(log-likelihood in nats, greedy) of each continuation; what does not fit loses the context's beginning."""
        rows = [self._row(context, continuation) for context, continuation in pairs]
        found: list[tuple[float, bool]] = [(0.0, True)] * len(rows)
        done, device = 0, next(self._loaded.model.parameters()).device
        for places in evaluation_batches([row.length for row in rows], EVALUATION_TOKENS):
            batch = TorchBatch.of(collate([rows[i] for i in places], self._loaded.pad_id), device)
            with precision.context(self._loaded.number_type, self._loaded.model):
                told = labelled(self._loaded.model, batch.input_ids_BL, batch.attention_mask_BL, batch.loss_weight_BL)
            losses_N, owner_N = told.losses().double().cpu(), told.owner_N.cpu()
            greedy_N = (told.said.logits().argmax(-1) == told.tokens_N).cpu()
            sums = torch.zeros(len(places), dtype=torch.float64).index_add_(0, owner_N, losses_N)
            misses = torch.zeros(len(places), dtype=torch.int64).index_add_(0, owner_N, (~greedy_N).long())
            for place, loss, missed in zip(places, sums.tolist(), misses.tolist(), strict=True):
                found[place] = (-loss, not missed)
            done += len(places)
            self._progress(done, len(rows))
        return found

    def _row(self, context: list[int], continuation: list[int]) -> Encoded:
        ids = context + continuation
        weight = np.zeros(len(ids), dtype=np.float32)
        weight[len(context) :] = 1
        most = self._loaded.context or len(ids)
        return Encoded(np.array(ids[-most:], dtype=np.int32), weight[-most:])

    def _written(self, asked: Sequence[tuple[str, dict[str, Any]]], first: int) -> list[str]:
        """A batch of answers. A row is ended as soon as its text holds one of its stop texts."""
        loaded = self._loaded
        stops = [_stops(how) for _, how in asked]
        lines = [self._line(text, how, first + number) for number, (text, how) in enumerate(asked)]
        for new in Batch(loaded.model, lines, loaded.pad_id, loaded.stop_ids).steps():
            for number in new:
                text = loaded.tokenizer.decode(lines[number].tokens, skip_special_tokens=True)
                if any(stop in text for stop in stops[number]):
                    lines[number].end()
        texts = [loaded.tokenizer.decode(line.tokens, skip_special_tokens=True) for line in lines]
        return [_before(text, ends) for text, ends in zip(texts, stops, strict=True)]

    def _line(self, text: str, how: dict[str, Any], seed: int) -> Line:
        most = int(how.get("max_gen_toks", MAX_TOKENS))
        drawn = bool(how.get("do_sample", False))
        sampling = Sampling(
            most, temperature=float(how.get("temperature") or 0.0) if drawn else 0.0,
            top_p=float(how.get("top_p", 1.0)), seed=seed,
        )  # fmt: skip
        room, ids = self._loaded.context, self._ids(text)
        if room:
            ids = ids[-max(1, room - most) :]
        device = next(self._loaded.model.parameters()).device
        return Line(ids, sampling, torch.Generator(device=device).manual_seed(seed), room)


def _stops(how: dict[str, Any]) -> list[str]:
    until = how.get("until") or []
    return [until] if isinstance(until, str) else [text for text in until if text]


def _before(text: str, stops: Sequence[str]) -> str:
    for stop in stops:
        text = text.partition(stop)[0]
    return text
