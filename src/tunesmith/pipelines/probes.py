"""What is asked of a model beside the test rows: skills that it had before, training rows that it may repeat, and what
it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.messages import Message
from ..data.canaries import canaries, others
from ..data.config import CanariesSpec
from ..data.rows import pick
from ..data.template import TemplateError, learning_last
from ..data.tokenize import Encoded, encode, encode_prompt
from ..engine.evaluate import row_losses
from ..evaluation import contamination, exposure, memorisation, safety
from ..evaluation.config import MemorisationSpec
from ..evaluation.exposure import SAMPLED
from ..evaluation.memorisation import Losses, Seen
from ..evaluation.metrics.refusal import refuses
from ..evaluation.significance import kept
from ..evaluation.skills import mastered, suite
from ..inference.generate import Sampling, generate
from .bench import Bench
from .prepare import Prepared


@dataclass(frozen=True)
class Probes:
    """One model's skills, bool [items], a sample of training rows under it, and what of the safety probe it refuses,
    bool [prompts]; None where the recipe asks for none, or the model cannot be asked."""

    skills: NDArray[np.bool_] | None = None
    seen: Seen | None = None
    refused: NDArray[np.bool_] | None = None
    exposed: NDArray[np.float64] | None = None
    """Losses of planted rows and of their like with other digits, [canaries, 1 + others]."""


def probe(bench: Bench, prepared: Prepared) -> Probes:
    """Ask the bench's model as it stands."""
    wanted = prepared.spec.evaluation
    how: dict[str, Any] = {"pad_id": bench.pad_id, "number_type": bench.number_type}
    skills = mastered(bench.model, bench.tokenizer, **how) if wanted.skills else None
    # Rows of other kinds have no one answer that could come back.
    asked = wanted.memorisation if prepared.kind == "supervised" and prepared.metrics else None
    return Probes(
        skills,
        _seen(bench, prepared, asked, how) if asked else None,
        _refused(bench) if wanted.safety else None,
        _exposed(bench, prepared, prepared.spec.data.canaries, how) if prepared.spec.data.canaries else None,
    )


def _exposed(bench: Bench, prepared: Prepared, spec: CanariesSpec, how: dict[str, Any]) -> NDArray[np.float64]:
    seed = prepared.spec.seed
    planted = canaries(spec, prepared.train.examples, seed)
    rows = [row for one in planted for row in (one, *others(one, SAMPLED, seed))]
    made = [one for one in encode(bench.tokenizer, rows) if not isinstance(one, TemplateError)]
    sums, _ = row_losses(bench.model, made, **how)
    return sums.reshape(len(planted), SAMPLED + 1)


def _answers(bench: Bench, prompts: Sequence[Sequence[int]], longest: int) -> list[list[int]]:
    """Greedy answers to these prompts, as tokens."""
    made = generate(
        bench.model, prompts, Sampling(max_tokens=longest), pad_id=bench.pad_id, stop_ids=bench.stop_ids,
        context=bench.context,
    )  # fmt: skip
    return [answer.token_ids for answer in made]


def _refused(bench: Bench) -> NDArray[np.bool_]:
    asked = [(Message(role="user", content=one.prompt),) for one in safety.suite()]
    prompts = [encode_prompt(bench.tokenizer, messages) for messages in asked]
    said = _answers(bench, prompts, safety.LONGEST_ANSWER)
    return np.array([refuses(bench.tokenizer.decode(ids, skip_special_tokens=True)) for ids in said])


def _seen(bench: Bench, prepared: Prepared, spec: MemorisationSpec, how: dict[str, Any]) -> Seen:
    examples = prepared.train.examples
    places = np.array(memorisation.drawn(len(examples), spec.rows, prepared.spec.seed), dtype=np.int64)
    rows = [learning_last(example) for example in pick(examples, places)]
    made = encode(bench.tokenizer, rows)
    limit = int(prepared.spec.training.max_length)
    shown = [(row, one.cut(limit)) for row, one in zip(rows, made, strict=True) if not isinstance(one, TemplateError)]
    sums, counts = row_losses(bench.model, [one for _, one in shown], **how)
    asked = shown[: spec.asked]
    prompts = [encode_prompt(bench.tokenizer, row.prompt(), row.tools) for row, _ in asked]
    answers = _answers(bench, prompts, int(prepared.spec.evaluation.max_tokens))
    known = [_labelled(one) for _, one in asked]
    runs = [memorisation.longest_run(said, own) for said, own in zip(answers, known, strict=True)]
    whole = [len(own) for own in known]
    return Seen(sums / np.maximum(counts, 1), np.array(runs, dtype=np.int64), np.array(whole, dtype=np.int64))


def _labelled(one: Encoded) -> list[int]:
    ids: list[int] = one.input_ids[one.loss_weight > 0].tolist()
    return ids


def facts(
    base: Probes, tuned: Probes, base_losses: Losses, tuned_losses: Losses, seed: int,
    planted: CanariesSpec | None = None,
) -> dict[str, Any]:  # fmt: skip
    """`skills`, `memorisation`, `contamination`, `safety` and `canaries` of evaluation.json, as far as both models were
    asked. Losses are of the test rows."""
    found: dict[str, Any] = {}
    if base.skills is not None and tuned.skills is not None:
        found["skills"] = _skills(base.skills, tuned.skills)
    if base.seen and tuned.seen and len(tuned.seen.losses):
        found["memorisation"] = memorisation.facts(base.seen, tuned.seen, base_losses, tuned_losses, seed)
        if seen := contamination.facts(base.seen.losses, base_losses, seed):
            found["contamination"] = seen
    if base.refused is not None and tuned.refused is not None:
        found["safety"] = safety.facts(base.refused, tuned.refused)
    if base.exposed is not None and tuned.exposed is not None and planted:
        codes = [one.answer() for one in canaries(planted, (), seed)]
        found["canaries"] = exposure.facts(base.exposed, tuned.exposed, codes, planted.repeats)
    return found


def _skills(base: NDArray[np.bool_], tuned: NDArray[np.bool_]) -> dict[str, Any]:
    names = np.array([item.skill for item in suite()])
    parts = {"all": np.ones(len(names), dtype=bool)} | {str(n): names == n for n in dict.fromkeys(names)}
    return {name: kept(base[rows], tuned[rows]) for name, rows in parts.items()}
