"""`check --fix`: planted defects are gone, fine rows come out as they went in, and the log accounts for each."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_planted_defects import Planted, plant_broken_rows, plant_repeats, read, row

from tunesmith.core.errors import ConflictError, ContentError, UsageError
from tunesmith.core.messages import Example, Message
from tunesmith.data.load import load
from tunesmith.data.mend import CHANGING, DROPPING, mended, readable
from tunesmith.pipelines.check import Request, check_files
from tunesmith.pipelines.fix import Fixed, fix
from tunesmith.pipelines.prepare import prepare
from tunesmith.pipelines.recipe import RunSpec

TOWNS = ("Oslo", "Rome", "Lima", "Cairo", "Quito", "Accra", "Minsk", "Hanoi")
Json = dict[str, Any]


def asks(number: int) -> str:
    return f"Who lives in house {number * 7} of the {number}th street in {TOWNS[number % 8]}, and since which year?"


def good(count: int) -> list[Json]:
    return [row(asks(i), f"It is the {i * 13}th family, since {1900 + i}.") for i in range(count)]


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), "utf-8")
    return path


def fixed(file: Path, out: Path, **options: Any) -> Fixed:
    request = Request([file], **options)
    return fix(request, check_files(request), out)


def lines(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_planted_defects_are_gone_and_the_other_rows_are_as_they_were(tmp_path: Path, shared: Path) -> None:
    source = shared / "data/banking77"
    pairs, tests = read(source / "train.jsonl")[:1000], read(source / "test.jsonl")[:600]
    held = written(tmp_path / "test.jsonl", [row(*pair) for pair in tests])
    planted = Planted([row(*pair) for pair in pairs])
    plant_repeats(planted, pairs, tests)
    plant_broken_rows(planted, pairs)
    planted.add(row("call me at anna.berg@example.com, I lost my card", pairs[0][1]), "personal_data")
    planted.add(row("word " * 1200, pairs[0][1]), "too_long")
    planted.write(tmp_path / "train.jsonl", seed=5)
    out = tmp_path / "out" / "mended.jsonl"
    done = fixed(tmp_path / "train.jsonl", out, test=held)
    again = check_files(Request([out], test=held))
    left = {f.code for f in again.audit.findings}
    assert left & {*CHANGING, *DROPPING, "bad_row"} == set()
    assert {"conflicting_answers", "refusal", "near_conflicts"} <= left, "what needs a judgement is left to the user"
    before = (tmp_path / "train.jsonl").read_text("utf-8").splitlines()
    touched = {int(entry["row"].partition(":")[2]) for entry in lines(done.log)}
    kept = [json.loads(line) for number, line in enumerate(before, start=1) if number not in touched]
    after = lines(out)
    assert len(after) == done.rows == len(before) - done.dropped
    in_order = iter(after)
    assert all(any(wanted == found for found in in_order) for wanted in kept), "fine rows, in their order"
    assert len(after) - len(kept) == done.changed
    untouched = len(pairs) - sum(number in touched for number in range(1, len(before) + 1))
    assert untouched > 0.9 * len(pairs), "few fine rows are taken for defects"
    assert [f.path for f in done.checked.audit.files if f.role == "train"] == [str(out)]
    assert all(place.startswith("mended.jsonl:") for f in done.checked.audit.blocking for place in f.rows)


TEXT = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=40)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6))
def test_a_row_without_a_finding_is_the_same_row(pairs: list[tuple[str, str]]) -> None:
    rows = [*good(12), *(row(q, a) | {"extra": [1, {"q": q}]} for q, a in pairs), "{"]
    with tempfile.TemporaryDirectory() as folder:
        file = written(Path(folder) / "in.jsonl", rows)
        audit = check_files(Request([file])).audit
        told = {int(p.split(" ")[0].rpartition(":")[2]) for f in audit.findings for p in f.rows}
        fixed(file, Path(folder) / "out.jsonl")
        after = lines(Path(folder) / "out.jsonl")
    fine = [r for number, r in enumerate(rows, start=1) if number not in told]
    assert [r for r in after if r in fine] == fine


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("cafÃ© zoÃ«", "café zoë"), ("caf\u00c3\u0192\u00c2\u00a9", "café"), ("Itâ€™s", "It’s"),
        ("a\x92s \x85", "a’s \n"), ("be\x07ll\u200b", "bell"), ("a\x0bb", "a\nb"), ("lost \ufffd", "lost \ufffd"),
        ("fine: café, Ångström, ¡ya!", "fine: café, Ångström, ¡ya!"),
    ],
)  # fmt: skip
def test_misread_text_is_read_again(text: str, wanted: str) -> None:
    assert readable(text) == wanted


@given(st.text())
def test_a_readable_text_stays_readable(text: str) -> None:
    assert readable(readable(text)) == readable(text)


@given(st.text(st.characters(codec="cp1252", exclude_categories=("Cc",)), min_size=1))
def test_text_misread_once_comes_back(text: str) -> None:
    try:
        misread = text.encode().decode("cp1252")
    except UnicodeDecodeError:
        return
    if readable(text) == text:
        assert readable(misread) == text


def test_a_mend_names_what_it_did_and_never_the_value() -> None:
    turns = (
        Message(role="user", content="I am anna.berg@example.com, cafÃ©"),
        Message(role="assistant", content="lable"),
    )
    made, done = mended(Example(messages=turns), ["personal_data", "broken_encoding", "typo_label"], {"lable": "label"})
    assert isinstance(made, Example)
    assert [m.content for m in made.messages] == ["I am [EMAIL_1], café", "label"]
    assert done == {
        "personal_data": "masked: email", "broken_encoding": "read again, without control characters",
        "typo_label": "label 'lable' to 'label'",
    }  # fmt: skip


def test_one_persons_addresses_keep_their_placeholders_through_all_their_rows(tmp_path: Path) -> None:
    mails = ("anna@example.org", "work@example.org")
    rows = [row(f"{asks(i)} Write to {mails[i % 2]}", "fine") | {"subject": f"customer {i // 4}"} for i in range(12)]
    fixed(written(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl")
    found = [r["messages"][1]["content"].rpartition(" ")[2] for r in lines(tmp_path / "out.jsonl")]
    assert found == ["[EMAIL_1]", "[EMAIL_2]"] * 6
    masked = prepare(RunSpec.model_validate({"data": {
        "train": str(tmp_path / "in.jsonl"), "validation": 0.0, "personal_data": "mask",
    }})).train.examples  # fmt: skip
    assert [(e.messages[1].content or "").rpartition(" ")[2] for e in masked] == found


def test_a_mend_that_makes_rows_equal_is_followed_by_another_round(tmp_path: Path) -> None:
    labels = [row(asks(i), "refund" if i % 2 else "delivery") for i in range(60)]
    rows = [*labels, row(asks(8), "delivry")]
    done = fixed(written(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl")
    assert lines(tmp_path / "out.jsonl") == labels
    assert [(e["row"], e["code"]) for e in lines(done.log)] == [
        ("in.jsonl:61", "typo_label"),
        ("in.jsonl:61", "duplicate_rows"),
    ]
    assert (done.changed, done.dropped) == (0, 1)


def calling(town: str, number: int = 0, **more: Any) -> Json:
    """A row whose answer is a call and nothing else; the call's id is another in each row."""
    made = {"name": "weather", "arguments": json.dumps({"town": town})}
    call = {"id": f"call_{number}", "type": "function", "function": made}
    turns = row("What is the weather like where my sister lives these days?", "")["messages"][:2]
    return {"messages": [*turns, {"role": "assistant", "tool_calls": [call], **more}]}


