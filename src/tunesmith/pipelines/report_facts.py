"""The files of a run to the facts of its report. Reads nothing else, so a report can be rebuilt at any time."""

from __future__ import annotations

from typing import Any

from ..report import (
    AdviceFacts,
    AuditFacts,
    BaselineFacts,
    CapFacts,
    CostFacts,
    DiversityFacts,
    FileFacts,
    FindingFacts,
    ForecastFacts,
    ForgettingFacts,
    GateReason,
    LengthFacts,
    LossCurves,
    MetricFacts,
    NextCommand,
    OutcomeCounts,
    OverfittingFacts,
    PhaseTime,
    PowerFacts,
    ReportFacts,
    RowFacts,
    SliceFacts,
    SourceFacts,
    SplitFacts,
    SupervisionFacts,
    TokenFacts,
    WorstSliceFacts,
    render,
)
from .recipe import RunSpec
from .report_certainty import certainty
from .report_growth import growth
from .report_tables import tables
from .report_ways import ways
from .rundir import RunDir

_PULLS = "Most influential training rows (\N{MINUS SIGN} away from the right answer, + towards it):"
LONGEST_QUOTE = 160
"""Characters shown of a training row's answer."""


def page(run: RunDir) -> str:
    """The whole report of a finished run as HTML."""
    return render(facts(run))


def facts(run: RunDir) -> ReportFacts:
    """Everything that the report shows."""
    known, evaluation, spec = run.read_json("run.json"), run.read_json("evaluation.json"), run.recipe()
    train, validation = run.curves()
    return ReportFacts(
        name=known["name"],
        run_id=known["id"],
        created=known["created"],
        verdict=evaluation["verdict"],
        reasons=[GateReason(**reason) for reason in evaluation["reasons"]],
        base_name=known["base"],
        method=_method(spec, known),
        adapter=spec.adapter.told(),
        test_rows=evaluation["rows"],
        metrics=_metrics(evaluation["metrics"]),
        power=_power(evaluation.get("power")),
        slices=[_slice(s) for s in evaluation["slices"]],
        worst_slice=WorstSliceFacts(**evaluation["worst_slice"]) if evaluation.get("worst_slice") else None,
        baselines=[BaselineFacts(**b) for b in evaluation["baselines"]],
        tables=tables(evaluation),
        certainty=certainty(evaluation),
        growth=growth(run),
        ways=ways(run),
        forgetting=_forgetting(evaluation["forgetting"]),
        against_forgetting=AdviceFacts(**advice) if (advice := evaluation.get("against_forgetting")) else None,
        overfitting=_overfitting(evaluation["overfitting"]),
        curves=LossCurves(train=train, validation=validation, kept_step=known["kept_step"]),
        row_metric=evaluation["row_metric"],
        outcomes=_outcomes(evaluation["outcomes"]),
        rows=[_row(row) for row in run.read_lines("predictions.jsonl")],
        audit=_audit(run.read_json("data-audit.json")),
        recipe_yaml=run.recipe_text(),
        versions=known["versions"],
        fingerprints={key: known[f"{key}_fingerprint"] for key in ("data", "base", "tokenizer", "recipe")},
        machine=known["machine"],
        times=[PhaseTime(phase=phase, seconds=seconds) for phase, seconds in known["times"].items()],
        cost=CostFacts(
            wall_seconds=known["wall_seconds"],
            trained_tokens=known["trained_tokens"],
            tokens_per_second=known["tokens_per_s"],
            peak_memory_mib=known["peak_memory_mb"],
        ),
        next_commands=[NextCommand(what=what, command=command) for what, command in next_commands(run)],
    )


def next_commands(run: RunDir) -> list[tuple[str, str]]:
    """(what it does, command) for a trained run."""
    method = run.recipe().method
    ask = ("one answer", f"tunesmith generate {run.path} --prompt '...' --json")
    if method.type == "reward":
        scored = f"tunesmith.api.score_answers(Path('{run.path}'), [('prompt', 'answer')])"
        asks = [("score answers, in Python", scored)]
    elif method.type == "classify":
        asks = [ask]
    else:
        asks = [("talk to the tuned model, /base and /both switch", f"tunesmith chat {run.path}"), ask]
    return [
        *asks,
        ("a folder that plain transformers loads", f"tunesmith export {run.path} --to merged"),
        ("compare with another run", f"tunesmith runs {run.path} OTHER"),
    ]


def _method(spec: RunSpec, known: dict[str, Any]) -> str:
    """The method, and what its teacher gave."""
    taught = known.get("teacher")
    return f"{spec.method.wording()} ({taught['summary']})" if taught else spec.method.wording()


def _metrics(entries: list[dict[str, Any]]) -> list[MetricFacts]:
    wanted = ("name", "base", "tuned", "higher_is_better", "unit")
    return [
        MetricFacts(ci95=tuple(e["ci95"]), p_value=e.get("p_value"), **{key: e[key] for key in wanted}) for e in entries
    ]


def _power(entry: dict[str, Any] | None) -> PowerFacts | None:
    """Runs of older versions have none."""
    return PowerFacts(**{key: entry[key] for key in ("metric", "rows", "detectable")}) if entry else None


def _slice(entry: dict[str, Any]) -> SliceFacts:
    scores = [m for m in entry["metrics"] if m["unit"] == "share"]  # a slice's losses would only widen the table
    return SliceFacts(**entry | {"metrics": _metrics(scores)})


