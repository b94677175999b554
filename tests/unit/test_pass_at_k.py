"""Programs against their tests, and metrics of the user's own: both through the real sandbox."""

from math import comb

import pytest

from tunesmith.core import sandbox
from tunesmith.core.errors import ContentError, MissingError, NotAllowedError
from tunesmith.core.messages import Example, Message
from tunesmith.evaluation.metrics import named
from tunesmith.evaluation.metrics.config import PassAtKSpec, PythonSpec
from tunesmith.evaluation.metrics.over_rows import lower_is_better, require, scored, unit
from tunesmith.evaluation.metrics.pass_at_k import code_of, pass_at_k

GOOD, BAD = "def add(a, b):\n    return a + b", "def add(a, b):\n    return a - b"
TEST = "assert add(1, 2) == 3\nassert add(-1, 1) == 0"


def row(prompt="Write add.", answer=GOOD, origin="test.jsonl:1", **metadata):
    messages = (Message(role="user", content=prompt), Message(role="assistant", content=answer))
    return Example(messages=messages, metadata=metadata, origin=origin)


def metric(**spec):
    return PassAtKSpec(type="pass_at_k", **{"seconds": 20.0, **spec}).build()


@pytest.mark.parametrize(
    ("answer", "passes"),
    [
        (GOOD, True), (BAD, False), (f"Here you are:\n```python\n{GOOD}\n```\nUse it as `add(1, 2)`.", True),
        (f"```\n{GOOD}\n```\nor\n```python\n{BAD}\n```", True), ("I do not know.", False), ("", False),
        (f"{GOOD}\nimport sys; sys.exit(0)", False), (f"{BAD}\nimport os; os._exit(0)", False),
        (f"{GOOD}\nwhile True: pass", False), (f"{GOOD}\nopen('/tmp/x', 'w')", False),
    ],
)  # fmt: skip
def test_an_answer_passes_when_all_its_tests_run_to_their_end(answer, passes):
    limits = {"seconds": 0.8} if "while True" in answer else {}
    assert scored(metric(**limits), [answer], [row(test=TEST)]).rows.tolist() == [passes]


def test_tests_may_be_a_list_or_a_check_of_an_entry_point():
    listed = row(test_list=["assert add(1, 2) == 3", "assert add(0, 0) == 0"])
    assert scored(metric(tests="test_list"), [GOOD], [listed]).value == 1
    check = "def check(candidate):\n    assert candidate(1, 2) == 3\n"
    human = row(prompt="def add(a, b):\n", test=check, entry_point="add")
    assert scored(metric(), [GOOD, BAD], [human, human]).rows.tolist() == [1, 0]
    # A base model goes on where the prompt ends, and repeats no header.
    assert scored(metric(), ["    return a + b\n"], [human]).value == 1
    assert scored(metric(), ["    return a\n"], [human]).value == 0


@pytest.mark.parametrize(
    ("metadata", "told"), [({}, "is not there"), ({"test": 3}, "holds 3"), ({"tests": "assert 1"}, "'tests'")]
)
def test_a_row_without_tests_is_named(metadata, told):
    with pytest.raises(ContentError, match="asks for tests under 'test'") as refused:
        require([named("exact_match"), metric()], [row(test=TEST, origin="test.jsonl:0"), row(**metadata)])
    assert refused.value.where == "test.jsonl:1"
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("drawn", "passed", "k"), [(10, 3, 1), (10, 3, 5), (10, 0, 5), (10, 10, 5), (10, 6, 5), (200, 7, 100)]
)
def test_the_estimate_is_that_of_chen_et_al(drawn, passed, k):
    """1 - C(n - c, k) / C(n, k), worked with whole numbers."""
    assert pass_at_k(drawn, passed, k) == pytest.approx(1 - comb(drawn - passed, k) / comb(drawn, k))


def test_published_values_of_the_estimate():
    assert pass_at_k(5, 2, 1) == pytest.approx(0.4)
    assert pass_at_k(4, 2, 2) == pytest.approx(5 / 6)
    assert pass_at_k(1, 1, 5) == 1
    assert pass_at_k(1, 0, 5) == 0


