"""Defects planted at known rows of real data: each is found at its row, and the other rows are left in peace."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunesmith.data.audit import Audit
from tunesmith.data.config import DataSpec
from tunesmith.data.load import load
from tunesmith.pipelines.prepare import prepare
from tunesmith.pipelines.recipe import RunSpec
from tunesmith.pipelines.sift import Training, sift

EACH = 12
FALSE_ALARMS = 0.02
Json = dict[str, Any]


@dataclass(frozen=True)
class Defect:
    """What was planted where. Of two rows that repeat each other either may be told."""

    code: str
    places: set[str]


@dataclass
class Planted:
    """Rows of a file; for some of them the code by which they must be found, and the row that they repeat."""

    rows: list[Json | str]
    wanted: dict[int, str] = field(default_factory=dict)
    repeats: dict[int, int] = field(default_factory=dict)

    def add(self, row: Json | str, code: str, like: int | None = None) -> None:
        if like is not None:
            self.repeats[len(self.rows)] = like
        self.wanted[len(self.rows)] = code
        self.rows.append(row)

    def write(self, path: Path, seed: int) -> list[Defect]:
        """Shuffle and write."""
        order = np.random.default_rng(seed).permutation(len(self.rows))
        lines = [row if isinstance(row := self.rows[i], str) else json.dumps(row) for i in order]
        path.write_text("\n".join(lines) + "\n", "utf-8")
        place = {int(i): f"{path.name}:{line}" for line, i in enumerate(order, start=1)}
        return [Defect(code, {place[i], place[self.repeats.get(i, i)]}) for i, code in self.wanted.items()]


def row(question: str, answer: str, system: str = "Classify the banking query.") -> Json:
    roles = ("system", system), ("user", question), ("assistant", answer)
    return {"messages": [{"role": role, "content": content} for role, content in roles]}


def read(path: Path) -> list[tuple[str, str]]:
    """(question, answer) of each row."""
    rows = [json.loads(line)["messages"] for line in path.read_text("utf-8").splitlines()]
    return [(turns[1]["content"], turns[2]["content"]) for turns in rows]


def drawn(pool: Iterable[int], seed: int) -> list[int]:
    return np.random.default_rng(seed).choice(sorted(pool), EACH, replace=False).tolist()


def plant_repeats(planted: Planted, pairs: list[tuple[str, str]], tests: list[tuple[str, str]]) -> None:
    """Exact, near and contradictory copies of training rows and of test rows."""
    long = [i for i, (q, _) in enumerate(pairs) if 24 <= len(q.split()) <= 50]  # edits stay above 0.8
    some = iter(np.random.default_rng(1).permutation(long).tolist())
    labels = sorted({answer for _, answer in pairs})

    def other(label: str) -> str:
        return labels[(labels.index(label) + 31) % len(labels)]

    makes: dict[str, Callable[[str, str], Json]] = {
        "duplicate_rows": lambda q, a: row(q.upper() + " ", a),
        "near_duplicates": lambda q, a: row("Hello, " + re.sub(r"\W+\w+\W*$", "", q), a),
        "conflicting_answers": lambda q, a: row(q, other(a)),
        "near_conflicts": lambda q, a: row(q + " Thanks", other(a)),
    }
    for code, make in makes.items():
        for _ in range(EACH):
            at = next(some)
            planted.add(make(*pairs[at]), code, like=at)
    leakable = [i for i, (q, _) in enumerate(tests) if 15 <= len(q.split()) <= 40]
    for number, at in enumerate(np.random.default_rng(2).choice(leakable, 2 * EACH, replace=False).tolist()):
        question, answer = tests[at]
        exact = number < EACH
        planted.add(row(question if exact else f"Please: {question}", answer), "overlap" if exact else "near_leakage")


def plant_broken_rows(planted: Planted, pairs: list[tuple[str, str]]) -> None:
    """Texts and labels that are wrong by themselves."""
    questions = [q for q, _ in pairs]

    def misread(text: str) -> str:
        return f"{text} It's “urgent”, the café’s".encode().decode("cp1252", "ignore")

    makes: dict[str, list[Callable[[str, str], Json | str]]] = {
        "bad_row": [
            lambda q, a: row(q, "  "), lambda q, a: json.dumps(row(q, a))[:-4],
            lambda q, a: {"messages": [{"role": "bot", "content": q}]}, lambda q, a: {"text": q},
            lambda q, a: row(q + "\x00", a),
        ],
        "broken_encoding": [
            lambda q, a: row(misread(q), a), lambda q, a: row(q[:9] + "\ufffd" + q[9:], a),
            lambda q, a: row(q + "\x01\x07", a),
        ],
        "repetition": [
            lambda q, a: row(" ".join([q.split()[0], "please help"] * 20), a), lambda q, a: row(q + " a" + "h" * 40, a),
        ],
        "refusal": [
            lambda q, a: row(q, "As an AI language model, I cannot classify this."),
            lambda q, a: row(q, "I’m sorry, but I can’t help with that request."),
        ],
        "boilerplate": [lambda q, a: row(q, f"Sure! Here is the label: {a}. I hope this helps!")],
        "typo_label": [lambda q, a: row(q, a[:5] + a[6:]), lambda q, a: row(q, a[:4] + "x" + a[4:])],
    }  # fmt: skip
    for seed, (code, variants) in enumerate(makes.items(), start=10):
        for number, at in enumerate(drawn(range(len(pairs)), seed)):
            question, answer = pairs[at]
            made = variants[number % len(variants)](f"{question} ({code} {number})", answer)
            planted.add(made, code)
    for number, at in enumerate(drawn(range(len(pairs) - 40), 30)):
        planted.add(row(" ".join(questions[at : at + 25 + number]), pairs[at][1]), "length_outlier")


def card(number: int) -> str:
    """A payment card's number, its last digit by Luhn."""
    digits = [4, 5, 3, 9, *(int(d) for d in f"{number * 7919 + 104729:011d}")]
    doubled = [d if i % 2 else sum(divmod(2 * d, 10)) for i, d in enumerate(digits)]
    return "".join(map(str, [*digits, -sum(doubled) % 10]))


