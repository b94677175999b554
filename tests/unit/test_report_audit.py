"""The report's section on the data: from a run's audit to the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from test_report import Page, facts

from tunesmith.data.audit import (
    Audit,
    CapFacts,
    FileFacts,
    Finding,
    LabelShare,
    SourceShare,
    SplitFacts,
    Supervision,
    TokenFacts,
)
from tunesmith.data.diversity import Cluster, Diversity, Labels, Shown
from tunesmith.data.lengths import Lengths
from tunesmith.pipelines.report_facts import _audit
from tunesmith.report import AuditFacts, render

ODD = "<b>row</b> & more"


def audited(**more: Any) -> dict[str, Any]:
    findings = [
        Finding("few_rows", "warn", "only 30 training rows", "give more"),
        Finding("overlap", "block", f"the prompt is also in the test file {ODD}", "go", ("t.jsonl:3", "t.jsonl:9")),
        Finding("personal_data", "warn", "personal data", "mask", ("t.jsonl:4",), "write to [EMAIL_1]", kind="email"),
        Finding("too_long", "block", "row is longer than 9 tokens", "shorten", ("t.jsonl:7",)),
    ]  # fmt: skip
    made = Audit(
        [FileFacts("t.jsonl", "train", "chat", 40, 38, "ab" * 32)], findings, TokenFacts(30, 900, 300, 9, 20, 99, 2),
        Supervision(30, 1, 2, 3, 4, 5, 30, 29),
    )  # fmt: skip
    made.waive({"too_long": "cut on purpose"})
    return made.as_json() | more


def shown(**more: Any) -> str:
    return Page(render(facts(audit=_audit(audited(**more))))).text


def test_the_audit_says_what_it_counted() -> None:
    page = render(facts(audit=_audit(audited())))
    told = dict(re.findall(r'<th scope="row">([^<]*)</th><td>([^<]*)</td>', page))
    assert told["Tokens with loss"] == "300 (33.3%)"
    assert told["Rows without loss"] == "1"
    assert told["Loss taken by the length limit"] == "2 rows all of it, 3 rows some"
    assert told["Prompts trained as they are served"] == "29 of 30 compared, token for token"
    assert told["Rows in held-out or benchmark files"] == "2 exact, 0 near"
    assert told["Rows with personal data or secrets"] == "email 1"
    assert "such as: write to [EMAIL_1]" in shown()
    assert f"the test file {ODD}" in shown(), "what stands in a file is text, never markup"


def test_waived_findings_stand_apart_with_their_reason() -> None:
    page = render(facts(audit=_audit(audited())))
    open_, waived = (table for table in re.findall(r"<table class=\"found\">.*?</table>", page, re.DOTALL))
    assert "cut on purpose" in waived
    assert "too_long" in waived
    assert "too_long" not in open_
    assert "[waived" not in page
    places = [open_.index(code) for code in ("overlap", "few_rows", "personal_data")]
    assert places == sorted(places), "the severe stand first"


def test_lengths_are_drawn_against_the_fullest_line() -> None:
    lengths = {"edges": [0, 10, 20, 101], "counts": [5, 20, 1], "limit": 50, "over_limit": 1}
    page = render(facts(audit=_audit(audited(lengths=lengths))))
    assert re.findall(r'<rect class="fi-tuned" width="([\d.]+)"', page) == ["25.00", "100.00", "5.00"]
    assert "20 to 100" in page
    assert "1 row over the limit of 50 tokens" in page


@pytest.mark.parametrize("lengths", [None, {"edges": [], "counts": []}])
def test_an_audit_without_lengths_has_no_such_table(lengths: Any) -> None:
    assert "How long the training rows are" not in shown(lengths=lengths)


def test_an_audit_of_an_older_version_still_makes_a_page() -> None:
    old = {key: value for key, value in audited().items() if key in ("files", "findings", "tokens")}
    made = _audit(old)
    assert isinstance(made, AuditFacts)
    assert "personal data or secrets" not in Page(render(facts(audit=made))).text


def test_the_page_of_a_run_has_the_section(tmp_path: Path) -> None:
    page = render(facts(audit=_audit(audited())))
    assert page.count('id="audit"') == 1
    assert "style=" not in page.split("<body", 1)[1], "the page's policy forbids styles in tags"


def full() -> dict[str, Any]:
    """An audit with all that shapes and describes a set; file names, labels and prompts hold markup."""
    labels = Labels(14, {ODD: 40, **{f"label {i}": 20 - i for i in range(13)}}, 3.25, 0.125)
    rows = tuple(Shown(f"t.jsonl:{i}", f"{ODD} {i}", "card, loan", 0.25) for i in range(3))
    clusters = tuple(Cluster(f"word{i}, {ODD}", 40 - i, 0.1) for i in range(15))
    split = SplitFacts("validation", 0.1, 11, 100, {"group": "customer"}, 2,
                       (LabelShare("yes", 40, 4), LabelShare("no", 50, 6), LabelShare("", 10, 1)))  # fmt: skip
    made = Audit(
        lengths=Lengths((0, 10), (5,), 5_678, 50, 0),
        splits=[split], cap=CapFacts("answer", 7, 60, {f"many {i}": 3 for i in range(12)}, 0),
        mixture=[SourceShare(f"{ODD}.jsonl", 30, 90, 900, 0.75, 0.6), SourceShare("b.jsonl", 30, 30, 600, 0.25, 0.4)],
        diversity=Diversity(30_000, 20_000, clusters, rows, rows[:1], labels).as_json(),
    )  # fmt: skip
    memory = {"bf16": {"total": 1_500_000_000}, "fp32": {"total": 3_000_000_000}}
    work = {"tokens": 17_034, "parameters": 900, "trained_parameters": 90, "operations": 3.2e15, "cores": 2}
    seconds = {"cpu": [60.0, 7_300.0], "gpu": [0.2, 5.0]}
    return made.as_json() | {"forecast": work | {"memory": memory, "seconds": seconds}}


def test_the_page_tells_how_the_data_is_shaped_and_what_it_is_about() -> None:
    made = render(facts(audit=_audit(full())))
    told = dict(re.findall(r'<th scope="row">([^<]*)</th><td>([^<]*)</td>', made))
    page = Page(made)
    assert told["Tokens per epoch"] == "5,678"
    drawn = "11 of 100 rows, 11.00% (0.1 asked for); group customer; 10.00% to 12.00% of each of 2 labels"
    assert told["Drawn for validation"] == f"{drawn}; 2 rows without a group"
    assert told["Left out by the cap on labels"].startswith("36, for at most 7 of each answer: many 0 3, many 1 3")
    assert told["Left out by the cap on labels"].endswith("many 9 3 and 2 labels more")
    assert told["Forecast: work"].startswith("17,034 tokens in all, 3.2e+15 operations, 90 of 900 weights")
    assert told["Forecast: memory, beside the program"] == "1.5 GB in bf16, 3 GB in fp32"
    assert told["Forecast: time, very roughly"] == "60 s to 2 h on 2 cores, 1 s to 5 s on a GPU"
    assert f"{ODD}.jsonl309075.00%90060.00%" in page.text
    assert "(a sample of 20,000 of 30,000 rows), the largest 12 of 15 clusters" in page.text
    assert "word11," in page.text
    assert "word12," not in page.text
    assert "Labels, the most frequent 12 of 14: entropy 3.25 bits, the largest has 12.5% of the rows" in page.text
    assert page.text.count(f"{ODD} 2") == 1, "typical rows, which are more than odd ones"
    assert "<b>row</b>" not in made, "what stands in a file is text, never markup"
    assert page.text.index("The most typical rows") < page.text.index("The most odd rows")


def test_one_file_is_no_mixture_and_few_rows_have_no_clusters() -> None:
    audit = full() | {"mixture": full()["mixture"][:1], "diversity": Diversity(3, 3, (), (), (), None).as_json()}
    page = Page(render(facts(audit=_audit(audit)))).text
    assert "What an epoch is made of" not in page
    assert "What the prompts are about" not in page
    assert "most odd rows" not in page
