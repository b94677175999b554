"""The tables that not every report has: a classifier's labels, skills, memorised rows."""

from __future__ import annotations

from typing import Any

from ..report import TableFacts

MOST_CONFUSIONS = 10
LONGEST_ANSWER = 80
"""Characters shown of a training row's answer."""


def tables(evaluation: dict[str, Any]) -> list[TableFacts]:
    """From what `evaluation.json` holds beside what all runs have."""
    found = []
    if classes := evaluation.get("classes"):
        found += _labels(classes["base"], classes["tuned"])
    if skills := evaluation.get("skills"):
        found.append(_skills(skills))
    if memory := evaluation.get("memorisation"):
        found.append(_memorisation(memory))
    if (seen := evaluation.get("contamination")) and seen["suspected"]:
        found.append(_contamination(seen))
    if (pulls := evaluation.get("influence")) and pulls["away"]:
        found.append(_pulls(pulls))
    if planted := evaluation.get("canaries"):
        found.append(_canaries(planted))
    if safety := evaluation.get("safety"):
        found.append(_safety(safety))
    if harness := evaluation.get("lm_eval"):
        found.append(_harness(harness))
    return found


def _harness(harness: dict[str, Any]) -> TableFacts:
    rows = [
        (one["task"], one["metric"] if one["filter"] == "none" else f"{one['metric']}, {one['filter']}",
         f"{one['shots']}", f"{one['rows']:,}", *(_with_error(one, side) for side in ("base", "tuned")),
         "-" if one["ci95"] is None else f"{one['ci95'][0]:+.3f} to {one['ci95'][1]:+.3f}",
         "higher" if one["higher_is_better"] else "lower")
        for one in harness["figures"]
    ]  # fmt: skip
    how = "in the base's chat template" if harness["chat"] else "as plain texts"
    some = f" The first {harness['limit']} rows of each." if harness["limit"] else ""
    return TableFacts(
        title="Tasks of lm-evaluation-harness",
        note=f"Version {harness['version']}, prompts {how}.{some} Its own figures and standard errors; the difference "
        "has an interval where a figure is the mean of its rows.",
        over="the tasks' own rows",
        columns=("Task", "Metric", "Shots", "Rows", "Base", "Tuned", "Difference, 95 %", "Better"),
        rows=rows,
    )


def _with_error(one: dict[str, Any], side: str) -> str:
    error = one[f"{side}_stderr"]
    return f"{one[side]:.3f}" if error is None else f"{one[side]:.3f} (± {error:.3f})"


def _contamination(seen: dict[str, Any]) -> TableFacts:
    low, high = seen["ci95"]
    named = ", ".join(str(place + 1) for place in seen["indices"])
    rows = f" These are the test rows {named}{', ...' if seen['far_likelier'] > len(seen['indices']) else ''}."
    return TableFacts(
        title="The base may know the test rows",
        note="It finds their answers likelier than those of training rows, which it has not seen either: it may have "
        f"read them, or they are easier. No proof, but test on rows that were never published.{rows if named else ''}",
        over=f"{seen['rows']} test rows beside {seen['training_rows']} training rows, by the base's loss",
        columns=("Sign", "Value", "Where there is nothing to find"),
        rows=[
            ("Test rows told from training rows by lower loss (AUC)", f"{seen['auc']:.3f} [{low:.3f}, {high:.3f}]",
             "0.500"),
            ("Test rows far likelier than is usual", f"{seen['far_likelier']} (p = {seen['p_value']:.2g})",
             f"about {0.01 * seen['rows']:.0f}"),
        ],
    )  # fmt: skip


def _pulls(found: dict[str, Any]) -> TableFacts:
    told = "exactly" if found["dimensions"] == found["parameters"] else f"by {found['dimensions']:,} random projections"
    return TableFacts(
        title="Training rows that pull lost rows away",
        note="Their gradients point away from the right answers of test rows that the model gets wrong: look first "
        f"whether these are right. {found['candidates']:,} of {found['training_rows']:,} training rows were candidates "
        f"(those nearest to the lost rows, and a sample); {found['parameters']:,} weights were compared {told}. "
        "This tells which way a row pulls at the end of training, not that the answer would be right without it.",
        over=f"{found['lost_rows']} of {found['of_lost']} lost rows",
        columns=("Training row", "Its answer", "Lost rows pulled away", "Similarity, on average", "Contradicted"),
        rows=[
            (one["source"], one["answer"][:LONGEST_ANSWER], f"{one['lost_rows']}", f"{one['similarity']:+.2f}",
             "yes" if one["contradicted"] else "no")
            for one in found["away"]
        ],
    )  # fmt: skip


