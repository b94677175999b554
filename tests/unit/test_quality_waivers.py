"""Quality findings worked by hand; near leaks, benchmarks and repeats in a whole preparation; waivers."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunesmith.core.errors import ContentError, MissingError
from tunesmith.core.messages import Example, Message
from tunesmith.data import labels, quality, repeats
from tunesmith.data.audit import Audit, Finding
from tunesmith.data.codes import BLOCKING, UNWAIVABLE
from tunesmith.data.config import DataSpec
from tunesmith.data.json_answers import JsonAnswers
from tunesmith.data.keys import Keys
from tunesmith.data.labels import Labels, label_counts, meant_labels
from tunesmith.data.look import Look, portions
from tunesmith.pipelines.check import Request, check_files
from tunesmith.pipelines.prepare import Prepared, prepare
from tunesmith.pipelines.read_recipe import read_recipe
from tunesmith.pipelines.recipe import RunSpec

SOURCE = Path(quality.__file__).parents[1]
STEM = "please tell me how many days it takes until the parcel that I ordered last week"


def codes(findings: Any) -> dict[str, tuple[str, ...]]:
    return {f.code: f.rows for f in findings}


def example(prompt: str, answer: str = "yes", number: int | str = 0, system: str | None = None) -> Example:
    turns = [Message(role="system", content=system)] if system else []
    turns += [Message(role="user", content=prompt), Message(role="assistant", content=answer)]
    return Example(messages=tuple(turns), origin=f"f:{number}")


def rows(*answers: str, prompt: str = "a question") -> list[Example]:
    return [example(f"{prompt} {i}", answer, i) for i, answer in enumerate(answers)]


def told(look: Look, examples: list[Example]) -> list[Finding]:
    """What a check finds that sees the rows in portions smaller than the set."""
    for portion in portions(examples, size=7):
        look.see(portion)
    return list(look.findings())


def labels_told(examples: list[Example]) -> dict[str, tuple[str, ...]]:
    return codes(told(Labels(examples), examples))


@pytest.mark.parametrize(
    ("count", "wanted"), [(9, "block"), (10, "warn"), (99, "warn"), (100, "info"), (999, "info"), (1000, None)]
)
def test_too_few_rows_block_and_few_warn(count: int, wanted: str | None) -> None:
    made = rows(*["a long answer"] * count)
    assert [f.severity for f in told(Labels(made), made)] == ([wanted] if wanted else [])


def test_how_many_rows_are_suggested_depends_on_the_answers() -> None:
    def suggested(*answers: str) -> list[str]:
        made = rows(*answers)
        return [f.mend for f in told(Labels(made), made) if f.code == "few_rows"]

    answers = [f"label {i % 4}" for i in range(120)]
    assert not suggested(*answers)
    assert "some 40 to 120" in suggested(*answers[:119])[0]
    objects = [f'{{"intent": "a", "n": {i}}}' for i in range(500)]
    assert "Snips" in suggested(*objects[:499])[0]
    assert not suggested(*objects)
    assert "LIMA" in suggested(*["a long answer"] * 500)[0]


def test_mistyped_labels_are_those_that_a_look_at_all_pairs_finds() -> None:
    draw = np.random.default_rng(3)
    stems = ["".join(draw.choice(list("abcde_"), draw.integers(1, 12))) for _ in range(150)]
    counts: Counter[str] = Counter()
    for stem in stems:
        counts[stem] = int(draw.integers(5, 30))
        at = int(draw.integers(0, len(stem)))
        counts.setdefault(f"{stem[:at]}x{stem[at + 1 :]}", 1)
        counts.setdefault(stem[:at] + stem[at + 1 :] + "?", 2)
    counts = Counter({label: n for label, n in counts.items() if label})
    frequent = [(label, n, labels._bare(label)) for label, n in counts.most_common() if n >= 5]
    wanted = {label: other for label, n in counts.items() if n <= 2 and (other := labels._nearly(label, n, frequent))}
    assert len(wanted) > 50
    assert meant_labels(counts) == wanted


def test_labels_that_share_little_are_never_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    class Counting(labels.SequenceMatcher):  # type: ignore[type-arg, name-defined, misc]
        def set_seq1(self, a: Any) -> None:
            compared.extend([a] if a else [])
            super().set_seq1(a)

    monkeypatch.setattr(labels, "SequenceMatcher", Counting)
    draw = np.random.default_rng(4)
    words = ["".join(draw.choice(list("abcdefghijklmnopqrstuvwxyz"), 14)) for _ in range(600)]
    counts = Counter({word: 9 if i % 2 else 1 for i, word in enumerate(words)} | {words[1][:-1]: 1})
    assert meant_labels(counts) == {words[1][:-1]: words[1]}
    assert len(compared) < 300, "of 90,000 pairs"


def test_how_many_rows_are_advised_follows_the_task() -> None:
    one, other = rows(*["yes", "no"] * 20), rows(*(f"answer {i}" for i in range(40)))
    [labels] = told(Labels(one), one)
    [texts] = told(Labels(other), other)
    assert "for the 2 labels here some 20" in labels.mend
    assert "1,000" in texts.mend


def test_a_label_seen_once_beside_a_frequent_near_one_is_a_typo_and_two_real_labels_are_none() -> None:
    made = rows(*["card_arrival"] * 60, *["card_linking"] * 60, "card_arival", "Card Arrival", "top_up")
    assert labels_told(made)["typo_label"] == ("f:120", "f:121")
    assert "typo_label" not in labels_told(rows(*["pending_top_up"] * 80, *["pending_top_ups"] * 20))
    assert "typo_label" not in labels_told(rows(*["pending_top_up"] * 200, *["pending_top_ups"] * 20))


def test_one_label_over_all_others_and_rare_labels_are_told() -> None:
    found = labels_told(rows(*["a"] * 300, *["b"] * 10, *["c"] * 10, *["d"] * 3))
    assert found == {"label_imbalance": (), "few_per_label": ("f:320", "f:321", "f:322")}
    many = labels_told(rows(*["a"] * 300, *(f"label {i % 10}" for i in range(100))))
    assert many == {"label_imbalance": ()}
    assert not labels_told(rows(*["a", "b"] * 60))


def test_free_answers_are_no_labels() -> None:
    assert not label_counts(rows(*(f"answer {i}" for i in range(100))))
    assert not label_counts(rows(*['{"a": 1}', '{"a": 2}'] * 50))
    assert not label_counts(rows(*["a", "b"] * 50, *["a text of\nseveral lines"] * 6))
    assert label_counts(rows(*["a", "b"] * 50, *["a text of\nseveral lines"] * 5)) == {"a": 50, "b": 50}


@pytest.mark.parametrize("text", ["cafÃ© open", "itâ€™s", "a\ufffdb", "a\x00b", "Ð¿Ñ€Ð¸Ð²ÐµÑ‚"])
def test_text_that_was_decoded_wrongly(text: str) -> None:
    assert codes(told(quality.broken_encoding(), [example(text)])) == {"broken_encoding": ("f:0",)}


@pytest.mark.parametrize(
    "text",
    ["café – “naïve” €5", "SÃO PAULO", "привет", "我的卡", "tab\tand\r\nline", "“voilâ” he said", "Ê, â, õ", "Â£"[1:]],
)
def test_text_in_other_scripts_is_fine(text: str) -> None:
    assert not told(quality.broken_encoding(), [example(text)])


def test_refusals_and_phrases_count_only_where_an_answer_begins_or_ends() -> None:
    late = "Here is the story. " * 20 + "The robot said: as an AI I cannot help with that. " + "And it went on. " * 20
    made = rows("As an AI language model, I cannot.", "I’m sorry, but I can't do that", late, "Sure! Here is: 5", "5")
    assert codes(told(quality.refusals(), made)) == {"refusal": ("f:0", "f:1")}
    assert codes(told(quality.boilerplate(), made)) == {"boilerplate": ("f:3",)}


def test_repetition_is_told_and_lists_and_rules_are_not() -> None:
    made = rows("so it goes " * 20, "n" + "o" * 20, "one two three " * 3, "-" * 60, "1000000000", "call 0" * 3)
    assert codes(told(quality.repetition(), made)) == {"repetition": ("f:0", "f:1")}


def test_lengths_far_out_on_either_side_are_told() -> None:
    usual = [example("w" * (40 + i % 40), "yes", i) for i in range(100)]
    odd = [example("w" * 900, "no", "long"), example("w", "no", "short"), example("w" * 50, "no" * 400, "answer")]
    found = told(quality.Lengths([*usual, *odd]), [*usual, *odd])
    assert [(f.rows, f.message[:6]) for f in found] == [(("f:long", "f:short"), "prompt"), (("f:answer",), "answer")]


def test_json_answers_that_do_not_parse_or_have_other_keys_or_types() -> None:
    usual = [f'{{"intent": "a", "slots": {{"n": {i}}}, "score": null}}' for i in range(200)]
    odd = ['{"intent": "a"', '{"slots": {}, "score": 1}', '{"intent": 5, "slots": {}, "score": null}']
    made, texts = rows(*usual, *odd), rows(*["text"] * 60, *odd)
    found = codes(told(JsonAnswers(made), made))
    assert found == {"json_invalid": ("f:200",), "json_schema_differs": ("f:201", "f:202")}
    assert not told(JsonAnswers(texts), texts)


def test_near_rows_with_other_answers_are_no_duplicates_and_the_longest_answer_is_kept() -> None:
    said = "it takes about five to seven working days until the parcel comes to your door"
    made = [
        example(STEM, said, 0), example(f"So {STEM}", f"{said} again", 1), example(f"Well {STEM}", said[:42], 2),
        example("something else that nobody else here asks", said, 3),
    ]  # fmt: skip
    found = repeats.find_repeats(made, 0.8)
    assert [(c.kept, c.others) for c in found.clusters] == [(1, (0,))]
    told_of = codes(repeats.near_duplicates(found, made, Keys.of(made), 0.8, "report"))
    assert told_of == {"near_duplicates": ("f:0 ~ f:1",)}


def test_a_repetition_that_is_longer_for_its_white_space_hides_no_near_row() -> None:
    said = "it takes about five to seven working days until the parcel comes to your door"
    made = [example(STEM, said, 0), example(STEM, f"{said}  ", 1), example(f"So {STEM}", said, 2)]
    found = repeats.find_repeats(made, 0.8)
    assert [(c.kept, c.others) for c in found.clusters] == [(0, (1, 2))]
    told_of = codes(repeats.near_duplicates(found, made, Keys.of(made), 0.8, "report"))
    assert told_of == {"near_duplicates": ("f:2 ~ f:0",)}


def test_near_rows_that_call_or_think_otherwise_are_no_duplicates() -> None:
    def calling(place: int, town: str, said: str = "", thought: str = "") -> Example:
        call = {"id": f"call_{place}", "function": {"name": "weather", "arguments": {"town": town}}}
        turn = Message(role="assistant", content=said, tool_calls=(call,), reasoning_content=thought)
        asked = Message(role="user", content=f"{STEM} {STEM} {'so' * place}")
        return Example(messages=(asked, turn), origin=f"f:{place}")

    def clusters(*made: Example) -> list[tuple[int, tuple[int, ...]]]:
        return [(c.kept, c.others) for c in repeats.find_repeats(made, 0.8).clusters]

    assert clusters(calling(0, "Oslo"), calling(1, "Rome"), calling(2, "Oslo")) == [(0, (2,))]
    assert clusters(calling(0, "Oslo", "I look"), calling(1, "Rome", "I look")) == []
    long = " ".join(f"step{i}" for i in range(9))
    assert clusters(calling(0, "Oslo", "so", long), calling(1, "Oslo", "so", long[::-1])) == []
    assert clusters(calling(0, "Oslo", "so", long), calling(1, "Oslo", "so", long)) == [(0, (1,))]


def test_rows_that_are_left_out_count_once() -> None:
    audit = Audit(findings=[
        Finding("duplicate_rows", "warn", "m", "d", ("f:2 = f:1", "f:3 = f:1")),
        Finding("near_duplicates_dropped", "warn", "m", "d", ("f:2 ~ f:1", "f:3 ~ f:1", "f:9 ~ f:1")),
        Finding("overlap", "block", "m", "d", ("f:4 = t:1",)),
        Finding("near_leakage", "warn", "m", "d", ("f:5 ~ t:1",)),
    ])  # fmt: skip
    told_of = audit.as_json()
    assert told_of["duplicates"] == {"exact": 2, "near": 1}
    assert told_of["leakage"] == {"exact": 1, "near": 1}


def test_the_largest_clusters_are_shown_with_their_rows() -> None:
    subjects = ("my parcel", "the garden door", "our winter boots", "that blue kettle", "his old piano", "a spare key")
    made = []
    for number, subject in enumerate(subjects):
        asked = f"please tell me in which week of the coming month {subject} is to be sent to the house of my aunt"
        made += [
            example(f"{asked}{' now' * copy}", "yes", f"{number}{copy}") for copy in range(12 if number == 3 else 2)
        ]
    found = repeats.find_repeats(made, 0.8)
    [finding] = repeats.near_duplicates(found, made, Keys.of(made), 0.8, "report")
    shown = finding.example.split("; ")
    assert shown[0] == ", ".join(f"f:3{copy}" for copy in range(8)) + " and 4 more"
    assert shown[1:] == [f"f:{number}0, f:{number}1" for number in (0, 1, 2, 4)]


def test_near_rows_with_other_labels_are_conflicts() -> None:
    made = [example(STEM, "yes", 0), example(f"Well {STEM}", "no", 1)]
    found = repeats.find_repeats(made, 0.8)
    assert found.clusters == []
    assert codes(repeats.near_conflicts(found, made, Keys.of(made))) == {"near_conflicts": ("f:1 ~ f:0",)}


def test_a_shared_system_text_makes_no_rows_alike() -> None:
    made = [example(f"question {i} of {i}", "yes", i, system=" ".join(f"rule{n}" for n in range(99))) for i in range(4)]
    assert repeats.find_repeats(made, 0.8).clusters == []


def written(folder: Path, name: str, content: list[Any]) -> str:
    (folder / name).write_text("".join(json.dumps(item) + "\n" for item in content), "utf-8")
    return str(folder / name)


def asked(prompt: str, answer: str = "yes") -> dict[str, str]:
    return {"prompt": prompt, "completion": answer}


PLAIN = [asked(f"{i} plus {i + 1} and {i * 7} is how much in {i * 31} or {i * 13}", f"sum {i}") for i in range(30)]


def done(folder: Path, train: list[Any], test: list[Any] = (), **data: Any) -> Prepared:  # type: ignore[assignment]
    if test:
        data["test"] = written(folder, "test.jsonl", test)
    data = {"validation": 0.0, "train": written(folder, "train.jsonl", train), **data}
    return prepare(RunSpec.model_validate({"data": data}))


@pytest.mark.parametrize(
    ("policy", "code", "severity", "left"),
    [
        ("warn", "near_leakage", "warn", 31),
        ("error", "near_leakage", "block", 31),
        ("drop", "near_leakage_dropped", "warn", 30),
    ],
)
def test_near_leaks_follow_the_policy(tmp_path: Path, policy: str, code: str, severity: str, left: int) -> None:
    data = done(tmp_path, [*PLAIN, asked(STEM)], [asked(f"{STEM} please")], on_near_overlap=policy)
    [finding] = [f for f in data.audit.findings if f.code.startswith("near")]
    assert (finding.code, finding.severity, finding.rows) == (code, severity, ("train.jsonl:31 ~ test.jsonl:1",))
    assert len(data.train.examples) == left


@pytest.mark.parametrize(("policy", "code", "left"), [("error", "overlap", 31), ("drop", "overlap_dropped", 30)])
def test_a_benchmark_question_in_training(tmp_path: Path, policy: str, code: str, left: int) -> None:
    bench = written(
        tmp_path, "gsm.jsonl", [{"question": "Who?", "answer": "1"}, {"question": STEM.upper(), "answer": "2"}]
    )
    data = done(tmp_path, [*PLAIN, asked(STEM)], [asked(f"{STEM} please")], on_overlap=policy, benchmarks=bench)
    found = codes(data.audit.findings)
    assert found[code] == ("train.jsonl:31 = gsm.jsonl:2",)
    assert found["near_leakage"] == ("train.jsonl:31 ~ test.jsonl:1",), "one role does not hide another"
    assert [f.role for f in data.audit.files] == ["train", "test", "benchmark"]
    assert len(data.train.examples) == left


def test_benchmarks_without_questions_or_without_a_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="no question found"):
        repeats.benchmark(Path(written(tmp_path, "b.jsonl", [{"id": 1}])))
    with pytest.raises(MissingError):
        repeats.benchmark(tmp_path / "absent.jsonl")


def test_loose_files_name_validation_and_benchmarks_too(tmp_path: Path) -> None:
    train = Path(written(tmp_path, "train.jsonl", [*PLAIN, asked(STEM)]))
    validation = Path(written(tmp_path, "v.jsonl", [PLAIN[2]]))
    benches = [Path(written(tmp_path, f"b{i}.jsonl", [{"question": q}])) for i, q in enumerate((STEM, "so?"))]
    audit = check_files(Request([train], validation=validation, benchmarks=benches)).audit
    places = {place for f in audit.findings if f.code == "overlap" for place in f.rows}
    assert places == {"train.jsonl:3 = v.jsonl:1", "train.jsonl:31 = b0.jsonl:1"}
    assert [f.role for f in audit.files] == ["train", "validation", "benchmark", "benchmark"]


def test_a_validation_row_that_is_a_test_row_blocks(tmp_path: Path) -> None:
    validation = written(tmp_path, "v.jsonl", [asked("is it here?"), asked("Is  it HERE too?")])
    data = done(tmp_path, PLAIN, [asked("is it here too?")], validation=validation)
    [finding] = [f for f in data.audit.blocking if f.code == "overlap_held_out"]
    assert finding.rows == ("v.jsonl:2 = test.jsonl:1",)
    with pytest.raises(ContentError, match="cannot be trained on"):
        data.require_clean()


def test_a_row_that_overlaps_the_test_may_be_near_validation_and_in_a_benchmark_too(tmp_path: Path) -> None:
    train = [*PLAIN, asked(STEM)]
    written(tmp_path, "v.jsonl", [asked(f"{STEM} now")])
    benchmarks = [written(tmp_path, "b.jsonl", [{"question": STEM}])]
    more = {"validation": str(tmp_path / "v.jsonl"), "benchmarks": benchmarks}
    found = done(tmp_path, train, [asked(STEM)], **more).audit.findings
    places = {(f.code, place) for f in found for place in f.rows}
    assert ("overlap", "train.jsonl:31 = test.jsonl:1") in places
    assert ("overlap", "train.jsonl:31 = b.jsonl:1") in places
    assert ("near_leakage", "train.jsonl:31 ~ v.jsonl:1") in places


def test_benchmark_paths_start_at_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("data: {train: a.jsonl, benchmarks: ['${B}/b.jsonl', c.jsonl]}")
    found = read_recipe(tmp_path / "r.yaml", environment={"B": "/x"}).data.benchmarks
    assert found == ("/x/b.jsonl", str(tmp_path / "c.jsonl"))


def test_repeats_are_dropped_on_demand_and_change_the_fingerprint(tmp_path: Path) -> None:
    train = [*PLAIN, asked(STEM), asked(f"{STEM} now"), asked(STEM)]
    report, drop = done(tmp_path, train), done(tmp_path, train, near_duplicates="drop")
    assert (len(report.train.examples), len(drop.train.examples)) == (33, 31)
    assert codes(report.audit.findings)["near_duplicates"] == ("train.jsonl:32 ~ train.jsonl:31",)
    assert codes(report.audit.findings)["duplicate_rows"] == ("train.jsonl:33 = train.jsonl:31",)
    assert len(codes(drop.audit.findings)["near_duplicates_dropped"]) == 2
    assert report.data_fingerprint != drop.data_fingerprint


def test_a_drawn_validation_row_that_nearly_repeats_a_trained_one_is_told(tmp_path: Path) -> None:
    train = [asked(f"word{i} {STEM}") for i in range(20)]
    data = done(tmp_path, train, validation=0.25)
    assert len(codes(data.audit.findings)["near_validation"]) == 5


def test_a_drawn_validation_row_with_another_answer_than_its_near_one_is_told_too() -> None:
    made = [example(STEM, "yes", 0), example(f"Well {STEM}", "no", 1), example("something else altogether", "no", 2)]
    found = repeats.find_repeats(made, 0.8)
    for inside, held_out, wanted in (({0, 2}, {1}, "f:1 ~ f:0"), ({1, 2}, {0}, "f:0 ~ f:1")):
        assert codes(repeats.near_validation(found, made, inside, held_out)) == {"near_validation": (wanted,)}
    assert not list(repeats.near_validation(found, made, {0, 1}, {2}))


def test_a_waived_finding_no_longer_blocks_and_shows_its_reason(tmp_path: Path) -> None:
    train, test = [*PLAIN, {"prompt": "x"}], [PLAIN[3]]
    waive = {"bad_row": "known since May", "overlap": "meant as a smoke test"}
    with pytest.raises(ContentError, match="2 rows with 2 kinds of trouble"):
        done(tmp_path, train, test).require_clean()
    data = done(tmp_path, train, test, waive=waive)
    data.require_clean()
    shown = {f["code"]: f for f in data.audit.as_json()["findings"]}
    for code, reason in waive.items():
        assert (shown[code]["severity"], shown[code]["waived"]) == ("warn", reason)
        assert reason in shown[code]["message"]
    assert data.data_fingerprint == done(tmp_path, train, test).data_fingerprint


def test_only_blocking_findings_with_the_code_are_waived() -> None:
    audit = Audit(findings=[Finding("overlap", "warn", "m", "x"), Finding("bad_row", "block", "m", "x")])
    audit.waive({"overlap": "reason"})
    assert [(f.severity, f.waived) for f in audit.findings] == [("warn", ""), ("block", "")]


def test_unknown_codes_and_empty_reasons_are_errors_that_list_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("data:\n  train: a.jsonl\n  waive: {bad_rows: because}\n")
    with pytest.raises(ContentError, match=r"did you mean 'bad_row'\? \(known: bad_row, .*too_long\)") as caught:
        read_recipe(path, environment={})
    assert caught.value.where == f"{path}:3"
    with pytest.raises(ValueError, match="at least 3"):
        DataSpec.model_validate({"train": "x", "waive": {"bad_row": ""}})


def test_the_reference_page_has_every_code_with_its_severity_and_what_waiving_does() -> None:
    page = (SOURCE.parents[1] / "docs/reference/findings.md").read_text("utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    told = {code.strip("`"): row for row in rows for code in row[0].split(", ")}
    assert set(told) == _codes()
    for code, done in BLOCKING.items():
        assert "block" in told[code][1]
        assert told[code][3] == done
    assert all(told[code][3] == "cannot be" for code in UNWAIVABLE)


def _codes() -> set[str]:
    """Every code that a Finding is made with."""
    found: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding":
                found |= _texts(node.args[0])
    return found


def _texts(node: ast.expr) -> set[str]:
    if isinstance(node, ast.Constant):
        return {node.value}
    if isinstance(node, ast.IfExp):
        return _texts(node.body) | _texts(node.orelse)
    assert isinstance(node, ast.JoinedStr)
    head = node.values[0].value
    ends = ("drop", "truncate") if head == "long_" else ("", "_masked", "_dropped")
    return {f"{head}{end}" for end in ends}


def test_every_blocking_code_can_be_waived_but_those_that_leave_nothing_to_train() -> None:
    text = "".join(
        path.read_text("utf-8") for folder in ("data", "pipelines") for path in (SOURCE / folder).glob("*.py")
    )
    fixed = set(re.findall(r'Finding\(\s*"(\w+)",\s*"block"', text))
    by_policy = {"near_leakage", "too_few_rows"}
    assert fixed | by_policy == {*BLOCKING, *UNWAIVABLE}
    with pytest.raises(ValueError, match="cannot be waived: no training row is left"):
        DataSpec.model_validate({"train": "x", "waive": {"no_rows": "I do not mind"}})


def test_a_validation_row_that_is_nearly_a_test_row_is_told(tmp_path: Path) -> None:
    validation = written(tmp_path, "val.jsonl", [asked(STEM)])
    data = done(tmp_path, PLAIN, [asked(f"{STEM} please")], validation=validation, on_near_overlap="drop")
    assert codes(data.audit.findings)["near_leakage"] == ("val.jsonl:1 ~ test.jsonl:1",)
    assert len(data.validation.examples) == 1


def test_rows_without_any_loss_are_left_out_when_they_are_waived(tmp_path: Path) -> None:
    train = written(tmp_path, "train.jsonl", [*PLAIN, asked("word " * 300)])
    data = {"train": train, "validation": 0.0, "on_long": "truncate", "waive": {"no_supervision": "cut on purpose"}}
    made = prepare(RunSpec.model_validate({"data": data, "training": {"max_length": 100}}))
    assert not made.audit.blocking
    assert len(made.train.examples) == len(PLAIN)
