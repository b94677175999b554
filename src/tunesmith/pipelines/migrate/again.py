"""A job trained again here, and what its model says to the prompts that the old one answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core import fingerprints
from ...core.errors import InterruptedRunError, TunesmithError
from ...core.events import Sink
from ...core.messages import spoken
from ...data.template import TemplateError
from ...data.tokenize import encode_prompt
from ...inference.generate import Sampling, generate
from .. import bench as benches
from .. import journey
from ..read_recipe import placed, read_recipe
from ..rundir import RunDir
from .folder import Folder, safe
from .prompts import Asked
from .recipes import Plan


@dataclass(frozen=True)
class Again:
    """How a training ended. `status` is finished or failed."""

    job: str
    run: Path
    status: str
    verdict: str | None = None
    error: str | None = None


def train(folder: Folder, plan: Plan, recipe: Path, settings: Sequence[str], sink: Sink) -> Again:
    """Run the plan's `recipe` into `runs/ID`, or go on with it; a run that is finished under the same recipe stays.

    InterruptedRunError for a signal; all else that ends a training is told in what comes back.
    """
    out = folder.path / "runs" / safe(plan.id)
    made_of = {"recipe": fingerprints.of_file(recipe), "settings": list(settings)}
    done: dict[str, Any] = folder.state().get("runs", {})
    if done.get(plan.id) == made_of and (out / "evaluation.json").is_file():
        return Again(plan.id, out, "finished", RunDir(out).read_json("evaluation.json")["verdict"])
    try:
        with placed(recipe):
            spec = read_recipe(recipe, settings)
            _, verdict = journey.run(spec, out, resume=out.exists(), sink=sink, folder=recipe.parent)
    except InterruptedRunError as error:
        error.mend = "run the same command again: it goes on from the last checkpoint"
        raise
    except TunesmithError as error:
        return Again(plan.id, out, "failed", error=": ".join(filter(None, (error.what, error.where, error.why))))
    folder.remember(runs=done | {plan.id: made_of})
    return Again(plan.id, out, "finished", "pass" if verdict.passed else "fail")


def new_answers(run: Path, prompts: Mapping[str, Asked], max_tokens: int) -> dict[str, str]:
    """What the trained model says, greedily; prompts that it cannot take (longer than its context, or refused by its
    template) are left out."""
    bench = benches.open_run(RunDir.open(run))
    encoded: dict[str, list[int]] = {}
    for key, one in prompts.items():
        try:
            ids = encode_prompt(bench.tokenizer, one.messages, one.tools)
        except TemplateError:
            continue
        if not bench.context or len(ids) < bench.context:
            encoded[key] = ids
    answers = generate(
        bench.model, list(encoded.values()), Sampling(max_tokens), pad_id=bench.pad_id, stop_ids=bench.stop_ids,
        context=bench.context,
    )  # fmt: skip
    texts = (bench.tokenizer.decode(one.token_ids, skip_special_tokens=True) for one in answers)
    return {key: spoken(text).strip() for key, text in zip(encoded, texts, strict=True)}
