"""Jobs trained again here, one after the other, and what their models say to the prompts that the old ones answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ...core import clock, files, fingerprints
from ...core.errors import InterruptedRunError, TunesmithError
from ...core.events import Sink
from ...core.messages import spoken
from ...data.template import TemplateError
from ...data.tokenize import encode_prompt
from ...inference.generate import Sampling, generate
from ...report.agreement import Job, page
from .. import bench as benches
from .. import journey
from ..read_recipe import placed, read_recipe
from ..rundir import RunDir
from .agreement import agreement
from .answers import recorded
from .folder import Folder, safe
from .journey import Again, Say, Wanted
from .prompts import Asked
from .recipes import Plan


def retrain(
    folder: Folder, plans: Sequence[Plan], prompts: Mapping[str, Sequence[Asked]], wanted: Wanted, say: Say, *,
    sink: Sink,
) -> list[Again]:  # fmt: skip
    """Train each job with a recipe and a model there; then `agreement.json` and `agreement.html` of those for which
    answers were recorded.

    InterruptedRunError for a signal; all else that ends one training is told in what comes back, and the next begins.
    """
    done = []
    for one in plans:
        if one.recipe is None:
            continue
        if one.model is None:
            one.notes.append("not trained again: the old job made no model")
            continue
        say(f"training {one.id} again: {one.recipe} on {one.base}")
        ended = _trained(folder, one, one.recipe, wanted.settings, sink)
        if ended.status == "finished":
            ended = replace(ended, agreement=_compared(folder, one, ended, prompts[one.id], wanted, say))
        else:
            say(f"  {one.id}: {ended.error}")
        done.append(ended)
    jobs = [one.agreement for one in done if one.agreement]
    if jobs:
        service, made = folder.state().get("service", ""), clock.now()
        folder.write("agreement.json", {"service": service, "made": made, "jobs": [asdict(job) for job in jobs]})
        files.write_text(folder.path / "agreement.html", page(jobs, service, made))
    return done


def _trained(folder: Folder, plan: Plan, recipe: Path, settings: Sequence[str], sink: Sink) -> Again:
    """Run the plan's recipe into `runs/ID`, or go on with it; a run that is finished under the same recipe stays."""
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


def _compared(
    folder: Folder, plan: Plan, ended: Again, prompts: Sequence[Asked], wanted: Wanted, say: Say
) -> Job | None:  # fmt: skip
    """The job's agreement; None, with a note, where the old model's answers are not there."""
    old = recorded(folder)
    by_key = {one.key(str(plan.model), wanted.max_tokens): one for one in prompts}
    known = {key: one for key, one in by_key.items() if "error" not in old.get(key, {"error": ""})}
    if not known:
        plan.notes.append(
            "not compared: no answer of the old model is recorded for these prompts and this --max-tokens"
        )
        return None
    say(f"comparing {plan.id}: {len(known)} answers")
    new = _new_answers(ended.run, known, wanted.max_tokens)
    both = [(one, old[key], new[key]) for key, one in known.items() if key in new]
    if not both:
        plan.notes.append("not compared: the new model can take none of these prompts")
        return None
    return agreement(
        plan, both, run=str(ended.run.relative_to(folder.path)), verdict=ended.verdict or "",
        asked_from=wanted.prompts.name if wanted.prompts else plan.held_out_name,
        learned_before=plan.learned_before and not wanted.prompts, unanswered=len(prompts) - len(both),
    )  # fmt: skip


def _new_answers(run: Path, prompts: Mapping[str, Asked], max_tokens: int) -> dict[str, str]:
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