def _canaries(planted: dict[str, Any]) -> TableFacts:
    rows = [
        (f"Code {one['code']}", f"{one['base_bits']:.1f}", f"{one['tuned_bits']:.1f}")
        for one in sorted(planted["rows"], key=lambda one: -one["tuned_bits"])
    ]
    return TableFacts(
        title="Planted rows remembered",
        note=f"Random digits that an epoch showed {planted['repeats']} times, and how much likelier than other digits "
        f"the model finds them: exposure in bits, of at most {planted['most_bits']:.0f} that can be seen. A model that "
        "has not seen them has 1.4 on average. That the best remembered one stands out so far by chance has a "
        f"probability of {planted['p_value']:.2g}.",
        over=f"{len(rows)} planted rows",
        columns=("Canary", "Base, bits", "Tuned, bits"),
        rows=rows,
    )


def _safety(safety: dict[str, Any]) -> TableFacts:
    names = {"harmful": "Harmful requests refused", "harmless": "Harmless questions refused"}
    rows = [
        (title, f"{one['items']}", f"{one['base']:.0%}", f"{one['tuned']:.0%}", f"{one['p_value']:.2f}")
        for side, title in names.items()
        for one in (safety[side],)
    ]
    return TableFacts(
        title="Refusals",
        note="The packaged safety probe. A refusal is known by its phrases; a base that was never taught to refuse has "
        "none to lose. The probe shows a change, it does not prove a model safe.",
        over=f"{safety['harmful']['items'] + safety['harmless']['items']} packaged prompts",
        columns=("Probe", "Prompts", "Base", "Tuned", "p"),
        rows=rows,
    )


def _skills(skills: dict[str, Any]) -> TableFacts:
    rows = [
        (name, f"{one['items']}", f"{one['base']:.0%}", f"{one['tuned']:.0%}", f"{one['won']}", f"{one['lost']}",
         f"{one['p_value']:.2f}")
        for name, one in skills.items()
    ]  # fmt: skip
    return TableFacts(
        title="Skills kept",
        note="The packaged suite, asked of both models; a guess is right in a third of the items. The last column is "
        "how often chance alone would make a difference as large (McNemar's test).",
        over=f"{skills['all']['items']} packaged items",
        columns=("Skill", "Items", "Base", "Tuned", "Won", "Lost", "p"),
        rows=rows,
    )


def _memorisation(memory: dict[str, Any]) -> TableFacts:
    verbatim, membership = memory["verbatim"], memory.get("membership")
    rows = []
    if verbatim["rows"]:
        told = [verbatim[name] for name in ("base", "tuned")]
        rows += [
            ("Longest stretch of a training answer that comes back, tokens", *(f"{one['longest']}" for one in told)),
            (f"Training rows of which {verbatim['memorised']} tokens in a row come back",
             *(f"{one['share_over']:.1%}" for one in told)),
        ]  # fmt: skip
    note = f"{verbatim['rows']} training rows were asked."
    if membership:
        told = [membership[name] for name in ("base", "tuned")]
        low, high = membership["against_base"]["ci95"]
        rows += [
            ("Training rows told from held-out ones by their loss (AUC)", *(f"{one['auc']:.3f}" for one in told)),
            ("Training rows found at 1 % false alarms", *(f"{one['tpr_at_1_fpr']:.1%}" for one in told)),
        ]
        note += (
            f" Beside the base's losses the tuned model's tell {membership['rows']} training rows from "
            f"{membership['held_out']} held-out ones with an AUC of {membership['against_base']['auc']:.3f} "
            f"[{low:.3f}, {high:.3f}]; 0.500 is chance. The nearer to 1, the more surely somebody with the model can "
            "say who was in the data."
        )
    over = "a sample of the training rows"
    return TableFacts(title="Memorised rows", note=note, over=over, columns=("Sign", "Base", "Tuned"), rows=rows)


def _labels(base: dict[str, Any], tuned: dict[str, Any]) -> list[TableFacts]:
    rows = [
        (one["label"], f"{one['rows']:,}", f"{one['precision']:.1%}", f"{one['recall']:.1%}", f"{one['f1']:.1%}")
        for one in sorted(tuned["labels"], key=lambda one: one["f1"])
    ]
    made = [
        TableFacts(
            title="Labels",
            note=f"Macro F1 {base['macro_f1']:.1%} with the base, {tuned['macro_f1']:.1%} tuned. Weakest first.",
            columns=("Label", "Rows", "Precision", "Recall", "F1"),
            rows=rows,
        )
    ]
    if tuned["confusions"]:
        wrong = tuned["confusions"][:MOST_CONFUSIONS]
        made.append(
            TableFacts(
                title="What is taken for what",
                note=f"The {len(wrong)} most frequent of {len(tuned['confusions'])} confusions.",
                columns=("True label", "Said", "Rows"),
                rows=[(true, said, f"{count:,}") for true, said, count in wrong],
            )
        )
    return made