def thinking(thought: str) -> Json:
    turns = row("How many parcels are six parcels and seven parcels of the same kind?", "13")["messages"]
    turns[-1]["reasoning_content"] = thought
    return {"messages": turns}


def test_answers_that_call_or_think_otherwise_are_no_repetitions(tmp_path: Path) -> None:
    """A call is an answer though nothing is said; two ways of thinking that come to one answer are two rows."""
    called = [calling(town, number) for number, town in enumerate(TOWNS)]
    thoughts = "I add six to seven, which makes thirteen", "Twice six is twelve; one more than that is the sum"
    thought = [thinking(text) for text in thoughts]
    again = [calling(TOWNS[2], 77), thinking(thoughts[0])]
    file = written(tmp_path / "in.jsonl", [*good(30), *called, *thought, *again])
    told = {f.code: f.rows for f in check_files(Request([file])).audit.findings}
    assert [place.partition(" ")[0] for place in told["duplicate_rows"]] == ["in.jsonl:41", "in.jsonl:42"]
    assert [place.partition(" ")[0] for place in told["conflicting_answers"]] == [
        f"in.jsonl:{i}" for i in range(32, 39)
    ]
    done = fixed(file, tmp_path / "out.jsonl")
    assert (done.dropped, done.done) == (2, {"duplicate_rows": 2})
    assert lines(tmp_path / "out.jsonl")[30:] == [*called, *thought]


