"""`check` of rows of any kind, the figures of supervision, and prompts as trained beside prompts as served."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.cli.options import column_names
from tunesmith.core.errors import ContentError, UsageError
from tunesmith.core.messages import Example, Labelled, Message, Preference, Prompt, Text
from tunesmith.data import kind_checks, supervision, tokenize
from tunesmith.data.audit import Supervision
from tunesmith.data.keys import Keys
from tunesmith.data.kinds import better, joined, parted
from tunesmith.data.load import OtherKindError
from tunesmith.data.supervision import Prompts
from tunesmith.data.template import TemplateError
from tunesmith.data.tokenize import Encoded, encode, encode_rows
from tunesmith.pipelines.check import Request, check_files

TEXT = st.text(min_size=1, max_size=12)
TOWNS = ("Oslo", "Rome", "Lima", "Cairo", "Quito", "Accra")


def said(role: Any, content: str) -> Message:
    return Message(role=role, content=content)


def turns(*pairs: tuple[Any, str]) -> Example:
    return Example(messages=tuple(said(role, text) for role, text in pairs), origin="f:1")


def pair(prompt: str, chosen: str, rejected: str, origin: str = "f:1") -> Preference:
    return Preference(
        prompt=(said("user", prompt),), chosen=(said("assistant", chosen),), rejected=(said("assistant", rejected),),
        origin=origin,
    )  # fmt: skip


def judged(prompt: str, answer: str, label: bool, origin: str = "f:1") -> Labelled:
    return Labelled(prompt=(said("user", prompt),), answer=said("assistant", answer), label=label, origin=origin)


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def asks(number: int) -> str:
    return f"What is the name of the {number}th street in {TOWNS[number % 6]} and who lives in house {number * 7}?"


@given(
    st.one_of(
        st.builds(pair, TEXT, TEXT, TEXT), st.builds(judged, TEXT, TEXT, st.booleans()),
        st.builds(lambda t: Prompt(messages=(said("user", t),), origin="f:1"), TEXT),
        st.builds(lambda t: Text(text=t, origin="f:1"), TEXT),
        st.builds(lambda q, a: turns(("user", q), ("assistant", a)), TEXT, TEXT),
    )
)  # fmt: skip
def test_a_row_of_any_kind_comes_together_again(row: Any) -> None:
    assert parted(row, joined(row)) == row
    assert joined(row).origin == better(row).origin == row.origin
    assert better(row).messages[-1].role == "assistant"


def test_a_changed_turn_comes_to_its_own_place() -> None:
    row = pair("ask", "good", "bad")
    shouted = joined(row).model_copy(
        update={
            "messages": tuple(m.model_copy(update={"content": str(m.content).upper()}) for m in joined(row).messages)
        }
    )
    assert parted(row, shouted) == pair("ASK", "GOOD", "BAD")


def test_pairs_that_cannot_be_learned_from_are_told() -> None:
    rows = [pair("a", "yes", "no", "f:1"), pair("A ", "no", "Yes", "f:2"), pair("b", "Same", "same ", "f:3")]
    found = {f.code: f.rows for f in kind_checks.preference(rows)}
    assert found == {"contradictory_pairs": ("f:2",), "same_answers": ("f:3",)}


@pytest.mark.parametrize(("longer", "told"), [(35, False), (36, True)])
def test_a_preference_for_length_is_told(longer: int, told: bool) -> None:
    rows = [pair(f"q{i}", "long answer", "no") if i < longer else pair(f"q{i}", "no", "long answer") for i in range(50)]
    assert [f.code for f in kind_checks.preference(rows)] == (["longer_preferred"] if told else [])


def test_labels_that_contradict_each_other_or_are_all_alike_are_told() -> None:
    rows = [judged(f"q{i}", "a", True, f"f:{i}") for i in range(60)]
    assert [f.code for f in kind_checks.labelled(rows)] == ["label_imbalance"]
    rows = [judged("q", "a", True, "f:1"), judged("Q", "a ", False, "f:2")]
    assert [(f.code, f.rows) for f in kind_checks.labelled(rows)] == [("contradictory_labels", ("f:2",))]
    assert not repeated(rows), "another label is no repetition"


def repeated(rows: list[Any]) -> list[Any]:
    views = kind_checks.comparable(rows)
    return [finding for view in views for finding in kind_checks.duplicates(view, Keys.of(view))]


def test_duplicates_of_pairs_have_both_answers_alike() -> None:
    rows = [pair("q", "a", "b", "f:1"), pair("q", "a", "c", "f:2"), pair("Q ", "a", "b", "f:3")]
    assert [f.rows for f in repeated(rows)] == [("f:3 = f:1",)]


def test_pairs_are_audited_like_other_rows(tmp_path: Path) -> None:
    rows = [{"prompt": asks(i), "chosen": f"It is {i * 13} in all.", "rejected": "No idea."} for i in range(120)]
    rows[7]["chosen"] = "Write to anna.berg@example.com, please."
    rows[9]["rejected"] = "caf\u00c3\u00a9"  # only the chosen answer is a text to learn from
    rows[11]["prompt"] = "caf\u00c3\u00a9 " + rows[11]["prompt"]
    train = written(tmp_path / "pairs.jsonl", [*rows, rows[3], {"prompt": "x", "chosen": "y"}])
    test = written(tmp_path / "test.jsonl", [{"prompt": rows[5]["prompt"], "chosen": "a", "rejected": "b"}])
    checked = check_files(Request([train], test=test))
    facts = checked.audit.as_json()
    places = {f["code"]: f["rows"] for f in facts["findings"]}
    assert places["bad_row"] == ["pairs.jsonl:122"]
    assert places["duplicate_rows"] == ["pairs.jsonl:121 = pairs.jsonl:4"]
    assert places["overlap"] == ["pairs.jsonl:6 = test.jsonl:1"]
    assert places["personal_data"] == ["pairs.jsonl:8"]
    assert places["broken_encoding"] == ["pairs.jsonl:12"]
    assert "dpo" in next(f["message"] for f in facts["findings"] if f["code"] == "other_method")
    assert (facts["rows"], facts["format"]) == (122, "preference")
    assert facts["duplicates"] == {"exact": 1, "near": 0}
    assert facts["leakage"]["exact"] == 1
    assert facts["personal_data"] == {"email": 1}
    assert facts["tokens"]["rows"] == 242, "both answers of each pair are trained on"
    with pytest.raises(ContentError, match="cannot be trained on"):
        checked.require_clean()


@pytest.mark.parametrize(
    ("row", "format", "labelled"),
    [
        ({"text": "A long enough text about {}."}, "text", True),
        ({"prompt": "Say {}", "completion": "It is {}.", "label": True}, "kto", True),
        ({"messages": [{"role": "user", "content": "Say {}"}], "answer": "{}"}, "reinforcement", False),
    ],
)
def test_every_other_kind_is_counted(row: dict[str, Any], format: str, labelled: bool, tmp_path: Path) -> None:
    text = json.dumps(row)
    lines = [text.replace("{}", f"{TOWNS[i % 6]} {i}") for i in range(120)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    facts = check_files(Request([path])).audit.as_json()
    assert (facts["rows"], facts["format"]) == (120, format)
    assert not [f for f in facts["findings"] if f["severity"] == "block"]
    assert facts["tokens"]["rows"] == 120
    assert bool(facts["tokens"]["labelled_tokens"]) == labelled
    assert (facts["supervision"] is not None) == labelled


def test_files_of_several_kinds_are_refused_by_name(tmp_path: Path) -> None:
    one = written(tmp_path / "a.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b"}])
    other = written(tmp_path / "b.jsonl", [{"prompt": "q", "completion": "a"}])
    with pytest.raises(ContentError, match="different kinds") as told:
        check_files(Request([other, one]))
    assert "a.jsonl holds preference rows" in str(told.value)
    with pytest.raises(OtherKindError, match=r"a\.jsonl"):
        check_files(Request([other], test=one))


def test_formats_that_differ_are_told_by_file(tmp_path: Path) -> None:
    one = written(tmp_path / "a.jsonl", [{"question": asks(i), "answer": f"{i}"} for i in range(60)])
    other = written(tmp_path / "b.jsonl", [{"prompt": asks(i), "completion": f"{i}"} for i in range(60, 120)])
    facts = check_files(Request([one, other])).audit.as_json()
    assert facts["format"] == {str(one): "question_answer", str(other): "prompt_completion"}
    assert facts["rows"] == 120


def measured(rows: list[Encoded], limit: int, *, drop: bool) -> Supervision:
    counter = supervision.Measure(limit, drop)
    for one in rows:
        counter.see(one)
    return counter.result()


def test_the_length_limit_is_counted_by_what_it_takes() -> None:
    def row(*weights: int) -> Encoded:
        return Encoded(np.arange(len(weights), dtype=np.int32), np.array(weights, dtype=np.float32))

    rows = [row(0, 1, 1), row(0, 0, 0, 1), row(0, 1, 1, 1), row(0, 0), row(0, 1, 1, 0)]
    told = measured(rows, 3, drop=False)
    assert (told.examples, told.no_loss, told.lost_all, told.lost_part, told.dropped) == (5, 2, 1, 1, 0)
    told = measured(rows, 3, drop=True)
    assert (told.no_loss, told.lost_all, told.lost_part, told.dropped) == (1, 1, 1, 3)


def under(tokenizer: Any, template: str) -> Any:
    changed = deepcopy(tokenizer)
    changed.chat_template = template
    return changed


def test_a_prompt_that_others_would_cut_otherwise_is_found(bundled_tokenizer: Any) -> None:
    gluing = under(
        bundled_tokenizer,
        "{% for m in messages %}{% if m['role'] == 'assistant' %}\n{% endif %}{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}\n{% endif %}",
    )
    row = turns(("user", "say it"), ("assistant", "I am under"), ("user", "standing it"), ("assistant", "fine"))
    found = compared(gluing, [row])
    [finding] = found.findings()
    assert (finding.code, finding.rows) == ("prompt_tokens_differ", ("f:1",))
    assert not list(compared(bundled_tokenizer, [row]).findings())


def compared(tokenizer: Any, rows: list[Example], encoded: list[Any] | None = None, seed: int = 0) -> Prompts:
    prompts = Prompts(tokenizer, len(rows), seed)
    for index, (row, one) in enumerate(zip(rows, encoded or encode(tokenizer, rows), strict=True)):
        prompts.see(index, [(row, one)])
    return prompts


def test_tokens_that_do_not_begin_with_the_served_prompt_are_found(bundled_tokenizer: Any) -> None:
    row = turns(("user", "say it"), ("assistant", "it"))
    [good] = encode(bundled_tokenizer, [row])
    assert isinstance(good, Encoded)
    ids = good.input_ids.copy()
    ids[3] += 1
    bad, short = Encoded(ids, good.loss_weight), good.cut(4)
    found = compared(bundled_tokenizer, [row] * 3, [good, bad, short])
    [finding] = found.findings()
    assert (finding.code, finding.severity, finding.rows) == ("served_prompt_differs", "block", ("f:1",))
    told = found.added_to(measured([good, bad, short], 99, drop=False))
    assert (told.prompts_compared, told.prompts_equal) == (3, 2)


def test_of_a_set_of_usual_size_every_row_is_made_into_tokens_again(bundled_tokenizer: Any) -> None:
    assert Prompts(bundled_tokenizer, 9_999)._chosen == frozenset(range(9_999))
    assert len(Prompts(bundled_tokenizer, 20_000)._chosen) == 10_000


def test_of_many_rows_a_seeded_sample_is_made_into_tokens_again(
    bundled_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [turns(("user", f"say {i}"), ("assistant", "it")) for i in range(40)]
    monkeypatch.setattr(supervision, "COMPARED", 10)
    none = measured([], 9, drop=False)
    prompts = compared(bundled_tokenizer, rows)
    assert (prompts.added_to(none).prompts_compared, prompts._sampled) == (40, 10)
    chosen = [Prompts(bundled_tokenizer, 40, seed)._chosen for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_a_row_cut_otherwise_than_its_served_prompt_is_refused(
    bundled_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = ("user", "again"), ("assistant", "again")
    rows = [turns(("user", f"say {what}"), ("assistant", what), *again) for what in ("it", "that")]
    plain = tokenize.render_prompt

    def cut_elsewhere(tokenizer: Any, messages: Any, *more: Any) -> Any:
        shown = plain(tokenizer, messages, *more)
        return replace(shown, cuts=(20,)) if "that" in shown.text else shown

    monkeypatch.setattr(tokenize, "render_prompt", cut_elsewhere)
    for good, bad in (encode(bundled_tokenizer, rows), [shown for _, shown in encode_rows(bundled_tokenizer, rows)]):
        assert not isinstance(good, TemplateError)
        assert isinstance(bad, TemplateError)
        assert "the prompt of turn 3 is cut into other tokens in training" in str(bad)


def test_columns_are_read_from_lists_and_repetitions() -> None:
    assert column_names(["prompt=frage, completion=antwort", "system=rolle"], "--columns") == {
        "prompt": "frage", "completion": "antwort", "system": "rolle",
    }  # fmt: skip
    for wrong in ("prompt", "prompt=", "=x", "a=b,"):
        with pytest.raises(UsageError, match="KEY=NAME"):
            column_names([wrong], "--columns")
    with pytest.raises(UsageError, match="twice"):
        column_names(["a=b", "a=c"], "--columns")


def test_columns_and_the_assistant_reach_the_reader(tmp_path: Path) -> None:
    rows = [{"frage": asks(i), "antwort": f"{i}"} for i in range(60)]
    request = Request([written(tmp_path / "a.jsonl", rows)], columns={"prompt": "frage", "completion": "antwort"})
    assert check_files(request).audit.as_json()["format"] == "prompt_completion"
    talk = tmp_path / "talk.txt"
    talk.write_text("".join(f"Ann: {asks(i)}\nBob: {i}\n---\n" for i in range(60)), "utf-8")
    checked = check_files(Request([talk], assistant="Bob"))
    assert checked.audit.as_json()["format"] == "transcript"
    assert len(checked.rows) == 60
