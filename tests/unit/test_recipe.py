"""Recipes: precedence, paths, and errors that name file, line and the near miss."""

import json

import pytest
import yaml

from tunesmith.core.errors import ContentError, MissingError, UsageError
from tunesmith.pipelines.read_recipe import read_recipe
from tunesmith.pipelines.recipe import RunSpec, json_schema


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A function that writes a recipe and reads it, with nothing of this machine's configuration."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def read(text, *settings, **environment):
        path = tmp_path / "recipe.yaml"
        path.write_text(text, "utf-8")
        return read_recipe(path, settings, environment)

    return read


DATA = "data: {train: train.jsonl}\n"


def test_the_least_recipe_has_every_default(recipe, tmp_path):
    spec = recipe(DATA)
    assert spec.data.train[0].path == str(tmp_path / "train.jsonl")
    assert (spec.data.validation, spec.data.test) == (0.1, None)
    assert (spec.base, spec.adapter.type, spec.training.epochs) == ("bundled/tunesmith-8m", "lora", 3.0)


def test_a_path_alone_a_list_and_mappings_are_the_same(recipe):
    forms = ("train: a.jsonl", "train: [a.jsonl]", "train: {path: a.jsonl}", "train: [{path: a.jsonl}]")
    specs = [recipe(f"data:\n  {form}\n") for form in forms]
    assert all(spec == specs[0] for spec in specs)


def test_set_beats_environment_beats_recipe_beats_user_configuration(recipe, tmp_path):
    folder = tmp_path / "config" / "tunesmith"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("training: {epochs: 9, batch_size: 9, warmup: 9, clip_norm: 9}\n")
    text = DATA + "training: {epochs: 1, batch_size: 1, warmup: 1}\n"
    spec = recipe(
        text, "training.epochs=7", XDG_CONFIG_HOME=str(tmp_path / "config"),
        TUNESMITH_TRAINING__EPOCHS="5", TUNESMITH_TRAINING__BATCH_SIZE="5",
    )  # fmt: skip
    t = spec.training
    assert (t.epochs, t.batch_size, t.warmup, t.clip_norm) == (7, 5, 1, 9)


def test_a_section_of_another_type_replaces_that_of_the_user_configuration(recipe, tmp_path):
    folder = tmp_path / "config" / "tunesmith"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("adapter: {type: lora, r: 4}\n")
    home = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    assert recipe(DATA, **home).adapter.r == 4
    assert recipe(DATA + "adapter: {type: full}\n", **home).adapter.type == "full"
    assert recipe(DATA + "adapter: {type: lora, alpha: 1}\n", **home).adapter.r == 4


@pytest.mark.parametrize(
    ("setting", "look", "value"),
    [
        ("training.epochs=2.5", lambda s: s.training.epochs, 2.5),
        ("training.learning_rate=2e-3", lambda s: s.training.learning_rate, 0.002),
        ("training.early_stopping=null", lambda s: s.training.early_stopping, None),
        ("training.early_stopping.patience=5", lambda s: s.training.early_stopping.patience, 5),
        ("data.train.0.weight=2", lambda s: s.data.train[0].weight, 2),
        ("evaluation.metrics=[rouge_l, loss]", lambda s: s.evaluation.metrics, ("rouge_l", "loss")),
        ("gate.require.field_accuracy:intent=0.9", lambda s: s.gate.require, {"field_accuracy:intent": 0.9}),
        ("name=a=b", None, None),
    ],
)
def test_settings_reach_every_depth(recipe, setting, look, value):
    text = "data: {train: [{path: a.jsonl}]}\n"
    if look is None:
        with pytest.raises(ContentError, match="'name'"):
            recipe(text, setting)
        return
    assert look(recipe(text, setting)) == value


def test_a_setting_below_null_and_below_an_empty_section_opens_it(recipe):
    assert recipe(DATA + "training: {early_stopping: null}\n", "training.early_stopping.patience=5")
    assert recipe(DATA + "training:\n", "training.epochs=5").training.epochs == 5


