"""The packaged data: honest size and split, nothing to be recalled, and bytes that its generator makes again."""

import json
import re

import pytest

from tunesmith.data.keys import Keys, overlapping
from tunesmith.data.load import load
from tunesmith.evaluation.metrics import named
from tunesmith.evaluation.neighbour import copied_answers
from tunesmith.pipelines.demo import FOLDER, RECIPE, generate
from tunesmith.pipelines.read_recipe import read_recipe


@pytest.fixture(scope="module")
def train():
    return load(FOLDER / "train.jsonl").examples


@pytest.fixture(scope="module")
def test_rows():
    return load(FOLDER / "test.jsonl").examples


@pytest.fixture(scope="module")
def unseen(test_rows):
    return [e for e in test_rows if e.metadata["template"] == "unseen"]


def ticket(example):
    return example.prompt()[-1].content


def values(example, key):
    return json.loads(example.answer())["entities"].get(key)


def test_sizes_and_share_of_unseen_templates(train, test_rows, unseen):
    assert (len(train), len(test_rows)) == (900, 300)
    assert len(unseen) >= 0.4 * len(test_rows)
    assert {e.metadata["template"] for e in train} == {"seen"}


@pytest.mark.parametrize("file", ["train.jsonl", "test.jsonl"])
def test_every_row_loads_as_chat(file):
    loaded = load(FOLDER / file)
    assert (loaded.format, loaded.problems) == ("chat", [])


@pytest.mark.parametrize("key", ["order", "name", "place"])
def test_no_value_of_an_unseen_row_occurs_in_training(train, unseen, key):
    found = {value for e in unseen if (value := values(e, key))}
    assert len(found) > 30
    text = "\n".join(m.content for e in train for m in e.messages).casefold()
    assert [value for value in found if value.casefold() in text] == []


@pytest.mark.parametrize(("key", "part"), [("name", 0), ("name", 1), ("place", 0)])
def test_first_names_surnames_and_places_of_unseen_rows_come_from_lists_of_their_own(train, unseen, key, part):
    def parts(rows):
        found = (value.casefold().split() for e in rows if (value := values(e, key)))
        return {words[part] for words in found if len(words) > part}

    assert len(parts(unseen)) > 20
    assert not parts(train) & parts(unseen)


def test_no_order_number_occurs_twice(train, test_rows):
    orders = [order for e in [*train, *test_rows] if (order := values(e, "order"))]
    assert len(orders) == len(set(orders)) > 900


def test_no_two_prompts_are_equal(train, test_rows):
    rows = [*train, *test_rows]
    assert len({e.prompt_key() for e in rows}) == len(rows)
    assert not len(overlapping(Keys.of(train), Keys.of(test_rows))[0])


def test_the_test_cannot_be_passed_by_copying_the_nearest_training_row(train, test_rows):
    copied = copied_answers(train, test_rows)
    exact = [named("exact_match").score(text, e.answer()) for text, e in zip(copied, test_rows, strict=True)]
    assert sum(exact) / len(exact) <= 0.35
    # The baseline itself works: it finds a training row's own answer again.
    assert copied_answers(train, train[:50]) == [e.answer() for e in train[:50]]


def test_every_stated_value_stands_in_its_ticket(train, test_rows):
    for example in [*train, *test_rows]:
        for value in json.loads(example.answer())["entities"].values():
            assert value in ticket(example)


def test_answers_have_the_documented_form(train, test_rows):
    for example in [*train, *test_rows]:
        answer = json.loads(example.answer())
        assert list(answer) == ["intent", "product", "urgency", "entities"]
        assert answer["urgency"] in ("high", "normal", "low")
        assert answer["product"] in ticket(example).casefold()
        assert set(answer["entities"]) <= {"order", "name", "place"}
        assert answer["entities"]


def test_intents_are_in_equal_shares_and_all_occur_in_the_test(train, test_rows):
    for rows in (train, test_rows):
        counts = {}
        for example in rows:
            intent = json.loads(example.answer())["intent"]
            counts[intent] = counts.get(intent, 0) + 1
        assert len(counts) == 8
        assert max(counts.values()) - min(counts.values()) <= 2


def test_no_slot_of_a_template_was_left_unfilled(train, test_rows):
    assert not [e.origin for e in [*train, *test_rows] if re.search(r"[{}]", ticket(e))]


def test_the_generator_makes_the_same_bytes_again(tmp_path):
    generate.main([str(tmp_path)])
    for name in ("train.jsonl", "test.jsonl"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes()


def test_another_seed_makes_other_rows():
    train, _ = generate.generate(generate.DEFAULT_SEED + 1)
    assert json.dumps(train[0]) + "\n" != (FOLDER / "train.jsonl").read_text("utf-8").splitlines(keepends=True)[0]


def test_the_packaged_recipe_is_valid_and_names_the_packaged_files(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    spec = read_recipe(RECIPE, environment={})
    assert spec.data.train[0].path == str((FOLDER / "train.jsonl").resolve())
    assert spec.data.test.path == str((FOLDER / "test.jsonl").resolve())
    assert set(spec.gate.require) <= set(spec.evaluation.metrics)