def test_drawn_answers_are_judged_each_and_equal_ones_once(monkeypatch):
    wanted = metric(k=2, samples=4)
    assert (wanted.name, wanted.samples) == ("pass@2", 4)
    assert metric().samples == 0, "the greedy answer is enough"
    runs = []
    real = sandbox.run
    monkeypatch.setattr(sandbox, "run", lambda *a, **k: runs.append(a) or real(*a, **k))
    rows = [row(test=TEST)] * 2
    found = scored(wanted, ["", ""], rows, [[GOOD, GOOD, BAD, BAD], [BAD] * 4])
    assert found.rows.tolist() == pytest.approx([5 / 6, 0])
    assert len(runs) == 2
    greedy = scored(metric(), [BAD, GOOD], rows, [[GOOD] * 4, [BAD] * 4])
    assert greedy.rows.tolist() == [0, 1], "pass@1 looks at the greedy answer, whatever else was drawn"


def test_without_a_sandbox_the_metric_is_refused_before_anything_runs(monkeypatch):
    def refuse():
        raise sandbox.refused("no seccomp")

    monkeypatch.setattr(sandbox, "require", refuse)
    for spec in (PassAtKSpec(type="pass_at_k"), PythonSpec(type="python", file="absent.py")):
        with pytest.raises(NotAllowedError):
            spec.build()


def test_code_is_the_first_block_or_the_whole():
    assert code_of("```py\nx = 1\n```") == "x = 1\n"
    assert code_of("x = 1") == "x = 1"
    assert code_of("```python\nx = 1") == "```python\nx = 1"


def own(tmp_path, source, **spec):
    (tmp_path / "mine.py").write_text(source, "utf-8")
    return PythonSpec(type="python", file=str(tmp_path / "mine.py"), **spec).build()


def test_a_function_of_the_users_own_sees_answer_reference_and_row(tmp_path):
    (tmp_path / "helper.py").write_text("BONUS = 0.25\n", "utf-8")
    source = (
        "from helper import BONUS\nimport numpy as np\n\ndef score(prediction, reference, row):\n"
        "    asked = row['messages'][0]['content']\n"
        "    return np.float64(prediction == reference) * 0.5 + BONUS * row['easy'] + (asked == 'hard')\n"
    )
    mine = own(tmp_path, source)
    rows = [row(answer="a", easy=1), row(answer="b", easy=2), row(prompt="hard", answer="c", easy=0)]
    assert scored(mine, ["a", "x", "y"], rows).rows.tolist() == [0.75, 0.5, 1.0]
    assert (mine.name, lower_is_better(mine), unit(mine)) == ("score", False, "share")
    cost = "\ndef cost(p, r, row):\n    return len(p)\n"
    other = own(tmp_path, source + cost, function="cost", lower_is_better=True, unit="ratio")
    assert scored(other, ["abc", ""], rows[:2]).value == 1.5
    assert (other.name, lower_is_better(other), unit(other)) == ("cost", True, "ratio")
    assert other.score("four", "") == 4


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("def score(p, r, row):\n    return row['absent']\n", "test.jsonl:1: KeyError: 'absent'"),
        ("def score(p, r, row):\n    return None\n", "TypeError"),
        ("def score(p, r):\n    return 1\n", "TypeError"),
        ("def score(p, r, row):\n    return float('nan')\n", "is no number"),
        ("def score(p, r, row):\n    return 3\n", "set unit: ratio"),
        ("def score(p, r, row):\n    while True: pass\n", "longer than 1 s"),
        ("def score(p, r, row):\n    return open('/etc/passwd').read()\n", "Permission"),
        ("def score(p, r, row):\n    import os; os._exit(0)\n", "its process was failed"),
        ("import absent_package\ndef score(p, r, row):\n    return 1\n", "ModuleNotFoundError"),
    ],
)
def test_a_function_that_fails_is_told_with_its_row(tmp_path, source, why):
    mine = own(tmp_path, source, seconds=1 if "while" in source else 20)
    with pytest.raises(ContentError, match="the function score fails") as told:
        require([mine], [row()])
    assert why in told.value.why


@pytest.mark.parametrize(
    ("source", "error", "text"),
    [(None, MissingError, "cannot read"), ("def score(:", ContentError, "no Python"),
     ("def scores(p, r, row): return 1", ContentError, "no function 'score'"),
     ("x = 1", ContentError, "no function 'score'")],
)  # fmt: skip
def test_a_file_without_the_function_is_told_before_rows_are_scored(tmp_path, source, error, text):
    with pytest.raises(error, match=text):
        own(tmp_path, source) if source else PythonSpec(type="python", file=str(tmp_path / "absent.py")).build()
