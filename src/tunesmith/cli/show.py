"""Tables for people: the audit, the verdict, rows that differ, what to type next."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from .console import out

BAR, FEW = 40, 5
CHANCE = 0.05
"""A difference of a larger p is not coloured: it may be chance."""
_COLOURS = {"block": "bold red", "warn": "yellow", "info": "cyan"}


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[Any]], right: Iterable[str] = ()) -> None:
    """A plain table; columns named in `right` hold numbers."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    numbers = set(right)
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else escape(str(cell)) for cell in row))
    out.print(made)
    out.print()


def audit(facts: dict[str, Any]) -> None:
    """Files, tokens and findings."""
    table(
        "Data", ("file", "role", "format", "rows", "good"),
        [(f["path"], f["role"], f["format"], f["rows"], f["accepted"]) for f in facts["files"]], ("rows", "good"),
    )  # fmt: skip
    for path, how in facts.get("quick", {}).items():
        _sampled(path, how)
    tokens = facts["tokens"]
    if tokens and tokens["rows"]:
        out.print(
            f"{tokens['rows']:,} {_rows_or_sequences(facts)}, {tokens['tokens']:,} tokens, "
            f"{tokens['labelled_tokens']:,} of them carry loss; row length: median "
            f"{tokens['length_p50']}, 95 % {tokens['length_p95']}, longest {tokens['length_max']}; tokens per epoch: "
            f"{facts['lengths']['tokens_per_epoch']:,}"
        )
    if supervision := facts["supervision"]:
        _supervision(supervision)
    _forecast(facts.get("forecast"))
    _shape(facts)
    _lengths(facts["lengths"])
    _diversity(facts["diversity"])
    if not facts["findings"]:
        out.print("[green]no findings[/]\n")
        return
    out.print()
    for finding in facts["findings"]:
        colour = _COLOURS[finding["severity"]]
        places = ", ".join(finding["rows"][:6]) + (" ..." if len(finding["rows"]) > 6 else "")
        out.print(
            f"[{colour}]{finding['severity']}[/] {finding['code']} ({finding['count']}): {escape(finding['message'])}"
        )
        if places:
            out.print(f"  rows: {escape(places)}")
        if finding["example"]:
            out.print(f"  such as: {escape(finding['example'])}")
        out.print(f"  mend: {escape(finding['mend'])}")
    out.print()


def _sampled(path: str, how: dict[str, Any]) -> None:
    """That not all rows were looked at, and what follows."""
    if how["of"] == how["rows"]:
        return
    which = "drawn by a seed from" if how["spread"] else "the first of"
    of = "more" if how["of"] is None else f"{'about ' if how['estimated'] else ''}{how['of']:,}"
    out.print(
        f"[yellow]a sample[/]: {how['rows']:,} rows of {escape(path)}, {which} {of}. Every count is of these; most "
        "repetitions and leaks have their other half outside of them"
    )


def _rows_or_sequences(facts: dict[str, Any]) -> str:
    """A pair is two sequences of tokens, and a template may make several of a row."""
    return "training rows" if facts["tokens"]["rows"] <= facts["rows"] else "sequences"


def _supervision(facts: dict[str, Any]) -> None:
    """Which share carries loss, and whatever takes from it."""
    troubles = (
        ("no_loss", "without any"), ("lost_all", "lose all of it to the length limit"),
        ("lost_part", "lose some of it"), ("dropped", "left out for their length"),
        ("no_end_of_turn", "without an end of turn"),
    )  # fmt: skip
    told = [f"{facts[key]:,} rows {what}" for key, what in troubles if facts[key]]
    line = f"loss on {facts['share']:.1%} of the tokens" + "".join(f"; {text}" for text in told)
    if facts["prompts_compared"]:
        line += (
            f"; {facts['prompts_equal']:,} of {facts['prompts_compared']:,} prompts compared are trained as they are "
            "served, token for token"
        )
    out.print(line)