def plant_private_and_long_rows(planted: Planted, pairs: list[tuple[str, str]]) -> None:
    """Card numbers as people type them; rows of more tokens than the base takes."""
    for number, at in enumerate(drawn(range(len(pairs)), 40)):
        question, answer = pairs[at]
        digits = card(number)
        grouped = " ".join(digits[i : i + 4] for i in range(0, 16, 4)) if number % 2 else digits
        planted.add(row(f"{question} The number of my card is {grouped}.", answer), "card")
    for at in drawn(range(len(pairs) - 200), 41):
        planted.add(row(" ".join(q for q, _ in pairs[at : at + 150]), pairs[at][1]), "too_long")


def told(audit: Audit, file: str) -> dict[str, set[str]]:
    """Codes and kinds of each place of the file that a finding is about; in "a ~ b" that is a."""
    codes: dict[str, set[str]] = defaultdict(set)
    for finding in audit.findings:
        for text in finding.rows:
            if text.startswith(f"{file}:"):
                codes[re.split(" [=~] ", text)[0]] |= {finding.code, finding.kind} - {""}
    return codes


def missed(codes: dict[str, set[str]], wanted: list[Defect]) -> list[tuple[Defect, list[set[str]]]]:
    found = [(defect, [codes.get(place, set()) for place in defect.places]) for defect in wanted]
    return [(defect, sets) for defect, sets in found if not any(defect.code in codes_ for codes_ in sets)]


def false_alarms(codes: dict[str, set[str]], wanted: list[Defect]) -> dict[str, set[str]]:
    touched = {place for defect in wanted for place in defect.places}
    return {place: found for place, found in codes.items() if place not in touched}


