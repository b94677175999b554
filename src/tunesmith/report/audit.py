"""The figures of the data audit as lines of a table."""

from collections.abc import Mapping

from tunesmith.report.data_facts import (
    AuditFacts,
    CapFacts,
    DiversityFacts,
    ForecastFacts,
    SplitFacts,
    SupervisionFacts,
    TokenFacts,
)
from tunesmith.report.wording import count, number, roughly

LABELS = 10
"""How many labels are named."""
LINES = 12
"""Of the tables of clusters and of labels."""


def data_items(audit: AuditFacts) -> list[tuple[str, str]]:
    """(what, figure) of all that was counted; what was not measured has no line."""
    items = _token_items(audit.tokens) if audit.tokens else []
    if audit.tokens_per_epoch is not None:
        items.append(("Tokens per epoch", f"{audit.tokens_per_epoch:,}"))
    if audit.supervision:
        items += _supervision_items(audit.supervision)
    for name, counts in (("Duplicates", audit.duplicates), ("Rows in held-out or benchmark files", audit.leakage)):
        if counts:
            items.append((name, ", ".join(f"{rows:,} {kind}" for kind, rows in counts.items())))
    if audit.duplicates:  # the newer audits say what they did not find, too
        items.append(("Rows with personal data or secrets", _kinds(audit.personal_data)))
    items += [(f"Drawn for {split.role}", _split(split)) for split in audit.splits]
    if audit.cap:
        items.append(("Left out by the cap on labels", _cap(audit.cap)))
    return items + (_forecast_items(audit.forecast) if audit.forecast else [])


def _split(split: SplitFacts) -> str:
    told = [f"{split.rows:,} of {count(split.of, 'row')}, {split.share:.2%} ({split.wanted:.4g} asked for)"]
    told += [f"{key} {value}" for key, value in split.rule.items()]
    if split.label_shares:
        low, high = min(split.label_shares), max(split.label_shares)
        told.append(f"{low:.2%} to {high:.2%} of each of {count(len(split.label_shares), 'label')}")
    if split.without_group:
        told.append(f"{count(split.without_group, 'row')} without a group")
    return "; ".join(told)


def _cap(cap: CapFacts) -> str:
    named = [f"{label} {rows:,}" for label, rows in list(cap.left_out.items())[:LABELS]]
    more = f" and {count(len(cap.left_out) - LABELS, 'label')} more" if len(cap.left_out) > LABELS else ""
    return f"{sum(cap.left_out.values()):,}, for at most {cap.at_most:,} of each {cap.by}: {', '.join(named)}{more}"


def _forecast_items(facts: ForecastFacts) -> list[tuple[str, str]]:
    memory = ", ".join(f"{size / 1e9:.2g} GB in {name}" for name, size in facts.memory.items())
    cpu, gpu = (" to ".join(dict.fromkeys(map(roughly, seconds))) for seconds in (facts.cpu_seconds, facts.gpu_seconds))
    return [
        ("Forecast: work", f"{facts.tokens:,} tokens in all, {facts.operations:.1e} operations, "
         f"{facts.trained_parameters:,} of {facts.parameters:,} weights trained"),
        ("Forecast: memory, beside the program", memory),
        ("Forecast: time, very roughly", f"{cpu} on {count(facts.cores, 'core')}, {gpu} on a GPU"),
    ]  # fmt: skip


def _kinds(found: Mapping[str, int]) -> str:
    return ", ".join(f"{kind.replace('_', ' ')} {rows:,}" for kind, rows in found.items()) or "none found"


def _token_items(tokens: TokenFacts) -> list[tuple[str, str]]:
    share = f" ({number(tokens.labelled_tokens / tokens.tokens, 'share')})" if tokens.tokens else ""
    lengths = (
        f"{tokens.length_p50:,.0f} in the middle, {tokens.length_p95:,.0f} at the 95th percentile, "
        f"{tokens.length_max:,} at most"
    )
    return [
        ("Rows", f"{tokens.rows:,}"), ("Tokens", f"{tokens.tokens:,}"),
        ("Tokens with loss", f"{tokens.labelled_tokens:,}{share}"), ("Length of a row", lengths),
        ("Truncated rows", f"{tokens.truncated_rows:,}"),
    ]  # fmt: skip


def _supervision_items(facts: SupervisionFacts) -> list[tuple[str, str]]:
    lost = f"{count(facts.lost_all, 'row')} all of it, {count(facts.lost_part, 'row')} some"
    items = [
        ("Rows without loss", f"{facts.no_loss:,}"), ("Loss taken by the length limit", lost),
        ("Rows left out for their length", f"{facts.dropped:,}"),
        ("Rows without an end of turn", f"{facts.no_end_of_turn:,}"),
    ]  # fmt: skip
    if facts.prompts_compared:
        compared = f"{facts.prompts_equal:,} of {facts.prompts_compared:,} compared, token for token"
        items.append(("Prompts trained as they are served", compared))
    return items


def about_parts(about: DiversityFacts | None) -> dict[str, object]:
    """What the template shows of clusters and labels: titles, and (name, rows) of each line."""
    clusters, labels = (about.clusters, about.labels) if about else ((), None)
    of = f" (a sample of {about.sampled:,} of {about.rows:,} rows)" if about and about.sampled < about.rows else ""
    more = f", the largest {LINES} of {len(clusters)} clusters" if len(clusters) > LINES else ""
    title = ""
    if labels:
        shown = f", the most frequent {LINES} of {labels.different:,}" if labels.different > LINES else ""
        title = (
            f"Labels{shown}: entropy {labels.entropy:.2f} bits, the largest has {labels.largest_share:.1%} of the rows"
        )
    return {
        "cluster_title": f"What the prompts are about{of}{more}",
        "cluster_parts": [(cluster.name, cluster.size) for cluster in clusters[:LINES]],
        "label_title": title, "label_parts": list(labels.counts.items())[:LINES] if labels else [],
    }  # fmt: skip
