"""`tunesmith init`: what it writes is valid, splits without leakage, and never overwrites."""

import json

import pytest

from tunesmith.core.errors import ConflictError, ContentError, MissingError
from tunesmith.data.load import load
from tunesmith.pipelines.read_recipe import read_recipe
from tunesmith.pipelines.start import write_recipe


@pytest.fixture(autouse=True)
def _no_user_configuration(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


def rows(count, answer="yes", **more):
    return [{"prompt": f"question {i}", "completion": answer} | more for i in range(count)]


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in content), "utf-8")
    return path


def test_the_recipe_is_valid_and_the_split_loses_nothing(tmp_path):
    file = written(tmp_path / "in" / "faq.jsonl", rows(60, topic="x"))
    before = file.read_bytes()
    out = tmp_path / "new" / "recipe.yaml"
    result = write_recipe(file, out)
    assert file.read_bytes() == before
    spec = read_recipe(out, environment={})
    train, test = load(out.parent / "faq-train.jsonl"), load(out.parent / "faq-test.jsonl")
    assert [spec.data.train[0].path, spec.data.test.path] == [str(train.path.resolve()), str(test.path.resolve())]
    assert result.files == [train.path, test.path]
    assert (result.rows, result.format) == (60, "prompt_completion")
    assert (len(train.examples), len(test.examples)) == (50, 10)
    prompts = sorted(e.prompt()[-1].content for e in [*train.examples, *test.examples])
    assert prompts == sorted(row["prompt"] for row in rows(60))
    assert all(e.metadata == {"topic": "x"} for e in test.examples)


def test_rows_survive_the_split_word_for_word(tmp_path):
    tool = {"type": "function", "function": {"name": "f"}}
    content = [
        {
            "messages": [
                {"role": "system", "content": "kurz \u2028 \U0001f600"}, {"role": "user", "content": f"frage {i}"},
                {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
                {"role": "tool", "content": "3", "tool_call_id": "1", "name": "f"},
                {"role": "assistant", "content": "drei", "weight": 0.5},
            ],
            "tools": [tool], "metadata": {"n": i},
        }
        for i in range(12)
    ]  # fmt: skip
    file = written(tmp_path / "t.jsonl", content)
    result = write_recipe(file, tmp_path / "recipe.yaml")
    before = {e.metadata["n"]: e.model_copy(update={"origin": ""}) for e in load(file).examples}
    after = {e.metadata["n"]: e.model_copy(update={"origin": ""}) for path in result.files for e in load(path).examples}
    assert after == before


@pytest.mark.parametrize(
    "name",
    ["2024.jsonl", "yes.jsonl", "null.jsonl", "1e3.jsonl", "0x1f.jsonl", "1_0.jsonl", "a: b #c.jsonl", "{x}.jsonl",
     "-.jsonl", "caf\xe9 \U0001f600.jsonl", "my data.v2.jsonl", "'q\".jsonl", "2024-01-01.jsonl", "~.jsonl", "x" * 90],
)  # fmt: skip
@pytest.mark.parametrize("own_test", [False, True])
def test_any_file_name_gives_a_valid_recipe(tmp_path, name, own_test):
    file = written(tmp_path / name, rows(12))
    test = written(tmp_path / f"test of {name}", rows(3)) if own_test else None
    recipe = tmp_path / "recipe.yaml"
    write_recipe(file, recipe, test=test)
    spec = read_recipe(recipe, environment={})
    assert load(tmp_path / spec.data.train[0].path).examples
    assert load(tmp_path / spec.data.test.path).examples
    if own_test:
        assert spec.data.train[0].path == str(file.resolve())
        assert spec.data.test.path == str(test.resolve())


@pytest.mark.parametrize(
    ("answer", "first"),
    [('{"a": 1}', "exact_match"), ("yes", "exact_match"), ("a long answer of more than five words", "rouge_l")],
)
def test_metrics_fit_the_answers_and_the_gate_names_one_of_them(tmp_path, answer, first):
    out = tmp_path / "recipe.yaml"
    write_recipe(written(tmp_path / "x.jsonl", rows(12, answer)), out)
    spec = read_recipe(out, environment={})
    assert spec.evaluation.metrics[0] == first
    assert set(spec.gate.require) <= set(spec.evaluation.metrics)


@pytest.mark.parametrize("there", ["recipe.yaml", "x-train.jsonl", "x-test.jsonl"])
def test_nothing_is_overwritten(tmp_path, there):
    file = written(tmp_path / "x.jsonl", rows(12))
    (tmp_path / there).write_text("mine")
    with pytest.raises(ConflictError, match="is there already"):
        write_recipe(file, tmp_path / "recipe.yaml")
    assert (tmp_path / there).read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["x.jsonl", there])


def test_a_bad_row_stops_it_with_its_place(tmp_path):
    file = written(tmp_path / "x.jsonl", [*rows(12), {"prompt": "x", "completion": ""}])
    with pytest.raises(ContentError, match="1 of 13 rows") as refused:
        write_recipe(file, tmp_path / "recipe.yaml")
    assert refused.value.where == "x.jsonl:13"
    assert not (tmp_path / "recipe.yaml").exists()


@pytest.mark.parametrize(("content", "what"), [(rows(11), "only 11 rows"), ([rows(1)[0]] * 12, "the same prompt")])
def test_too_little_to_split(tmp_path, content, what):
    with pytest.raises(ContentError, match=what):
        write_recipe(written(tmp_path / "x.jsonl", content), tmp_path / "recipe.yaml")
    assert [p.name for p in tmp_path.iterdir()] == ["x.jsonl"]


def test_an_unknown_base_is_said_before_anything_is_written(tmp_path):
    with pytest.raises(MissingError):
        write_recipe(written(tmp_path / "x.jsonl", rows(12)), tmp_path / "recipe.yaml", base="bundled/nothing")
    assert [p.name for p in tmp_path.iterdir()] == ["x.jsonl"]


@pytest.mark.parametrize(
    ("row", "method", "loss"),
    [
        ({"chosen": "yes", "rejected": "no, not at all"}, "preference", "dpo"),
        ({"completion": "yes", "label": True}, "preference", "kto"),
    ],
)
def test_preferences_get_a_recipe_of_their_method(tmp_path, row, method, loss):
    content = [{"prompt": f"question {i}"} | row | {"topic": "x"} for i in range(60)]
    out = tmp_path / "recipe.yaml"
    result = write_recipe(written(tmp_path / "pairs.jsonl", content), out)
    spec = read_recipe(out, environment={})
    assert (spec.method.type, spec.method.loss.type) == (method, loss)
    assert spec.training.early_stopping.metric == "loss", "of few pairs the accuracy jumps"
    assert spec.evaluation.metrics == ("preference_accuracy",)
    parts = [load(path) for path in result.files]
    assert [len(part.records) for part in parts] == [50, 10]
    assert {part.kind for part in parts} == {load(tmp_path / "pairs.jsonl").kind}
    assert all(record.metadata == {"topic": "x"} for part in parts for record in part.records)