def audited(folder: Path, **data: Any) -> Audit:
    return prepare(RunSpec.model_validate({"data": {"train": str(folder / "train.jsonl"), **data}})).audit


def test_each_planted_defect_is_found_at_its_row(tmp_path: Path, shared: Path, capsys: Any) -> None:
    source = shared / "data/banking77"
    pairs, tests = read(source / "train.jsonl"), read(source / "test.jsonl")
    planted = Planted([row(*pair) for pair in pairs])
    plant_repeats(planted, pairs, tests)
    plant_broken_rows(planted, pairs)
    plant_private_and_long_rows(planted, pairs)
    asked = [f"How many {n} does the {o} hold when it is filled to the brim?" for n in "abcdef" for o in ("jug", "mug")]
    (tmp_path / "bench.jsonl").write_text("".join(json.dumps({"question": q, "answer": "1"}) + "\n" for q in asked))
    for question in asked:
        planted.add(row(question.lower(), pairs[0][1]), "overlap")
    wanted = planted.write(tmp_path / "train.jsonl", seed=5)
    benchmarks = [str(tmp_path / "bench.jsonl")]
    audit = audited(tmp_path, validation=0.0, test=str(source / "test.jsonl"), benchmarks=benchmarks)
    codes = told(audit, "train.jsonl")
    assert missed(codes, wanted) == []
    untouched = len(planted.rows) - len(set().union(*(defect.places for defect in wanted)))
    alarms = false_alarms(codes, wanted)
    by_code = {c: sum(c in found for found in alarms.values()) for c in sorted(set().union(*alarms.values()))}
    with capsys.disabled():
        print(f"\nplanted {len(wanted)}, all found; of {untouched} untouched rows told: {len(alarms)} {by_code}")
    assert len(alarms) <= FALSE_ALARMS * untouched, by_code


def test_odd_json_answers_are_found_at_their_rows(tmp_path: Path, shared: Path) -> None:
    pairs = read(shared / "data/snips-json/train.jsonl")[:4000]
    planted = Planted([row(*pair) for pair in pairs])
    makes: dict[str, list[Callable[[Json], str]]] = {
        "json_invalid": [
            lambda v: json.dumps(v)[:-2], lambda v: json.dumps(v).replace('"', "'"), lambda v: v["intent"],
        ],
        "json_schema_differs": [
            lambda v: json.dumps({"intent": v["intent"]}), lambda v: json.dumps(v | {"slots": "none"}),
            lambda v: json.dumps(v | {"confidence": 1}), lambda v: json.dumps({"Intent": v["intent"], "slots": {}}),
        ],
    }  # fmt: skip
    for seed, (code, variants) in enumerate(makes.items()):
        for number, at in enumerate(drawn(range(len(pairs)), seed)):
            question, answer = pairs[at]
            planted.add(row(f"{question} {code} {number}", variants[number % len(variants)](json.loads(answer))), code)
    wanted = planted.write(tmp_path / "train.jsonl", seed=6)
    codes = told(audited(tmp_path, validation=0.0), "train.jsonl")
    assert missed(codes, wanted) == []
    alarms = false_alarms(codes, wanted)
    assert len(alarms) <= FALSE_ALARMS * len(pairs), alarms


@pytest.mark.parametrize("name", ["banking77", "snips-json", "gsm8k", "e2e"])
def test_clean_public_sets_are_hardly_warned_of(name: str, shared: Path) -> None:
    rows = load(shared / "data" / name / "train.jsonl").examples
    audit = Audit()
    once, first = np.ones(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.int64)
    sift(Training(rows, once, first), [], [], DataSpec.model_validate({"train": "x"}), audit)
    codes = told(audit, "train.jsonl")
    real = {"duplicate_rows", "conflicting_answers"}  # e2e has several right answers to each prompt
    alarms = {place: found for place, found in codes.items() if found - real}
    assert len(alarms) <= FALSE_ALARMS * len(rows), alarms