def _forgetting(entry: dict[str, Any]) -> ForgettingFacts | None:
    if entry["base_loss"] is None:
        return None
    return ForgettingFacts(**{key: value for key, value in entry.items() if key != "delta"})


def _overfitting(entry: dict[str, Any]) -> OverfittingFacts | None:
    if entry["verdict"] == "not_measured":
        return None
    return OverfittingFacts(**{key: value for key, value in entry.items() if key != "kept_step"})


def _outcomes(counts: dict[str, int]) -> OutcomeCounts:
    return OutcomeCounts(
        wins=counts["win"],
        losses=counts["loss"],
        ties_right=counts["tie_right"],
        ties_wrong=counts["tie_wrong"],
    )


def _row(row: dict[str, Any]) -> RowFacts:
    turns = row["prompt"]
    alone = len(turns) == 1
    prompt = turns[0]["content"] if alone else "\n\n".join(f"[{t['role']}] {t['content']}" for t in turns)
    return RowFacts(
        index=row["index"],
        source=row["source"],
        prompt=prompt,
        reference=row["reference"],
        base_answer=row["base"],
        tuned_answer=row["tuned"],
        base_score=row["base_score"],
        tuned_score=row["tuned_score"],
        outcome=row["outcome"],
        slices=row["slices"],
        why=_why(row.get("lost")),
    )


def _why(lost: dict[str, Any] | None) -> str:
    """What the training rows had for a wrong answer, in a sentence or two."""
    if not lost:
        return ""
    near = [
        f"{one['source']} ({one['similarity']:.0%} alike{', contradicted' if one['contradicted'] else ''}): "
        f"{_short(one['answer'])}"
        for one in lost["near"]
    ]
    pulls = [_pull(one) for one in lost.get("influential", [])]
    return "\n".join([
        lost["advice"], *(["Nearest training rows:"] if near else []), *near, *([_PULLS] if pulls else []), *pulls
    ])  # fmt: skip


def _pull(one: dict[str, Any]) -> str:
    similarity = f"{one['similarity']:+.2f}".replace("-", "\N{MINUS SIGN}")
    return f"{similarity} {one['source']}{' (contradicted)' if one['contradicted'] else ''}: {_short(one['answer'])}"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}…"


def _audit(audit: dict[str, Any]) -> AuditFacts:
    """The section on the data; runs of older versions lack the figures that came later."""
    tokens, supervision = audit["tokens"], audit.get("supervision")
    return AuditFacts(
        files=[FileFacts(rejected=f["rows"] - f["accepted"], **f) for f in audit["files"]],
        findings=[_finding(f) for f in audit["findings"]],
        tokens=TokenFacts(truncated_rows=tokens.pop("truncated"), **tokens) if tokens else None,
        supervision=SupervisionFacts(**{k: v for k, v in supervision.items() if k != "share"}) if supervision else None,
        lengths=_lengths(audit.get("lengths")),
        tokens_per_epoch=(audit.get("lengths") or {}).get("tokens_per_epoch"),
        mixture=[SourceFacts(**source) for source in audit.get("mixture", [])],
        splits=[_split(split) for split in audit.get("splits", [])],
        cap=CapFacts(**audit["cap"]) if audit.get("cap") else None,
        diversity=DiversityFacts(**audit["diversity"]) if audit.get("diversity") else None,
        forecast=_forecast(audit.get("forecast")),
        duplicates=audit.get("duplicates", {}), leakage=audit.get("leakage", {}),
        personal_data=audit.get("personal_data", {}),
    )  # fmt: skip


def _finding(f: dict[str, Any]) -> FindingFacts:
    message = f["message"].removesuffix(f" [waived: {f['waived']}]")
    return FindingFacts(
        code=f["code"], severity=f["severity"], count=f["count"], message=message, mend=f["mend"],
        examples=f["rows"][:5], shown=f["example"], waived=f["waived"],
    )  # fmt: skip


def _split(entry: dict[str, Any]) -> SplitFacts:
    wanted = ("role", "wanted", "rows", "of", "rule", "without_group")
    shares = [label["share"] for label in entry["labels"] if label["label"]]
    return SplitFacts(label_shares=shares, **{key: entry[key] for key in wanted})


def _forecast(entry: dict[str, Any] | None) -> ForecastFacts | None:
    if not entry:
        return None
    wanted = ("tokens", "parameters", "trained_parameters", "operations", "cores")
    return ForecastFacts(
        memory={name: parts["total"] for name, parts in entry["memory"].items()},
        cpu_seconds=tuple(entry["seconds"]["cpu"]), gpu_seconds=tuple(entry["seconds"]["gpu"]),
        **{key: entry[key] for key in wanted},
    )  # fmt: skip


def _lengths(entry: dict[str, Any] | None) -> LengthFacts | None:
    """The histogram: bin i holds the rows of edges[i] to edges[i + 1] - 1 tokens."""
    if not entry or not entry["counts"]:
        return None
    edges, counts = entry["edges"], entry["counts"]
    bins = [(low, high - 1, rows) for low, high, rows in zip(edges, edges[1:], counts, strict=False)]
    return LengthFacts(bins=bins, limit=entry.get("limit"), over_limit=entry.get("over_limit", 0))