def test_a_row_whose_better_twin_leaks_stays(tmp_path: Path) -> None:
    asked = "which of the two parcels that I ordered from you on the first of May will come to my door before Friday"
    longer = row(asked, "the larger one of the two will come on Thursday in the morning before ten, the other later on")
    nearly = row(
        f"{asked} please", "the larger one of the two will come on Thursday in the morning before ten, the other later"
    )
    test = written(tmp_path / "test.jsonl", [row(asked, "?")])
    done = fixed(written(tmp_path / "in.jsonl", [*good(30), longer, nearly]), tmp_path / "out.jsonl", test=test)
    codes = {(e["row"], e["code"]) for e in lines(done.log)}
    assert ("in.jsonl:31", "overlap") in codes
    assert ("in.jsonl:32", "near_duplicates") not in codes


def test_other_kinds_and_formats_keep_theirs(tmp_path: Path) -> None:
    pairs = [{"prompt": asks(i), "chosen": f"family {i}", "rejected": f"nobody {i}"} for i in range(30)]
    mail = pairs[4] | {"rejected": "ask otto@example.org"}
    done = fixed(written(tmp_path / "p.jsonl", [*pairs, mail, pairs[2]]), tmp_path / "po.jsonl")
    assert done.format == "preference"
    after = load(tmp_path / "po.jsonl").records
    assert len(after) == 31
    assert after[30].rejected[0].content == "ask [EMAIL_1]"  # type: ignore[union-attr]
    assert lines(tmp_path / "po.jsonl")[:30] == pairs
    with (tmp_path / "t.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["frage", "antwort"], *([asks(i), f"family {i}"] for i in range(20)), ["x", ""]])
    names = {"prompt": "frage", "completion": "antwort"}
    done = fixed(tmp_path / "t.csv", tmp_path / "to.jsonl", columns=names)
    assert (done.format, done.rows, done.dropped) == ("prompt_completion", 20, 1)
    before = [r.model_copy(update={"origin": ""}) for r in load(tmp_path / "t.csv", columns=names).records]
    assert [r.model_copy(update={"origin": ""}) for r in load(tmp_path / "to.jsonl").records] == before


def refused(tmp_path: Path, error: type[Exception], match: str, act: Callable[[], object]) -> None:
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(error, match=match):
        act()
    assert sorted(p.name for p in tmp_path.iterdir()) == before, "nothing is left behind"


def test_what_cannot_be_mended_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    file = written(tmp_path / "in.jsonl", good(12))
    (tmp_path / "there.jsonl").write_text("mine")
    (tmp_path / "log.jsonl.log.jsonl").write_text("mine")
    (tmp_path / "sub").mkdir()
    twin = written(tmp_path / "sub" / "in.jsonl", good(2))
    empty = written(tmp_path / "bad.jsonl", ["{", "["])
    refused(tmp_path, ConflictError, "is there already", lambda: fixed(file, tmp_path / "there.jsonl"))
    refused(tmp_path, ConflictError, "is there already", lambda: fixed(file, tmp_path / "log.jsonl"))
    refused(tmp_path, UsageError, "JSON Lines", lambda: fixed(file, tmp_path / "x.csv"))
    refused(
        tmp_path, UsageError, r"both files are called in\.jsonl", lambda: fixed(file, tmp_path / "x.jsonl", test=twin)
    )
    refused(tmp_path, ContentError, "no row", lambda: fixed(empty, tmp_path / "x.jsonl"))
    request = Request([file, twin])
    refused(tmp_path, UsageError, "one file", lambda: fix(request, check_files(request), tmp_path / "x.jsonl"))
    assert (tmp_path / "there.jsonl").read_text() == "mine"