def test_the_environment_counts_places_in_a_list(recipe):
    spec = recipe("data: {train: [{path: a.jsonl}]}\n", TUNESMITH_DATA__TRAIN__0__WEIGHT="2", TUNESMITH_SEED="4")
    assert (spec.data.train[0].weight, spec.seed) == (2, 4)


def test_other_variables_of_the_environment_are_left_alone(recipe):
    recipe(DATA, TUNESMITH_HOME="/x", TUNESMITH_NAME="no name", TRAINING__EPOCHS="zero", TUNESMITH_DATA="x")


@pytest.mark.parametrize("setting", ["training.epochs", "=5", "training.epochs=[1"])
def test_a_setting_without_a_value_is_a_usage_error(recipe, setting):
    with pytest.raises(UsageError):
        recipe(DATA, setting)


@pytest.mark.parametrize("setting", ["data.train.3.path=x", "seed.x=1", "data.train.path=x", "data.0=x"])
def test_a_setting_without_a_place_is_a_usage_error(recipe, setting):
    with pytest.raises(UsageError, match="no place") as refused:
        recipe("seed: 1\ndata: {train: [{path: a.jsonl}]}\n", setting)
    assert setting in refused.value.where


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("data: {train: x}\ntraining:\n  epochs: 2\n  lerning_rate: 1\n", 4, "did you mean 'learning_rate'?"),
        ("data: {train: x}\nadapter:\n  type: lora\n  rr: 4\n", 4, "unknown key 'adapter.rr': did you mean 'r'?"),
        ("data: {train: x}\ntrainng: {}\n", 2, "unknown key 'trainng': did you mean 'training'?"),
        ("data:\n  train:\n  - path: a\n  - {path: b,\n     wieght: 2}\n", 5, "unknown key 'data.train.1.wieght'"),
        ("data:\n  train: x\n  test:\n    pat: y\n", 4, "unknown key 'data.test.pat': did you mean 'path'?"),
        ("name: x\ndata: {}\n", 2, "'data.train' is missing"),
        ("name: x\n", None, "'data' is missing"),
        ("data: {train: x}\ntraining:\n  learning_rate: -1\n", 3, "'training.learning_rate': input should be greater"),
        ("data: {train: x}\ntraining:\n  epochs: .inf\n", 3, "'training.epochs': input should be a finite number"),
        ("data: {train: x}\ntraining:\n  batch_size: 1\n  batch_tokens: 1\n", 2, "'training': give batch_size or"),
        ("data:\n  train: x\n  validation: 1.0\n", 3, "'data.validation': input should be less than 1"),
        ("data: {train: x}\nadapter: {type: lroa}\n", 2, "'lora', 'full'"),
        ("data: {train: x}\nevaluation:\n  metrics: []\n", 3, "'evaluation.metrics': tuple should have at least 1"),
        ("data: {train: x}\nname: no\n", 2, "'name': input should be a valid string (got False)"),
        ("data: {train: x}\nseed: 1\nseed: 2\n", 3, "the key 'seed' is given twice"),
        ("data: {train: x}\nname: 2024-13-45\n", 2, "only plain YAML values"),
        ("data: {train: x}\nname: !!python/name:os.system x\n", 2, "only plain YAML values"),
        ("data: !!python/object/apply:os.system [ls]\n", 1, "only plain YAML values"),
        ("data: {train: x}\n\tname: x\n", 2, "is not valid YAML"),
        ("data: {train: [x\n", 2, "is not valid YAML"),
        ("data: {train: x}\n---\ndata: {train: x}\n", 2, "is not valid YAML"),
        ("- a\n", 1, "holds no recipe"),
        ("", 1, "holds no recipe"),
        ("data: &a [*a]\n", None, "is not valid YAML"),
    ],
)
def test_an_error_names_the_line_and_the_mend(recipe, tmp_path, text, line, what):
    with pytest.raises(ContentError) as refused:
        recipe(text)
    place = str(tmp_path / "recipe.yaml")
    assert what in refused.value.what
    assert refused.value.where == (f"{place}:{line}" if line else place)
    assert refused.value.exit_code == 3


