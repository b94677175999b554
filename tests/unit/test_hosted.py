"""A job's files judged in the hosted service's words, its request as a recipe, its rows in parts."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import insert

from records import identity, submit
from tunesmith.jobs import folders
from tunesmith.jobs.handler import RefusedError
from tunesmith.jobs.model import Job
from tunesmith.jobs.queue import Queue
from tunesmith.pipelines.hosted import Hosted, parts, recipe
from tunesmith.pipelines.hosted.handler import command
from tunesmith.pipelines.read_recipe import read_recipe
from tunesmith.store.database import Store
from tunesmith.store.tables import files

DOCS = Path(__file__).parents[2] / "docs" / "jobs.md"


def chat(number: int, answer: str = "yes") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"question {number}"}, {"role": "assistant", "content": answer}]}


def pair(number: int) -> dict[str, Any]:
    return {
        "input": {"messages": [{"role": "user", "content": f"question {number}"}]},
        "preferred_output": [{"role": "assistant", "content": "yes"}],
        "non_preferred_output": [{"role": "assistant", "content": "no"}],
    }


class Desk:
    """A store with files, and the handler."""

    def __init__(self, folder: Path):
        self.store = Store.open(folder=folder)
        self.who = identity(self.store)
        self.queue = Queue(self.store)
        self.hosted = Hosted(self.store)

    def upload(self, rows: list[Any]) -> str:
        lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
        blob = self.store.blobs.put(io.BytesIO(b"\n".join(lines) + b"\n"))
        id = f"file-{blob.name[:8]}"
        with self.store.writing() as connection:
            connection.execute(
                insert(files).values(
                    id=id, project_id=self.who.project_id, filename="x.jsonl", purpose="fine-tune", bytes=blob.size,
                    created_at=1.0, status="processed", blob=blob.name, sha256=blob.sha256,
                )
            )  # fmt: skip
        return id

    def job(
        self, training: list[Any], validation: list[Any] | None = None, *, method: str = "supervised", **changes: Any
    ) -> Job:
        asked = {
            "training_file": self.upload(training), "validation_file": self.upload(validation) if validation else None,
            "method": {"type": method, "hyperparameters": changes.pop("hyperparameters", {})},
        }  # fmt: skip
        return submit(self.queue, self.who, **asked | changes)

    def refused(self, job: Job) -> tuple[str, str, str | None]:
        folder = self.store.jobs_folder / job.id
        with pytest.raises(RefusedError) as told:
            self.hosted.prepare(job, folder)
        assert list(folder.iterdir()) == [], "something half-made is left"
        failure = told.value.failure
        return failure.code, failure.message, failure.param

    def prepared(self, job: Job) -> tuple[dict[str, Any], dict[str, list[Any]], tuple[str, ...]]:
        folder = self.store.jobs_folder / job.id
        accepted = self.hosted.prepare(job, folder)
        made = folders.newest_input(folder)
        rows = {p.stem: [json.loads(line) for line in p.read_text().splitlines()] for p in made.glob("*.jsonl")}
        assert not [p for p in folder.iterdir() if p != made]
        return accepted.hyperparameters, rows, accepted.warnings


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.store.close()


FILE, WRONG = "The job failed due to an invalid training file. ", "Invalid file format. "
TEN = [chat(i) for i in range(10)]


def _with(row: Any, place: int = 3) -> list[Any]:
    return [*TEN[: place - 1], row, *TEN[place - 1 :]]


@pytest.mark.parametrize(
    ("rows", "code", "message"),
    [
        (TEN[:7], "invalid_n_examples", "Training file has 7 example(s), but must have at least 10 examples"),
        ([{"a": i} for i in range(10)], "invalid_training_file",
         FILE + "Unexpected file format, expected either prompt/completion pairs or chat messages."),
        ([{"text": f"row {i}"} for i in range(10)], "invalid_training_file",
         FILE + "Unexpected file format, expected either prompt/completion pairs or chat messages."),
        (_with({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": 3}]}, 1),
         "invalid_training_file", FILE + WRONG + 'Line 1, message 2, key "content": Input should be a valid string'),
        (_with({"messages": [{"role": "user", "content": "a"}, {"content": "b"}]}, 5),
         "invalid_training_file", FILE + WRONG + "Example 5, message 2 Discriminator 'role' is missing in value"),
        (_with({"messages": [{"role": "user", "content": "a"}, {"role": "assistant"}]}),
         "invalid_training_file", FILE + WRONG + 'Line 3, message 2, key "content": Input should be a valid string'),
        (_with({"messages": ["a"]}), "invalid_training_file",
         FILE + "Invalid file format. Line 3, message 1: Input should be a valid dictionary"),
    ],
)  # fmt: skip
def test_what_the_service_says_of_a_training_file(desk: Desk, rows: list[Any], code: str, message: str) -> None:
    assert desk.refused(desk.job(rows)) == (code, message, "training_file")


@pytest.mark.parametrize(
    "row",
    [
        b"{not json", b"[1]", b"null", b'{"messages": []}', b'{"messages": 3}',
        {"messages": [{"role": "user", "content": "a"}]},
        {"messages": [{"role": "robot", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": -1}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]},
        {"prompt": "a", "completion": "b"}, pair(1), b'{"messages": "\x00"}', b"\xff\xfe",
    ],
)  # fmt: skip
def test_a_bad_row_is_named_by_its_line(desk: Desk, row: Any) -> None:
    code, message, param = desk.refused(desk.job(_with(row)))
    assert (code, param) == ("invalid_training_file", "training_file")
    assert message.startswith(FILE + "Invalid file format. ")
    assert re.search(r"\b(Line|Example) 3\b", message), message


def test_a_file_of_the_other_method(desk: Desk) -> None:
    job = desk.job(TEN, method="dpo")
    assert desk.refused(job)[1] == (
        f"{FILE}Invalid file format. Input file {job.training_file} is in the fine-tune-chat format, but the specified "
        "fine-tuning job is not using 'supervised' as the training method (provided method=dpo)."
    )
    other = desk.job([pair(i) for i in range(10)])
    assert "fine-tune-preference format" in desk.refused(other)[1]
    assert "(provided method=supervised)" in desk.refused(other)[1]


def test_a_validation_file_is_judged_too_and_may_be_short(desk: Desk) -> None:
    code, message, param = desk.refused(desk.job(TEN, [{"a": 1}]))
    assert (code, param) == ("invalid_validation_file", "validation_file")
    assert message.startswith("The job failed due to an invalid validation file. Unexpected file format")
    desk.prepared(desk.job(TEN, [chat(77)]))


def test_a_file_that_is_gone_and_one_of_another_project(desk: Desk) -> None:
    job = submit(desk.queue, desk.who, training_file="file-gone")
    assert desk.refused(job) == ("invalid_training_file", "No such File object: file-gone", "training_file")
    mine = desk.upload(TEN)
    other = Job(**vars(submit(desk.queue, desk.who, training_file=mine)) | {"project_id": "proj_other"})
    assert desk.refused(other)[1] == f"No such File object: {mine}"


@pytest.mark.parametrize("base", ["bundled/nothing", "/nowhere", "ft:tiny:personal::abcdefgh"])
def test_a_base_that_is_not_there(desk: Desk, base: str) -> None:
    code, message, param = desk.refused(desk.job(TEN, model="gpt-4o-mini", base=base))
    assert (code, param) == ("model_not_available", "model")
    assert message.startswith("Model gpt-4o-mini is not available for fine-tuning or does not exist.")


def _prompts(rows: list[Any]) -> set[str]:
    return {row["messages"][0]["content"] for row in rows}


def test_without_a_validation_file_a_tenth_is_held_out(desk: Desk) -> None:
    everything = [chat(i) for i in range(40)]
    values, rows, warnings = desk.prepared(desk.job(everything))
    assert (len(rows["train"]), len(rows["test"]), warnings) == (36, 4, ())
    assert "validation" not in rows
    assert _prompts(rows["train"]) | _prompts(rows["test"]) == _prompts(everything)
    assert values == {"n_epochs": 10, "batch_size": 2, "learning_rate_multiplier": 1.0}


def test_a_validation_file_is_halved_and_all_of_the_training_file_is_trained_on(desk: Desk) -> None:
    _, rows, warnings = desk.prepared(desk.job(TEN, [chat(i) for i in range(100, 108)]))
    assert rows["train"] == TEN
    assert (len(rows["validation"]), len(rows["test"]), warnings) == (4, 4, ())
    assert not _prompts(rows["validation"]) & _prompts(rows["test"])


def test_validation_rows_that_are_trained_on_measure_nothing(desk: Desk) -> None:
    _, rows, warnings = desk.prepared(desk.job(TEN, [*TEN, chat(100)]))
    assert (rows["train"], rows["test"], "validation" in rows) == (TEN, [chat(100)], False)
    assert warnings == ("10 of 11 validation examples have a prompt that is trained on and are left out",)
    _, rows, _ = desk.prepared(desk.job(TEN, TEN))
    assert (len(rows["train"]), len(rows["test"])) == (9, 1)


def test_rows_with_one_prompt_are_trained_without_a_test(desk: Desk) -> None:
    job = desk.job([chat(1, f"answer {i}") for i in range(10)])
    _, rows, _ = desk.prepared(job)
    assert set(rows) == {"train"}
    folder = desk.store.jobs_folder / job.id
    assert command(job, folder, folder / "run-2")[3] == "train"
    tested = desk.job(TEN)
    desk.prepared(tested)
    folder = desk.store.jobs_folder / tested.id
    assert command(tested, folder, folder / "run-2")[3:] == (
        "run", str(folder / "input-0" / "recipe.yaml"), "--out", str(folder / "run-2"), "--resume", "--quiet"
    )  # fmt: skip


def test_rows_are_copied_as_they_stand(desk: Desk) -> None:
    odd = b'  {"messages": [{"role":"user","content":"\\u00e9"},{"role":"assistant","content":"x"}], "extra": 1e2}'
    job = desk.job([odd, *TEN, b"", b"   "])
    desk.prepared(job)
    made = folders.newest_input(desk.store.jobs_folder / job.id)
    assert odd in (made / "train.jsonl").read_bytes() + (made / "test.jsonl").read_bytes()


@pytest.mark.parametrize("method", ["supervised", "dpo"])
def test_the_recipe_is_one_that_can_be_read(desk: Desk, method: str) -> None:
    rows = [chat(i) if method == "supervised" else pair(i) for i in range(60)]
    more = [chat(i) if method == "supervised" else pair(i) for i in range(100, 110)]
    asked = {"n_epochs": 2, "batch_size": 7, "learning_rate_multiplier": 0.5, "beta": 0.3}
    job = desk.job(rows, more, method=method, seed=77, hyperparameters=asked)
    values, _, _ = desk.prepared(job)
    folder = folders.newest_input(desk.store.jobs_folder / job.id)
    spec = read_recipe(folder / "recipe.yaml", environment={})
    assert (spec.seed, spec.base, spec.training.epochs, spec.training.batch_size) == (77, job.base, 2, 7)
    assert (spec.training.evaluate_every, spec.training.checkpoint_every) == (9, 9)
    assert spec.evaluation.base == "after"
    if method == "dpo":
        assert values == {"n_epochs": 2, "batch_size": 7, "learning_rate_multiplier": 0.5, "beta": 0.3}
        assert spec.training.learning_rate == pytest.approx(0.5e-4)
        assert spec.method.model_dump()["loss"]["beta"] == 0.3
        assert spec.evaluation.metrics == ("preference_accuracy",)
    else:
        assert values == {"n_epochs": 2, "batch_size": 7, "learning_rate_multiplier": 0.5}
        assert spec.training.learning_rate == pytest.approx(1e-3)
        assert spec.evaluation.metrics == ("exact_match", "token_f1")
        assert spec.method.figures == ("token_accuracy",)


def test_a_long_epoch_has_checkpoints_between(desk: Desk) -> None:
    job = desk.job([chat(i) for i in range(500)], hyperparameters={"batch_size": 1, "n_epochs": 1})
    desk.prepared(job)
    made = yaml.safe_load((folders.newest_input(desk.store.jobs_folder / job.id) / "recipe.yaml").read_text())
    training = made["training"]
    assert (training["evaluate_every"], training["checkpoint_every"], training["keep_checkpoints"]) == (450, 150, 10)


@pytest.mark.parametrize(
    ("method", "rows"),
    [(m, n) for m in ("supervised", "dpo") for n in (10, 19, 20, 159, 160, 400, 501, 999, 1667, 10**6)],
)
def test_auto_is_what_the_docs_say(method: Any, rows: int) -> None:
    """The rules of the table, read out of the page."""
    table = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", DOCS.read_text("utf-8"), flags=re.MULTILINE)
    said = {
        name: (a, b) for name, a, b in table if name in ("n_epochs", "batch_size", "learning_rate_multiplier", "beta")
    }
    wanted = {}
    for name, (supervised, dpo) in said.items():
        rule = supervised if method == "supervised" or dpo == "the same" else dpo
        if rule == "none":
            continue
        bounds = re.fullmatch(r"(?:(\d+) / examples|examples / (\d+)), at least (\d+), at most (\d+)", rule)
        if bounds is None:
            wanted[name] = float(rule)
            continue
        over, under, least, most = (int(part or 0) for part in bounds.groups())
        wanted[name] = max(least, min(most, over // rows if over else rows // under))
    assert recipe.hyperparameters({"n_epochs": "auto", "beta": None}, method, rows) == wanted


def test_which_rows_are_for_what_depends_on_the_rows_and_the_seed_alone(desk: Desk, tmp_path: Path) -> None:
    from tunesmith.pipelines.hosted import validate

    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(chat(i)) + "\n" for i in range(50)))
    valid = validate.read(path, "file-a", "training_file", "supervised")
    first, again, other = (parts.divide(valid, None, seed).test.places for seed in (1, 1, 2))
    assert first == again != other
