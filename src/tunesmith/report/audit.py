"""The figures of the data audit as lines of a table."""

from collections.abc import Mapping

from tunesmith.report.facts import AuditFacts, SupervisionFacts, TokenFacts
from tunesmith.report.wording import count, number


def data_items(audit: AuditFacts) -> list[tuple[str, str]]:
    """(what, figure) of all that was counted; what was not measured has no line."""
    items = _token_items(audit.tokens) if audit.tokens else []
    if audit.supervision:
        items += _supervision_items(audit.supervision)
    for name, counts in (("Duplicates", audit.duplicates), ("Rows in held-out or benchmark files", audit.leakage)):
        if counts:
            items.append((name, ", ".join(f"{rows:,} {kind}" for kind, rows in counts.items())))
    if audit.duplicates:  # the newer audits say what they did not find, too
        items.append(("Rows with personal data or secrets", _kinds(audit.personal_data)))
    return items


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
