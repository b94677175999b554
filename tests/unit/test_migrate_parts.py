"""The parts of a migration, each by itself: aliases, the folder, recipes, prompts, agreement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import hosted
import tiny
from tunesmith.core.errors import ConflictError, ContentError, MissingError, UsageError
from tunesmith.core.messages import Message
from tunesmith.models.refs import DEFAULT
from tunesmith.pipelines.migrate.agreement import agreement, spoken
from tunesmith.pipelines.migrate.aliases import Bases, read_bases
from tunesmith.pipelines.migrate.fetch import _decoded
from tunesmith.pipelines.migrate.folder import Folder, safe
from tunesmith.pipelines.migrate.prompts import Asked, distinct, read_prompts
from tunesmith.pipelines.migrate.recipes import Plan, hyperparameters, plan
from tunesmith.pipelines.read_recipe import read_recipe
from tunesmith.report.agreement import page

HERE = "http://old/v1"
EVERY = Bases({}, DEFAULT)
MINI = "gpt-4o-mini-2024-07-18"


# --- aliases


def test_a_snapshot_stands_under_its_name_or_the_one_without_its_date() -> None:
    bases = Bases({"gpt-4o-mini": "a", "gpt-3.5-turbo": "b", "gpt-4o-mini-2024-07-18": "c"})
    names = (MINI, "gpt-4o-mini", "gpt-3.5-turbo-0125", "gpt-4o")
    assert [getattr(bases.of(name), "base", None) for name in names] == ["c", "a", "b", None]


def test_what_was_tuned_before_says_what_is_lost() -> None:
    tuned = f"ft:{MINI}:acme:news:Ab12Cd34"
    chosen = Bases({"gpt-4o-mini": "small"}).of(tuned)
    assert chosen is not None
    assert chosen.base == "small"
    assert f"--base '{tuned}=FOLDER'" in str(chosen.note)
    named = Bases({"gpt-4o-mini": "small", tuned: "exported"}).of(tuned)
    assert named is not None
    assert (named.base, named.note) == ("exported", None)
    assert Bases({"other": "x"}).of(tuned) is None


def test_aliases_from_the_command_line_lie_over_those_of_a_file(tmp_path: Path) -> None:
    table = tmp_path / "server.yaml"
    (tmp_path / "model").mkdir()
    table.write_text(f"result_csv: plain\naliases:\n  gpt-4o-mini: {DEFAULT}\n  gpt-4o: model\n", "utf-8")
    bases = read_bases(["gpt-4o-mini=org/small", "org/other"], table)
    assert bases.named == {"gpt-4o-mini": "org/small", "gpt-4o": str((tmp_path / "model").resolve())}
    assert bases.every == "org/other"
    assert read_bases([], None) == Bases({}, DEFAULT)
    assert read_bases([], table).every is None


@pytest.mark.parametrize("given", [["a="], ["=b"], [""], ["one", "two"]])
def test_wrong_bases_are_refused(given: list[str]) -> None:
    with pytest.raises(UsageError, match="--base takes"):
        read_bases(given, None)


def test_a_wrong_table_names_its_line(tmp_path: Path) -> None:
    table = tmp_path / "a.yaml"
    with pytest.raises(MissingError):
        read_bases([], table)
    table.write_text("gpt-4o: x\ngpt-4o-mini: [1]\n", "utf-8")
    with pytest.raises(ContentError) as caught:
        read_bases([], table)
    assert caught.value.where == f"{table}:2"
    with pytest.raises(MissingError, match="no bundled base"):
        read_bases(["bundled/none"], None)


# --- the folder


@pytest.mark.parametrize("id", ["../../etc/passwd", "a/b", "", ".hidden", "x" * 200, "a\x00b", "-x", "ftjob x"])
def test_no_id_leads_out_of_the_folder(id: str) -> None:
    assert safe(id).startswith("id-")
    assert "/" not in safe(id)
    assert safe(id) != safe(id + "2")


def test_ids_as_the_service_makes_them_stay() -> None:
    assert safe("ftjob-abc123_X") == "ftjob-abc123_X"


def test_one_process_at_a_time(tmp_path: Path) -> None:
    second = Folder.open(tmp_path / "m", HERE)
    with Folder.open(tmp_path / "m", HERE), pytest.raises(ConflictError, match="another process"), second:
        pass
    with Folder.open(tmp_path / "m", HERE) as folder:
        assert folder.state() == {"service": HERE}


def test_a_folder_belongs_to_one_service_and_holds_nothing_else(tmp_path: Path) -> None:
    with Folder.open(tmp_path / "m", HERE):
        pass
    with pytest.raises(ConflictError, match="was fetched from"), Folder.open(tmp_path / "m", "http://other/v1"):
        pass
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x", "utf-8")
    with pytest.raises(ConflictError, match="other things"), Folder.open(tmp_path / "mine", HERE):
        pass
    assert [entry.name for entry in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_torn_line_is_cut_off_before_the_next_is_added(tmp_path: Path) -> None:
    with Folder.open(tmp_path / "m", HERE) as folder:
        (folder.path / "a.jsonl").write_bytes(b'{"n":1}\n{"n":2')
        assert folder.lines("a.jsonl") == [{"n": 1}]
        with folder.appending("a.jsonl") as file:
            file.add({"n": 3})
        assert (folder.path / "a.jsonl").read_bytes() == b'{"n":1}\n{"n":3}\n'


def test_a_file_that_changed_is_not_taken_for_what_was_fetched(tmp_path: Path) -> None:
    with Folder.open(tmp_path / "m", HERE) as folder:
        (folder.path / "files" / "file-1.jsonl").write_text("a\n", "utf-8")
        assert folder.fetched("files", "file-1") is None
        record = {"path": "files/file-1.jsonl", "sha256": tiny.sha256(folder.path / "files" / "file-1.jsonl")}
        folder.write("files/file-1.json", record)
        assert folder.fetched("files", "file-1") == record
        (folder.path / "files" / "file-1.jsonl").write_text("b\n", "utf-8")
        assert folder.fetched("files", "file-1") is None


@pytest.mark.parametrize(
    ("sent", "kept", "encoding"),
    [
        ("c3RlcCx0cmFpbl9sb3NzCjEsMC41Cg==", b"step,train_loss\n1,0.5\n", "base64"),
        ("c3RlcCx0cmFp\nbl9sb3NzCjEsMC41Cg==\n", b"step,train_loss\n1,0.5\n", "base64"),
        ("step,train_loss\n1,0.5\n", b"step,train_loss\n1,0.5\n", "plain"),
        ("", b"", "plain"),
        ("step", b"step", "plain"),
    ],
)
def test_result_files_are_decoded_where_they_are_base64(tmp_path: Path, sent: str, kept: bytes, encoding: str) -> None:
    path = tmp_path / "r.csv"
    path.write_text(sent, "utf-8")
    assert _decoded(path) == {"encoding": encoding}
    assert path.read_bytes() == kept


# --- recipes


def fetched(folder: Folder, id: str, rows: list[dict[str, Any]]) -> None:
    path = tiny.write_rows(folder.path / "files" / f"{id}.jsonl", rows)
    folder.write(f"files/{id}.json", {"id": id, "path": f"files/{id}.jsonl", "sha256": tiny.sha256(path), "file": {}})


def record(**job: Any) -> dict[str, Any]:
    given = {"id": "ftjob-1", "model": MINI, "training_file": "file-t", "status": "succeeded", "seed": 42}
    given |= {"fine_tuned_model": "ft:x", "hyperparameters": {"n_epochs": 4, "batch_size": 2}}
    return {"job": given | job, "events": [], "checkpoints": [], "notes": []}


def made(tmp_path: Path, rows: list[dict[str, Any]], bases: Bases = EVERY, **job: Any) -> Plan:
    with Folder.open(tmp_path / "m", HERE) as folder:
        fetched(folder, "file-t", rows)
        fetched(folder, "file-v", hosted.chats(100, 5))
        return plan(folder, record(**job), bases)


def test_a_recipe_takes_over_what_the_old_job_said(tmp_path: Path) -> None:
    done = made(tmp_path, hosted.chats(0, 20), validation_file="file-v")
    assert done.recipe is not None
    spec = read_recipe(done.recipe)
    assert (spec.name, spec.seed, spec.base, spec.method.type) == ("ftjob-1", 42, DEFAULT, "sft")
    assert (spec.training.epochs, spec.training.batch_size, spec.training.early_stopping) == (4, 2, None)
    assert spec.method.rehearsal.rows == 32  # type: ignore[union-attr]
    assert Path(spec.data.train[0].path) == (tmp_path / "m" / "files" / "file-t.jsonl").resolve()
    assert spec.data.validation == 0
    assert Path(spec.data.test.path).name == "file-v.jsonl"  # type: ignore[union-attr]
    assert (done.notes, done.learned_before) == ([], False)


def test_a_dpo_job_becomes_a_preference_recipe(tmp_path: Path) -> None:
    method = {"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 1, "batch_size": "auto", "beta": 0.4}}}
    done = made(tmp_path, hosted.preferences(0, 30), method=method, hyperparameters=None)
    assert done.recipe is not None
    spec = read_recipe(done.recipe)
    assert spec.method.type == "preference"
    assert (spec.method.loss.type, spec.method.loss.beta) == ("dpo", 0.4)  # type: ignore[union-attr]
    assert (spec.training.epochs, spec.training.batch_size) == (1, 1)


def test_without_a_validation_file_the_last_rows_are_held_out_and_that_is_said(tmp_path: Path) -> None:
    rows = hosted.chats(0, 30)
    done = made(tmp_path, rows)
    folder = tmp_path / "m" / "recipes"
    kept = [json.loads(line) for line in (folder / "ftjob-1-train.jsonl").read_text("utf-8").splitlines()]
    held = [json.loads(line) for line in (folder / "ftjob-1-held-out.jsonl").read_text("utf-8").splitlines()]
    assert (kept, held) == (rows[:27], rows[27:])
    assert done.learned_before
    assert "the old model has learned them" in done.notes[0]
    assert len((tmp_path / "m" / "files" / "file-t.jsonl").read_bytes().splitlines()) == 30


def test_ten_rows_are_enough_as_they_were_there(tmp_path: Path) -> None:
    done = made(tmp_path, hosted.chats(0, 10))
    assert done.recipe is not None
    assert "too_few_rows" in read_recipe(done.recipe).data.waive


@pytest.mark.parametrize(
    ("job", "why"),
    [
        ({"training_file": "file-absent"}, "the training file is not there"),
        ({"method": {"type": "reinforcement", "reinforcement": {}}}, "method 'reinforcement' is not there yet"),
        ({"model": "gpt-4o"}, "no base stands for gpt-4o; name one: --base gpt-4o=BASE"),
        ({"hyperparameters": {"n_epochs": "many"}}, "the recipe cannot be run"),
    ],
)
def test_why_there_is_no_recipe_is_said(tmp_path: Path, job: dict[str, Any], why: str) -> None:
    done = made(tmp_path, hosted.chats(0, 20), Bases({"gpt-4o-mini": DEFAULT}), validation_file="file-v", **job)
    assert done.recipe is None
    assert why in " ".join(done.notes)


def test_a_recipe_changed_by_hand_is_left_as_it_is(tmp_path: Path) -> None:
    done = made(tmp_path, hosted.chats(0, 20))
    assert done.recipe is not None
    done.recipe.write_text(done.recipe.read_text("utf-8").replace("epochs: 4", "epochs: 9"), "utf-8")
    again = made(tmp_path, hosted.chats(0, 20))
    assert "changed by hand" in again.notes[-1]
    assert read_recipe(done.recipe).training.epochs == 9


def test_another_base_writes_an_untouched_recipe_anew(tmp_path: Path) -> None:
    made(tmp_path, hosted.chats(0, 20))
    again = made(tmp_path, hosted.chats(0, 20), Bases({}, "org/other"))
    assert again.recipe is not None
    assert read_recipe(again.recipe).base == "org/other"


def test_what_the_service_says_cannot_write_into_a_recipe(tmp_path: Path) -> None:
    evil = "x\nbase: stolen\n\u2028seed: 1\n"
    done = made(tmp_path, hosted.chats(0, 20), model=evil, hyperparameters={"n_epochs": 2, evil: evil})
    assert done.recipe is not None
    assert yaml.safe_load(done.recipe.read_text("utf-8"))["base"] == DEFAULT
    assert yaml.safe_load(done.recipe.read_text("utf-8"))["seed"] == 42


def test_hyperparameters_of_the_method_count_before_the_older_ones() -> None:
    job = {"hyperparameters": {"n_epochs": 1, "batch_size": 3}, "method": {"type": "supervised", "supervised": {
        "hyperparameters": {"n_epochs": 2, "batch_size": "auto"}}}}  # fmt: skip
    assert hyperparameters(job) == {"n_epochs": 2}
    assert hyperparameters({"hyperparameters": {"n_epochs": 1}, "method": None}) == {"n_epochs": 1}
    assert hyperparameters({"hyperparameters": None, "method": {"type": "dpo", "dpo": None}}) == {}


# --- prompts


def test_prompts_come_from_rows_of_every_kind(tmp_path: Path) -> None:
    chats = read_prompts(tiny.write_rows(tmp_path / "c.jsonl", hosted.chats(0, 3)), 2)
    assert [(one.messages[0].content, one.reference, one.source) for one in chats] == [
        ("Tom has a ball, no 0. What?", "ball", "c.jsonl:1"), ("Lily has a ball, no 1. What?", "ball", "c.jsonl:2")
    ]  # fmt: skip
    [pair] = read_prompts(tiny.write_rows(tmp_path / "p.jsonl", hosted.preferences(0, 1)), 9)
    assert pair.reference == "ball"
    (tmp_path / "t.txt").write_text("One?\n\n  Two?\n", "utf-8")
    lines = read_prompts(tmp_path / "t.txt", 9)
    assert [(one.messages[0].content, one.reference, one.source) for one in lines] == [
        ("One?", None, "t.txt:1"), ("Two?", None, "t.txt:3")
    ]  # fmt: skip
    rewarded = {"messages": [{"role": "user", "content": "2+2?"}], "right": 4}
    [waits] = read_prompts(tiny.write_rows(tmp_path / "r.jsonl", [rewarded]), 9)
    assert (waits.messages[0].content, waits.reference) == ("2+2?", None)


def test_what_asks_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        read_prompts(tmp_path / "none.jsonl", 9)
    (tmp_path / "e.txt").write_text("\n", "utf-8")
    with pytest.raises(ContentError, match="no prompt"):
        read_prompts(tmp_path / "e.txt", 9)
    with pytest.raises(ContentError, match="asks nothing"):
        read_prompts(tiny.write_rows(tmp_path / "x.jsonl", [{"text": "Once upon a time."}]), 9)


def question(text: str, **other: Any) -> Asked:
    return Asked((Message(role="user", content=text),), "f:1", **other)


def test_the_key_of_an_answer_is_of_all_that_the_answer_depends_on() -> None:
    weather = ({"type": "function", "function": {"name": "weather"}},)
    keys = {
        question("a").key("m", 9), question("b").key("m", 9), question("a").key("n", 9), question("a").key("m", 8),
        question("a", tools=weather).key("m", 9),
    }  # fmt: skip
    assert len(keys) == 5
    assert question("a", reference="x").key("m", 9) == question("a").key("m", 9)
    assert [one.messages[0].content for one in distinct([question("a"), question("b"), question("a")])] == ["a", "b"]


# --- agreement


def call(name: str, arguments: str) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


def agreed(*both: tuple[Asked, dict[str, Any], str], **other: Any) -> Any:
    of = Plan("ftjob-1", {"fine_tuned_model": "ft:x"}, base="b")
    how = {"run": "runs/1", "verdict": "pass", "asked_from": "f", "learned_before": False, "unanswered": 0}
    return agreement(of, both, **(how | other))


def test_agreement_row_by_row() -> None:
    found = agreed(
        (question("1", reference="cat"), {"answer": "cat"}, " cat\n"),
        (question("2", reference="cat"), {"answer": "dog"}, "cat"),
        (question("3", reference='{"a": 1}'), {"answer": '{"a": 1, "b": 2}'}, '{"b":2,"a":1}'),
        (question("4", reference="abcd"), {"answer": "abcd"}, "abXX"),
    )
    assert [row.equal for row in found.rows] == [True, False, True, False]
    assert [row.similarity for row in found.rows][1::2] == [0.0, 0.5]
    assert (found.equal.count, found.equal.rows) == (2, 4)
    assert (found.old_right.count, found.new_right.count) == (2, 2)
    # Wilson for 2 of 4, by hand: (0.5 + z²/8 ± z·sqrt(1/16 + z²/64)) / (1 + z²/4), z = 1.959964
    assert found.equal.low == pytest.approx(0.1500, abs=1e-4)
    assert found.equal.high == pytest.approx(0.8500, abs=1e-4)


def test_rows_without_a_right_answer_are_not_judged() -> None:
    found = agreed((question("1", reference="cat"), {"answer": "cat"}, "cat"), (question("2"), {"answer": "x"}, "x"))
    assert (found.old_right, found.new_right) == (None, None)
    assert found.equal.count == 2


def test_calls_are_compared_by_what_they_call() -> None:
    old = {"answer": None, "tool_calls": [call("weather", '{"city": "Bonn", "days": 2}')]}
    wanted = question("?", reference=json.dumps([call("weather", '{"days": 2, "city": "Bonn"}')]), calls=True)
    same = '<tool_call>\n{"name": "weather", "arguments": {"days": 2, "city": "Bonn"}}\n</tool_call>'
    found = agreed((wanted, old, same), (wanted, old, same.replace("Bonn", "Kiel")), (wanted, old, "In Bonn?"))
    assert [row.equal for row in found.rows] == [True, False, False]
    assert found.rows[0].similarity == 1
    assert 0.8 < found.rows[1].similarity < 1
    assert (found.old_right.count, found.new_right.count) == (3, 1)


def test_a_refusal_is_an_answer() -> None:
    assert spoken({"answer": None, "refusal": "I cannot."}) == "I cannot."
    assert spoken({"answer": None, "refusal": None}) == ""


def test_the_page_shows_no_markup_of_an_answer_and_loads_nothing() -> None:
    evil = "<script>alert(1)</script>"
    found = agreed((question(evil, reference=evil), {"answer": evil}, evil + "!"), learned_before=True, unanswered=2)
    shown = page([found], HERE, "now")
    assert "<script" not in shown
    assert "&lt;script&gt;alert(1)" in shown
    assert "script-src &#39;none&#39;" in shown or "script-src 'none'" in shown
    assert "the old one looks better here than it is" in shown
    assert "2 not counted" in shown
