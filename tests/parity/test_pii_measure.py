"""Recall and precision of the personal-data detectors on made values and look-alikes in real sentences.

python -m pytest tests/parity/test_pii_measure.py -s     prints the tables of docs/results.md
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from pii_cases import POSITIVES, positives
from pii_look_alikes import look_alikes
from tunesmith.data.pii import DETECTORS, find, find_all

NAMED = ("url_password", "password")  # told by what stands around them
RECALL, PRECISION = 0.99, 0.97


def measured(cases, likes):
    """By kind: found exactly, missed, and false alarms (in the look-alikes, and beside the value elsewhere)."""
    found, missed, alarms = Counter(), [], []
    for case in cases:
        hits = {(hit.kind, hit.start, hit.end) for hit in find(case.text)}
        right = (case.kind, case.start, case.end)
        if right in hits:
            found[case.kind] += 1
        else:
            missed.append((case, hits))
        alarms += [(hit[0], case, hit) for hit in hits - {right}]
    for case in likes:
        alarms += [(hit.kind, case, (hit.kind, hit.start, hit.end)) for hit in find(case.text)]
    return found, missed, alarms


@pytest.fixture(scope="module")
def table(shared):
    likes = list(look_alikes(shared))
    assert len(likes) >= 3000
    return measured(positives(shared), likes)


def test_recall_and_precision_of_every_kind(shared, table):
    found, missed, alarms = table
    false = Counter(kind for kind, _, _ in alarms)
    unannounced, _, _ = measured(positives(shared, seed=13, announce=False), [])
    rows = []
    print("\n| kind | values | recall | precision | recall without any word near |\n|---|---|---|---|---|")
    for kind in [*dict.fromkeys([*found, *(case.kind for case, _ in missed)])]:
        recall, precision = found[kind] / POSITIVES, found[kind] / max(1, found[kind] + false[kind])
        rows.append((kind, recall, precision))
        alone = "by definition none" if kind in NAMED else f"{unannounced[kind] / POSITIVES:.3f}"
        print(f"| {kind} | {POSITIVES} | {recall:.3f} | {precision:.3f} | {alone} |")
    for case, hits in missed:
        print("missed", case.kind, repr(case.text[max(0, case.start - 30) : case.end + 15]), hits)
    for kind, case, (_, start, end) in alarms:
        print("false", kind, "in", case.kind, repr(case.text[max(0, start - 30) : end + 15]))
    low = [row for row in rows if row[1] < RECALL or row[2] < PRECISION]
    assert low == []
    assert {detector.kind for detector in DETECTORS} <= {row[0] for row in rows}


def rows_as_they_are(shared: Path):
    """2,500 rows of each of four public sets."""
    for name in ("banking77/train", "gsm8k/train", "hh-helpful/pairs", "e2e/train"):
        with (shared / "data" / f"{name}.jsonl").open(encoding="utf-8") as lines:
            for row in map(json.loads, islice(lines, 2500)):
                turns = row.get("messages") or [*row["prompt"], {"content": row["chosen"]}]
                yield name, "\n".join(turn["content"] for turn in turns)


def test_real_rows_raise_next_to_no_alarm(shared):
    rows = list(rows_as_they_are(shared))
    hits = [
        (rows[i][0], hit.kind, rows[i][1][hit.start : hit.end])
        for i, _, some in find_all((i, t) for i, (_, t) in enumerate(rows))
        for hit in some
    ]
    print(f"\n{len(rows)} rows as they are:", hits)
    assert len(rows) >= 9800
    assert len(hits) <= 10
