"""Parts of the test rows, and the worst of them."""

import numpy as np
import pytest

from tunesmith.core.messages import Example, Message
from tunesmith.evaluation.answers import Answers
from tunesmith.evaluation.compare import compare
from tunesmith.evaluation.config import EvaluationSpec
from tunesmith.evaluation.metrics import named
from tunesmith.evaluation.slices import parts, worst


def rows(count: int, **metadata: object) -> list[Example]:
    return [
        Example(
            messages=(Message(role="user", content="q" * (i + 1)), Message(role="assistant", content="ab"[i % 2])),
            metadata={
                key: value[i % len(value)] if isinstance(value, list) else value for key, value in metadata.items()
            },
            origin=f"{'one' if i < count // 3 else 'two'}.jsonl:{i + 1}",
        )
        for i in range(count)
    ]


def held(found, field):
    return {part.value: part.rows.tolist() for part in found if part.field == field}


def test_rows_are_parted_by_label_length_and_file():
    found = parts(rows(9), ("label", "length", "source"))
    assert held(found, "label") == {"a": [0, 2, 4, 6, 8], "b": [1, 3, 5, 7]}
    assert held(found, "length") == {
        "up to 3 characters": [0, 1, 2], "4 to 6 characters": [3, 4, 5], "over 6 characters": [6, 7, 8],
    }  # fmt: skip
    assert held(found, "source") == {"two.jsonl": [3, 4, 5, 6, 7, 8], "one.jsonl": [0, 1, 2]}


def test_a_field_of_the_rows_goes_before_what_is_known_of_any_row():
    found = parts(rows(6, source=["mail", "web", "web"]), ("source", "absent"))
    assert held(found, "source") == {"web": [1, 2, 4, 5], "mail": [0, 3]}
    assert [part.field for part in found] == ["source", "source"]


def test_auto_takes_what_tells_rows_apart():
    assert {part.field for part in parts(rows(60), "auto")} == {"label", "length", "source"}
    alike = [example.model_copy(update={"origin": f"one.jsonl:{i}"}) for i, example in enumerate(rows(60))]
    assert {part.field for part in parts(alike, "auto")} == {"label", "length"}
    many = [e.model_copy(update={"messages": (e.messages[0], Message(role="assistant", content=str(i)))})
            for i, e in enumerate(alike)]  # fmt: skip
    assert {part.field for part in parts(many, "auto")} == {"length"}
    assert parts(rows(29), "auto") == []
    assert parts([], "auto") == []


def test_equally_long_rows_are_one_part():
    same = [example.model_copy(update={"messages": rows(1)[0].messages}) for example in rows(40)]
    assert list(held(parts(same, ("length",)), "length")) == ["up to 1 characters"]


def compared(examples, tuned_wrong, slices, **spec):
    right = [example.answer() for example in examples]
    count = len(examples)
    loss = np.ones(count), np.full(count, 2)
    tuned = ["x" if i in tuned_wrong else text for i, text in enumerate(right)]
    base = ["x" if i % 2 else text for i, text in enumerate(right)]
    answers = [Answers(texts, [True] * count, *loss) for texts in (base, tuned)]
    whole = EvaluationSpec(metrics=("exact_match",), slices=slices, resamples=200, **spec)
    return compare(examples, *answers, [named("exact_match")], whole, seed=0)


def test_the_worst_slice_is_named_with_its_interval_and_told_from_chance():
    examples = rows(80, kind=["mail", "web", "chat", "fax"])
    fax = set(range(3, 80, 4))
    found = compared(examples, fax - {3, 7}, ("kind",))
    bad = worst(found.slices, found.metrics[0])
    assert (bad.field, bad.value, bad.rows, bad.metric) == ("kind", "fax", 20, "exact_match")
    assert bad.tuned == pytest.approx(0.1)
    assert bad.tuned_ci95[0] <= 0.1 <= bad.tuned_ci95[1] < found.metrics[0].figures.tuned.value
    assert bad.clearly_below
    slight = compared(examples, {3}, ("kind",))
    told = worst(slight.slices, slight.metrics[0])
    assert told.value == "fax"
    assert not told.clearly_below


def test_a_few_rows_are_no_worst_slice_and_neither_is_the_whole():
    few = compared(rows(40, kind=["rare", *["often"] * 9]), {0, 10, 20, 30}, ("kind",))
    assert worst(few.slices, few.metrics[0]).value == "often"
    none = compared(rows(40, kind="all"), {0}, ("kind",))
    assert worst(none.slices, none.metrics[0]) is None
    assert worst([], none.metrics[0]) is None


def test_rows_know_their_slices():
    found = compared(rows(9, kind=["mail", "web", "chat"]), set(), ("kind", "label"))
    assert found.slices_of(4) == {"kind": "web", "label": "a"}
    assert [(part.value, part.rows) for part in found.slices] == [
        ("chat", 3), ("mail", 3), ("web", 3), ("a", 5), ("b", 4),
    ]  # fmt: skip


def test_a_slice_has_figures_of_sums_of_its_own():
    """Macro F1 of a slice is that of its rows, not a mean over rows."""
    examples = rows(40, kind=["mail", "web"])  # every mail is an a, every web row a b
    count = len(examples)
    loss = np.ones(count), np.full(count, 2)
    answers = [Answers(["a"] * count, [True] * count, *loss)] * 2
    spec = EvaluationSpec(metrics=("macro_f1",), slices=("kind",), resamples=100)
    found = compare(examples, *answers, [named("macro_f1")], spec, seed=0)
    assert found.metrics[0].figures.tuned.value == pytest.approx((2 / 3 + 0) / 2)
    values = {part.value: part.metrics[0].figures.tuned.value for part in found.slices}
    assert values == pytest.approx({"mail": 1.0, "web": 0.0})


def test_a_first_metric_of_which_less_is_better_counts_falls_as_wins():
    examples = rows(4)
    loss = np.ones(4), np.full(4, 2)
    refusing, answering = "I cannot help with that.", "Gladly."
    base, tuned = [refusing] * 2 + [answering] * 2, [answering, refusing, answering, refusing]
    spec = EvaluationSpec(metrics=("refusal",), resamples=100)
    found = compare(
        examples, Answers(base, [True] * 4, *loss), Answers(tuned, [True] * 4, *loss), [named("refusal")], spec, seed=0
    )
    assert [found.outcome(i) for i in range(4)] == ["win", "tie_wrong", "tie_right", "loss"]
    assert found.metrics[0].as_json()["higher_is_better"] is False
    assert (found.metrics[0].figures.delta.value, found.metrics[0].lower_is_better) == (0.0, True)