def fixed(facts: dict[str, Any]) -> None:
    """What `--fix` wrote, did and left."""
    out.print(
        f"[bold]fixed[/] {facts['rows']:,} rows in {escape(facts['out'])} ({facts['format']}): {facts['changed']:,} "
        f"changed, {facts['dropped']:,} left out"
    )
    for word, counts in (("mended", facts["done"]), ("left to you", facts["left"])):
        if counts:
            out.print(f"  {word}: " + ", ".join(f"{code} {count:,}" for code, count in counts.items()))
    out.print(f"  what became of each row: {escape(facts['log'])}\n")


def _forecast(facts: dict[str, Any] | None) -> None:
    """What a training will ask for."""
    if not facts:
        return
    memory = {name: parts["total"] / 1e9 for name, parts in facts["memory"].items()}
    low, high = (_time(seconds) for seconds in facts["seconds"]["cpu"])
    fast, slow = (_time(seconds) for seconds in facts["seconds"]["gpu"])
    out.print(
        f"forecast: {facts['tokens']:,} tokens in all, {facts['trained_parameters']:,} of {facts['parameters']:,} "
        f"weights trained, {facts['operations']:.1e} operations; beside the program itself {memory['bf16']:.2g} GB of "
        f"memory in bf16, {memory['fp32']:.2g} GB in fp32; very roughly {low} to {high} on this machine's "
        f"{facts['cores']} cores, {fast} to {slow} on a GPU"
    )


def _time(seconds: float) -> str:
    """In the unit that fits: nobody plans by the second."""
    for size, name in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{max(seconds, 1):.0f} s"


def _shape(facts: dict[str, Any]) -> None:
    """What was held out, and what each file is to an epoch."""
    for split in facts["splits"]:
        rule = ", ".join(f"{key} {escape(value)}" for key, value in split["rule"].items())
        out.print(
            f"{split['role']}: {split['rows']:,} of {split['of']:,} rows held out, {split['share']:.2%} "
            f"({split['wanted']:.4g} asked for){'; ' if rule else ''}{rule}"
        )
        if split["without_group"]:
            out.print(f"  {split['without_group']:,} rows have no {escape(split['rule']['group'])}: each stands alone")
        if shares := [label["share"] for label in split["labels"] if label["label"]]:
            out.print(f"  {len(shares):,} labels, of each {min(shares):.2%} to {max(shares):.2%}; see --json for all")
    if len(facts["mixture"]) > 1:
        names = [Path(m["path"]).name for m in facts["mixture"]]
        clash = len(set(names)) < len(names)
        parts = [
            f"{escape(m['path'] if clash else name)} {m['share_of_rows']:.2%} of the rows and "
            f"{m['share_of_tokens']:.2%} of the tokens"
            for name, m in zip(names, facts["mixture"], strict=True)
        ]
        out.print(f"an epoch: {'; '.join(parts)}")


def _lengths(facts: dict[str, Any] | None) -> None:
    """A histogram of row lengths."""
    if not facts or not facts["counts"]:
        return
    most, edges = max(facts["counts"]), facts["edges"]
    out.print()
    for low, high, count in zip(edges, edges[1:], facts["counts"], strict=False):
        bar = "#" * round(BAR * count / most)
        out.print(f"  {low:>7,} to {high - 1:>7,} tokens {count:>9,} {bar}".rstrip())
    if facts["over_limit"]:
        out.print(f"  {facts['over_limit']:,} rows are longer than the limit of {facts['limit']:,} tokens")


def _diversity(facts: dict[str, Any] | None) -> None:
    """The largest clusters, the labels, the oddest rows."""
    if not facts:
        return
    of = f" (a sample of {facts['sampled']:,} rows)" if facts["sampled"] < facts["rows"] else ""
    for title, lines in (
        (f"about{of}", [f"{c['share']:6.1%}  {c['name']}" for c in facts["clusters"][:FEW]]),
        ("most typical", [f"{row['origin']}  {row['excerpt']}" for row in facts["typical"][:FEW]]),
        ("most odd", [f"{row['origin']}  {row['excerpt']}" for row in facts["odd"][:FEW]]),
    ):
        if lines:
            out.print(f"\n[bold]{title}[/]")
        for line in lines:
            out.print(f"  {escape(line)}")
    if labels := facts["labels"]:
        out.print(
            f"\n[bold]labels[/]\n  {labels['different']} different, entropy {labels['entropy']:.2f} bits, "
            f"the largest has {labels['largest_share']:.1%} of the rows"
        )


