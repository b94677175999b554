"""A run's base and tuned model on tasks of lm-evaluation-harness, side by side in its evaluation and its report."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ContentError
from ..core.events import Progress, Sink
from ..evaluation.harness_config import HarnessSpec, Loaded, Outcome, beside
from . import bench as benches
from . import report_facts
from .bench import Bench
from .rundir import RunDir

if TYPE_CHECKING:
    from ..evaluation.harness import Harness

KEY = "lm_eval"


def measure(path: Path, asked: HarnessSpec, harness: Harness, *, sink: Sink) -> dict[str, Any]:
    """Ask both models; `lm_eval` of evaluation.json, which is written with the report.

    `harness` is what `asked` builds. MissingError before there is an evaluation, and where a task's data cannot be had;
    ContentError for a model that writes no text.
    """
    run = RunDir.open(path)
    spec, evaluation = run.recipe(), run.read_json("evaluation.json")
    if spec.method.head:
        raise ContentError(
            f"the model of {path} writes no text: it is {spec.method.wording()}", where="--lm-eval",
            mend="ask a run whose model answers",
        )  # fmt: skip
    tuned_bench = benches.open_run(run)

    def ask(bench: Bench, which: str) -> list[Outcome]:
        loaded = Loaded(
            bench.model, bench.tokenizer, bench.pad_id, bench.stop_ids, bench.context, bench.number_type
        )  # fmt: skip
        return harness.ask(loaded, lambda done, total: sink(Progress(done, total, f"requests to the {which}")))

    if spec.adapter.keeps_base:
        with tuned_bench.as_base():
            base = ask(tuned_bench, "base")
    else:
        base = ask(benches.open_base(run, spec), "base")
    tuned = ask(tuned_bench, "tuned model")
    found = {
        "version": version("lm_eval"), "chat": asked.chat, "limit": asked.limit,
        "figures": beside(base, tuned, resamples=spec.evaluation.resamples, seed=spec.seed),
    }  # fmt: skip
    run.write_json("evaluation.json", evaluation | {KEY: found})
    run.write_text("report.html", report_facts.page(run))
    return found
