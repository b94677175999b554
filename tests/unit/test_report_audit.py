"""The report's section on the data: from a run's audit to the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from test_report import Page, facts

from tunesmith.data.audit import Audit, FileFacts, Finding, Supervision, TokenFacts
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