def evaluation(facts: dict[str, Any]) -> None:
    """Base -> tuned, with intervals; slices; forgetting, overfitting; the verdict and its reasons."""
    columns = ("metric", "base", "tuned", "difference", "95 % interval")
    table(
        f"Base and tuned model on the same {facts['rows']} held-out rows", columns,
        [_metric_row(m) for m in facts["metrics"]], columns[1:],
    )  # fmt: skip
    if power := facts.get("power"):
        out.print(f"  {_could_be_seen(power)}")
    for part in facts["slices"]:
        first = part["metrics"][0]
        out.print(f"  {escape(part['field'])} = {escape(part['value'])}: {first['name']} {first['base']:.3f} -> "
                  f"{first['tuned']:.3f} ({part['rows']} rows)")  # fmt: skip
    if worst := facts.get("worst_slice"):
        low, high = worst["tuned_ci95"]
        below = "clearly below the whole" if worst["clearly_below"] else "which may be chance"
        out.print(f"  worst slice: {escape(worst['field'])} = {escape(worst['value'])} ({worst['rows']} rows), "
                  f"{worst['metric']} {worst['tuned']:.3f} ({low:.3f} to {high:.3f}), {below}")  # fmt: skip
    for baseline in facts["baselines"]:
        if baseline["metric"] == facts["row_metric"]:
            out.print(f"  without training, {baseline['name']}: {baseline['metric']} {baseline['score']:.3f}")
    forgetting, overfitting = facts["forgetting"], facts["overfitting"]
    out.print(f"  forgetting: {_forgotten(forgetting)}")
    _against_forgetting(facts.get("against_forgetting"))
    if skills := facts.get("skills"):
        every = skills["all"]
        out.print(f"  skills: {every['base']:.0%} -> {every['tuned']:.0%} of {every['items']} items "
                  f"(p = {every['p_value']:.2f})")  # fmt: skip
    if memory := facts.get("memorisation"):
        out.print(f"  memorised: {_memorised(memory)}")
    if (seen := facts.get("contamination")) and seen["suspected"]:
        out.print("  [yellow]the base may have seen the test rows[/]: it finds them likelier than training rows (AUC "
                  f"{seen['auc']:.2f}; {seen['far_likelier']} far likelier, p = {seen['p_value']:.2g})")  # fmt: skip
    if planted := facts.get("canaries"):
        out.print(f"  canaries: exposed by {planted['tuned']['mean_bits']:.1f} bits on average, at most "
                  f"{planted['tuned']['largest_bits']:.1f} of {planted['most_bits']:.0f} (base "
                  f"{planted['base']['mean_bits']:.1f}; 1.4 is chance)")  # fmt: skip
    out.print(f"  overfitting: {overfitting['verdict'].replace('_', ' ')}. {escape(overfitting['explanation'])}\n")
    if harness := facts.get("lm_eval"):
        _harness(harness)
    passed = facts["verdict"] == "pass"
    out.print("[bold green]verdict: pass[/]" if passed else "[bold red]verdict: fail[/]")
    for reason in facts["reasons"]:
        mark = "[green]yes[/]" if reason["ok"] else "[red]no [/]"
        out.print(f"  {mark} {escape(reason['text'])}")
    out.print()


def _against_forgetting(advice: dict[str, Any] | None) -> None:
    """What was forgotten, what may help, and the lines of the recipe."""
    if not advice:
        return
    out.print(f"  [yellow]forgotten[/]: {escape('; '.join(advice['why']))}. What may help, none of it surely:")
    for remedy in advice["remedies"]:
        out.print(f"  - {escape(remedy['words'])}")
        for line in remedy["lines"].splitlines():
            out.print(f"      {escape(line)}")