@pytest.mark.parametrize("tag", ["constrained", "literal[", "tuple[", "SourceSpec'", "float'"])
def test_no_internal_name_of_a_union_is_shown_as_a_key(recipe, tag):
    text = "data: {train: x, validation: 1.5}\ntraining: {learning_rate: -1}\nadapter: {type: lora, targets: 5}\n"
    with pytest.raises(ContentError) as refused:
        recipe(text)
    assert tag not in str(refused.value)
    assert "'training.learning_rate'" in refused.value.mend
    assert "'adapter.targets'" in refused.value.mend


def test_an_error_in_an_override_names_the_override(recipe):
    with pytest.raises(ContentError) as refused:
        recipe(DATA, "training.epochs=two")
    assert refused.value.where == "--set training.epochs=two"
    with pytest.raises(ContentError) as refused:
        recipe(DATA, TUNESMITH_TRAINING__EPOCHS="two")
    assert refused.value.where == "TUNESMITH_TRAINING__EPOCHS"


def test_paths_start_at_the_recipe_and_take_variables(recipe, tmp_path):
    text = "data:\n  train: ['../a.jsonl', /b.jsonl, '${FOLDER}/c.jsonl']\n  validation: v.jsonl\n  test: ${FOLDER}/t\n"
    data = recipe(text, FOLDER="/srv/data").data
    assert [s.path for s in data.train] == [str(tmp_path.parent / "a.jsonl"), "/b.jsonl", "/srv/data/c.jsonl"]
    assert (data.validation.path, data.test.path) == (str(tmp_path / "v.jsonl"), "/srv/data/t")
    with pytest.raises(MissingError, match="FOLDER is not set"):
        recipe(text)


def test_a_base_beside_the_recipe_becomes_absolute_and_a_hub_name_stays(recipe, tmp_path):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    assert recipe(DATA + "base: models/mine\n").base == str(tmp_path / "models" / "mine")
    assert recipe(DATA + "base: owner/name\n").base == "owner/name"


def test_a_validation_share_may_be_quoted(recipe):
    assert recipe("data: {train: x, validation: '0.2'}\n").data.validation == 0.2
    assert recipe("data: {train: x, validation: 0}\n").data.validation == 0.0


def test_absent_and_otherwise_encoded_recipes(tmp_path):
    with pytest.raises(MissingError, match="no such recipe"):
        read_recipe(tmp_path / "absent.yaml", environment={})
    (tmp_path / "latin.yaml").write_bytes("name: caf\xe9\n".encode("latin-1"))
    with pytest.raises(ContentError, match="not in UTF-8"):
        read_recipe(tmp_path / "latin.yaml", environment={})


def test_what_is_written_resolved_is_read_as_the_same(recipe):
    text = DATA + "adapter: {type: full}\ntraining: {epochs: 2, early_stopping: null}\ngate: {require: {loss: 0.1}}\n"
    spec = recipe(text)
    again = recipe(yaml.safe_dump(spec.as_json(), sort_keys=False))
    assert again == spec
    assert again.training_fingerprint() == spec.training_fingerprint()


def test_the_training_fingerprint_counts_what_decides_the_weights_and_nothing_else(recipe):
    base = recipe(DATA).training_fingerprint()
    for same in ("name: other\n", "gate: {max_forgetting: 1}\n", "evaluation: {resamples: 100}\n"):
        assert recipe(DATA + same).training_fingerprint() == base
    for other in ("seed: 1\n", "adapter: {type: lora, r: 3}\n", "training: {epochs: 1}\n"):
        assert recipe(DATA + other).training_fingerprint() != base
    assert recipe("data: {train: train.jsonl, on_long: drop}\n").training_fingerprint() != base


def test_the_schema_knows_every_key_and_refuses_others():
    schema = json_schema()
    json.dumps(schema)
    assert set(schema["properties"]) == set(RunSpec.model_fields)
    assert schema["additionalProperties"] is False
    undescribed = [
        f"{name}.{key}" for name, part in schema["$defs"].items() for key, field in part["properties"].items()
        if key != "type" and "description" not in field
    ]  # fmt: skip
    assert undescribed == []