def _harness(facts: dict[str, Any]) -> None:
    """Tasks of lm-evaluation-harness, with its own standard errors."""
    columns = ("task", "metric", "rows", "base", "tuned", "difference", "95 % interval")
    rows = [
        (one["task"], one["metric"] if one["filter"] == "none" else f"{one['metric']}, {one['filter']}", one["rows"],
         f"{one['base']:.3f}", f"{one['tuned']:.3f}", f"{one['delta']:+.3f}",
         "-" if one["ci95"] is None else f"{one['ci95'][0]:+.3f} to {one['ci95'][1]:+.3f}")
        for one in facts["figures"]
    ]  # fmt: skip
    table(f"lm-evaluation-harness {facts['version']}", columns, rows, columns[2:])


def _memorised(facts: dict[str, Any]) -> str:
    """What came back of training rows, and what the losses tell."""
    tuned, membership = facts["verbatim"]["tuned"], facts.get("membership")
    told = (
        f"{tuned['share_over']:.1%} of {facts['verbatim']['rows']} training rows asked, the longest stretch "
        f"{tuned['longest']} tokens"
    )
    if membership:
        against = membership["against_base"]
        told += f"; losses tell training rows from others with an AUC of {against['auc']:.2f} (0.50 is chance)"
    return told


def _could_be_seen(power: dict[str, Any]) -> str:
    """What so many rows could have shown."""
    if power["detectable"] is None:
        return f"with {power['rows']} rows no difference in {power['metric']} could be shown: test on more"
    return (
        f"with {power['rows']} rows you can see differences in {power['metric']} of {power['detectable']:.3f} or more"
    )


def _forgotten(facts: dict[str, Any]) -> str:
    if facts["delta"] is None:
        return f"not measured: {escape(facts['unmeasured'])}"
    moved = f"{facts['base_loss']:.3f} -> {facts['tuned_loss']:.3f}"
    return f"{facts['delta']:+.3f} nats a token on general text ({moved})"


def differing_rows(rows: list[dict[str, Any]], most: int = 3) -> None:
    """Some rows that the two models answer differently: wins first, then a loss where there is one."""
    wins = [r for r in rows if r["outcome"] == "win"]
    losses = [r for r in rows if r["outcome"] == "loss"]
    others = [r for r in rows if r["base"] != r["tuned"] and r["outcome"].startswith("tie")]
    chosen = (wins[: most - 1] + losses[:1] + wins[most - 1 :] + others)[:most]
    for row in chosen:
        out.print(f"[bold]{row['source']}[/] {row['outcome'].replace('_', ' ')}")
        for label, text in (
            ("text" if row["reference"] is None else "prompt", row["prompt"][-1]["content"]),
            ("wanted", row["reference"]), ("base", row["base"]),
            ("tuned", row["tuned"]),
        ):  # fmt: skip
            if text is not None:
                out.print(f"  {label:7}{escape(_short(text))}")
        if row["tuned"] is None:
            out.print(f"  loss   {row['base_loss']:.3f} before, {row['tuned_loss']:.3f} after")
    out.print()


def places(folder: Path) -> None:
    """Where the run's parts lie."""
    adapter = "adapter" if (folder / "adapter").is_dir() else "model"
    out.print(f"report   {folder / 'report.html'}\n{adapter:8} {folder / adapter}\nrun      {folder}\n")


def next_commands(commands: list[tuple[str, str]]) -> None:
    """What to type next."""
    out.print("[bold]next[/]")
    for what, command in commands:
        out.print(f"  {escape(command)}    [dim]{escape(what)}[/]")


def _metric_row(m: dict[str, Any]) -> tuple[Any, ...]:
    low, high = m["ci95"]
    gain = low > 0 if m["higher_is_better"] else high < 0
    harm = high < 0 if m["higher_is_better"] else low > 0
    chance = (m.get("p_value") or 0) > CHANCE
    style = "" if chance else "green" if gain else "red" if harm else ""
    delta = Text(f"{m['delta']:+.3f}", style=style)
    return m["name"], f"{m['base']:.3f}", f"{m['tuned']:.3f}", delta, f"{low:+.3f} to {high:+.3f}"


def _short(text: str, most: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
