"""`migrate openai` by the command line, over HTTP, against a server that behaves like the hosted service."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hosted
import tiny
from hosted import KEY, Hosted, Trouble
from tunesmith.pipelines.read_recipe import read_recipe

Cli = Callable[..., tiny.Result]
FAST = ("--rate", "1000")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosted]:
    """The hosted service, and an environment that points to it."""
    with hosted.serving(hosted.usual()) as made:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", made.url)
        yield made


def migrated(cli: Cli, out: Path, *arguments: object, code: int = 0) -> dict[str, Any]:
    done = cli("migrate", "openai", "--out", out, *FAST, *arguments, "--json")
    assert done.code == code, done.err
    assert KEY not in done.out + done.err
    told: dict[str, Any] = json.loads(done.out)
    return told


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def answers(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "answers.jsonl").read_text("utf-8").splitlines()]


def test_all_that_the_service_holds_is_fetched(service: Hosted, cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "m"
    told = migrated(cli, out)
    jobs = {one["id"]: one for one in json.loads((out / "jobs.json").read_text("utf-8"))["jobs"]}
    assert list(jobs) == [job["id"] for job in service.jobs[::-1]]
    for job in service.jobs:
        assert jobs[job["id"]]["job"] == job
        assert jobs[job["id"]]["events"] == service.events[job["id"]][::-1]
        assert jobs[job["id"]]["checkpoints"] == service.checkpoints[job["id"]][::-1]
    for id in ("file-train1", "file-valid1", "file-dpo1", "file-seven"):
        assert (out / "files" / f"{id}.jsonl").read_bytes() == service.contents[id]
        told_of = json.loads((out / "files" / f"{id}.json").read_text("utf-8"))
        assert told_of["sha256"] == tiny.sha256(out / "files" / f"{id}.jsonl")
        assert told_of["file"] == service.files[id]
    assert [(out / "results" / f"file-result{n}.csv").read_text("utf-8") for n in (1, 2)] == [hosted.CSV] * 2
    assert jobs["ftjob-sft00001"]["hyperparameters"] == hosted.USUAL
    assert jobs["ftjob-failed01"]["job"]["error"]["code"] == "invalid_n_examples"
    assert [one["id"] for one in told["jobs"] if one["recipe"]] == ["ftjob-sft00001", "ftjob-dpo00001"]
    assert read_recipe(Path(told["jobs"][0]["recipe"])).base == "bundled/tunesmith-8m"
    sums = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=out, capture_output=True, text=True, check=False)
    assert (sums.returncode, sums.stdout.count(": OK"), len(sums.stdout.splitlines())) == (0, 21, 21)
    assert service.wrong == []
    assert not [name for name, content in contents(out).items() if KEY.encode() in content]


def test_deleted_files_are_told_and_the_rest_is_saved(service: Hosted, cli: Cli, tmp_path: Path) -> None:
    [one] = [job for job in migrated(cli, tmp_path / "m")["jobs"] if job["id"] == "ftjob-deleted1"]
    assert one["recipe"] is None
    assert "No such File object: file-deleted" in one["notes"][0]
    assert "No such File object: file-gone" in one["notes"][1]
    service.add_file("file-deleted", hosted.jsonl(hosted.chats(0, 30)))  # it was only away for a while
    [one] = [job for job in migrated(cli, tmp_path / "m")["jobs"] if job["id"] == "ftjob-deleted1"]
    assert one["recipe"] is not None


def test_the_old_models_are_asked_the_validation_rows_and_nothing_else_is_posted(
    service: Hosted, cli: Cli, tmp_path: Path
) -> None:
    told = migrated(cli, tmp_path / "m")
    assert {one["id"]: one["answers"] for one in told["jobs"]} == {
        "ftjob-sft00001": 8, "ftjob-dpo00001": 4, "ftjob-failed01": 0, "ftjob-deleted1": 0, "ftjob-rft00001": 8,
    }  # fmt: skip
    assert set(service.paths("POST")) == {"/chat/completions"}
    rows = [row for row in answers(tmp_path / "m") if row["job"] == "ftjob-sft00001"]
    valid = hosted.chats(100, 8)
    assert [row["prompt"] for row in rows] == [row["messages"][:1] for row in valid]
    assert [row["answer"] for row in rows] == [row["messages"][1]["content"] for row in valid]
    assert [row["reference"] for row in rows] == [row["answer"] for row in rows]
    assert [row["source"] for row in rows][:2] == ["file-valid1:1", "file-valid1:2"]
    asked = next(one for one in service.questions if one["model"].endswith("sft00001"))
    assert (asked["temperature"], asked["max_completion_tokens"]) == (0, 512)
    # A model that thinks takes no temperature: it is asked without.
    assert all("temperature" not in one for one in service.questions if one["model"].startswith("ft:o4"))
    assert len(service.questions) == 20
    assert service.paths("POST").count("/chat/completions") == 21


def test_without_answers_every_request_is_a_get(service: Hosted, cli: Cli, tmp_path: Path) -> None:
    told = migrated(cli, tmp_path / "m", "--no-answers")
    assert list(told["requests"]) == ["GET"]
    assert {method for method, _ in service.asked} == {"GET"}
    assert not (tmp_path / "m" / "answers.jsonl").exists()


def test_prompts_of_ones_own(service: Hosted, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("Max has a hat. What?\nSue has a cup. What?\nMax has a hat. What?\n", "utf-8")
    told = cli("migrate", "openai", "--out", tmp_path / "m", *FAST, "--prompts", tmp_path / "mine.txt",
               "--job", "ftjob-sft00001")  # fmt: skip
    assert told.code == 0
    assert "2 questions go to the old tuned models (POST /chat/completions), billed there" in told.err
    assert [row["answer"] for row in answers(tmp_path / "m")] == ["hat", "cup"]
    assert len(service.questions) == 2


def test_what_is_there_is_not_fetched_again(service: Hosted, cli: Cli, tmp_path: Path) -> None:
    migrated(cli, tmp_path / "m")
    before = contents(tmp_path / "m")
    service.asked.clear()
    migrated(cli, tmp_path / "m")
    assert set(service.paths()) == {"/fine_tuning/jobs", "/files/file-deleted", "/files/file-gone"}
    assert service.paths("POST") == []
    assert contents(tmp_path / "m") == before


def test_a_job_that_was_under_way_is_asked_again(service: Hosted, cli: Cli, tmp_path: Path) -> None:
    job = service.add_job("ftjob-running1", "file-train1", status="running", fine_tuned_model=None)
    migrated(cli, tmp_path / "m", "--job", "ftjob-running1")
    job |= {"status": "succeeded", "fine_tuned_model": "ft:new"}
    service.models["ft:new"] = lambda asked: {"role": "assistant", "content": "ok"}
    migrated(cli, tmp_path / "m", "--job", "ftjob-sft00001", "--no-answers")
    [one] = migrated(cli, tmp_path / "m", "--job", "ftjob-running1")["jobs"]
    assert (one["status"], one["fine_tuned_model"], one["answers"]) == ("succeeded", "ft:new", 4)
    kept = json.loads((tmp_path / "m" / "jobs.json").read_text("utf-8"))["jobs"]
    assert [(job["id"], len(job["events"])) for job in kept] == [("ftjob-sft00001", 5), ("ftjob-running1", 5)]


def test_a_tuned_model_that_is_gone_is_a_note(service: Hosted, cli: Cli, tmp_path: Path) -> None:
    service.models.clear()
    told = migrated(cli, tmp_path / "m", "--job", "ftjob-sft00001")
    assert "does not exist or you do not have access to it" in told["jobs"][0]["notes"][0]
    assert len(service.paths("POST")) == 1


def test_one_question_that_is_refused_is_no_end(service: Hosted, cli: Cli, tmp_path: Path) -> None:
    refusal = {"error": {"message": "This model's maximum context length is 9 tokens", "param": "messages"}}
    posts = iter(range(99))

    def trouble(number: int, method: str, path: str) -> Trouble | None:
        return (400, {}, refusal) if method == "POST" and next(posts) == 2 else None

    service.trouble = trouble
    migrated(cli, tmp_path / "m", "--job", "ftjob-sft00001")
    rows = answers(tmp_path / "m")
    assert ["error" in row for row in rows] == [False, False, True, False, False, False, False, False]
    assert "maximum context" in rows[2]["error"]


def test_limits_and_broken_connections_are_lived_through(service: Hosted, cli: Cli, tmp_path: Path) -> None:
    limited = 429, {"retry-after-ms": "1"}, {"error": {"message": "Rate limit", "code": "rate_limit_exceeded"}}

    def trouble(number: int, method: str, path: str) -> Trouble | str | None:
        return {0: limited, 3: "half"}.get(number % 7) if number % 14 else None

    quiet = migrated(cli, tmp_path / "quiet", "--no-answers")
    service.asked.clear()
    service.trouble = trouble
    told = migrated(cli, tmp_path / "m", "--no-answers")
    assert told["requests"]["GET"] > quiet["requests"]["GET"]
    assert {name: content for name, content in contents(tmp_path / "m" / "files").items() if name.endswith("l")} == {
        name: content for name, content in contents(tmp_path / "quiet" / "files").items() if name.endswith("l")
    }
    assert (tmp_path / "m" / "jobs.json").read_bytes() != b""


@pytest.mark.parametrize("key", ["", "sk-wrong"])
def test_nothing_is_done_without_the_right_key(
    service: Hosted, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    done = cli("migrate", "openai", "--out", tmp_path / "m", *FAST)
    assert done.code == (5 if key else 4)
    assert len(service.asked) == (1 if key else 0)
    assert "sk-wrong" not in done.err + done.out
    assert "OPENAI_API_KEY" in done.err
    assert (tmp_path / "m").exists() == bool(key)


def test_hostile_ids_and_names_stay_in_the_folder(service: Hosted, cli: Cli, tmp_path: Path) -> None:
    service.add_file("../../file-evil", hosted.jsonl(hosted.chats(0, 20)), name="../../../evil.jsonl")
    service.add_job("../../ftjob-evil", "../../file-evil", model="x\nbase: stolen")
    migrated(cli, tmp_path / "deep" / "m", "--no-answers")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["deep"]
    assert sorted(entry.name for entry in (tmp_path / "deep").iterdir()) == ["m"]
    assert not [name for name in contents(tmp_path) if "evil" in name]


def test_unknown_jobs_and_other_folders_are_refused(service: Hosted, cli: Cli, tmp_path: Path) -> None:
    done = cli("migrate", "openai", "--out", tmp_path / "m", *FAST, "--job", "ftjob-none")
    assert done.code == 4
    assert "ftjob-sft00001" in done.err
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text").write_text("x", "utf-8")
    assert cli("migrate", "openai", "--out", tmp_path / "thesis", *FAST).code == 6
    assert cli("migrate", "openai", "--out", tmp_path / "none", "--offline").code == 4
    assert not (tmp_path / "none").exists()


SMALL = (
    "--set", "training.epochs=6", "--set", "training.learning_rate=0.005", "--set", "training.precision=fp32",
    "--set", "evaluation.max_tokens=8", "--set", "evaluation.skills=false", "--set", "evaluation.memorisation=null",
    "--set", "adapter.r=4", "--max-tokens", "8",
)  # fmt: skip


@pytest.mark.slow
def test_each_job_is_trained_again_and_compared(
    service: Hosted, cli: Cli, tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, jobs = tmp_path / "m", ("--job", "ftjob-sft00001", "--job", "ftjob-dpo00001")
    migrated(cli, out, "--base", f"gpt-4o-mini={base}", "--max-tokens", 8)
    requests = len(service.asked)
    monkeypatch.delenv("OPENAI_API_KEY")  # the service is closed by now
    again = (*jobs, "--base", base, "--run", "--offline", *SMALL)
    told = migrated(cli, out, *again)
    assert len(service.asked) == requests
    assert [one["run"]["status"] for one in told["jobs"]] == ["finished", "finished"]
    found = json.loads((out / "agreement.json").read_text("utf-8"))["jobs"]
    assert [(one["job"], len(one["rows"]), one["unanswered"], one["learned_before"]) for one in found] == [
        ("ftjob-sft00001", 8, 0, False), ("ftjob-dpo00001", 4, 0, True)
    ]  # fmt: skip
    for one in found:
        assert one["old_right"]["count"] == len(one["rows"])
        assert one["equal"]["count"] == sum(row["equal"] for row in one["rows"]) == one["new_right"]["count"]
        assert [row["equal"] for row in one["rows"]] == [row["old"] == row["new"] for row in one["rows"]]
    # What the run itself says of the same rows is what is compared here.
    told_by_run = (out / "runs" / "ftjob-sft00001" / "predictions.jsonl").read_text("utf-8").splitlines()
    predictions = [json.loads(line) for line in told_by_run]
    assert 0 < found[0]["equal"]["count"] < 8  # the tiny model has learned some of it
    assert [row["new"] for row in found[0]["rows"]] == [row["tuned"] for row in predictions]
    page = (out / "agreement.html").read_text("utf-8")
    assert "The old model has learned these rows" in page
    stamps = {file: file.stat().st_mtime_ns for file in (out / "runs").rglob("*") if file.is_file()}
    migrated(cli, out, *again)
    assert {file: file.stat().st_mtime_ns for file in (out / "runs").rglob("*") if file.is_file()} == stamps


@pytest.mark.slow
def test_a_job_that_cannot_be_trained_again_leaves_the_others(
    service: Hosted, cli: Cli, tmp_path: Path, base: Path
) -> None:
    service.contents["file-train1"] = hosted.jsonl([*hosted.chats(0, 30), {"messages": [{"role": "user"}]}])
    out = tmp_path / "m"
    told = migrated(cli, out, "--base", base, "--run", *SMALL, code=1)
    runs = {one["id"]: one["run"] for one in told["jobs"] if one["run"]}
    assert {id: run["status"] for id, run in runs.items()} == {"ftjob-sft00001": "failed", "ftjob-dpo00001": "finished"}
    assert runs["ftjob-sft00001"]["error"]
    assert not (out / "runs" / "ftjob-sft00001" / "run.json").exists()


# --- killed at any moment


def started(out: Path, service: Hosted) -> subprocess.Popen[str]:
    environment = {**os.environ, **tiny.ENVIRONMENT, "OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": service.url}
    return subprocess.Popen(
        [sys.executable, "-m", "tunesmith", "migrate", "openai", "--out", str(out), *FAST],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def killed_and_taken_up(service: Hosted, out: Path, at: int, whole: dict[str, bytes], *, half: bool) -> None:
    """Kill the process while request number `at` waits for its answer, or has half of it: what is there is kept, and
    the rest comes."""
    reached: list[subprocess.Popen[str]] = []

    def kill() -> None:
        while not reached:
            time.sleep(0.001)
        os.kill(reached[0].pid, signal.SIGKILL)

    def trouble(number: int, method: str, path: str) -> str | None:
        if number < at:
            return None
        if not half:
            kill()
        return "half" if half else "hang up"

    service.asked.clear()
    service.trouble, service.halfway = trouble, kill
    process = started(out, service)
    reached.append(process)
    _, err = process.communicate(timeout=100)
    assert process.returncode == -signal.SIGKILL, err
    kept = contents(out)
    torn = [name for name, content in kept.items() if not name.startswith(".") and ".tmp" not in name
            and name in whole and name not in ("answers.jsonl", "jobs.json", "migration.json", "SHA256SUMS")
            and _steady(name, content) != _steady(name, whole[name])]  # fmt: skip
    assert torn == []  # each file is whole or absent
    records = [json.loads(content) for name, content in kept.items() if re.fullmatch(r"(files|results)/.*\.json", name)]
    fetched = {f"/files/{record['id']}/content" for record in records if "missing" not in record}
    fetched |= {f"/fine_tuning/jobs/{name[5:-5]}/events" for name in kept if re.fullmatch(r"jobs/.*\.json", name)}
    said = kept.get("answers.jsonl", b"").count(b"\n")
    service.asked.clear()
    service.trouble = lambda number, method, path: None
    process = started(out, service)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert fetched.isdisjoint(service.paths())
    posted = service.paths("POST").count("/chat/completions")
    # One more where a model that thinks must first say that it takes no temperature.
    assert posted in (20 - said, 21 - said)
    assert {name: _steady(name, content) for name, content in contents(out).items()} == {
        name: _steady(name, content) for name, content in whole.items()
    }


def _steady(name: str, content: bytes) -> object:
    """The content without the times of day in it; of `answers.jsonl` the answers by their keys."""
    if name == "SHA256SUMS":
        return [line.split()[1] for line in content.decode().splitlines()]
    return re.sub(rb'"(fetched|at|sha256)": ?"[^"]*"', b"", content)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a migration that nothing stopped leaves behind; its service's address is put in by the test."""
    out = tmp_path_factory.mktemp("undisturbed") / "m"
    with hosted.serving(hosted.usual()) as service:
        process = started(out, service)
        _, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
        made = contents(out)
        assert len(service.asked) == 63
        return {name: content.replace(service.url.encode(), b"URL") for name, content in made.items()}


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("at", [1, 4, 7, 9, 11, 15, 19, 23, 28, 34, 40, 44, 52, 60])
@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_where_it_was(
    tmp_path: Path, undisturbed: dict[str, bytes], at: int, half: bool
) -> None:
    with hosted.serving(hosted.usual()) as service:
        whole = {name: content.replace(b"URL", service.url.encode()) for name, content in undisturbed.items()}
        killed_and_taken_up(service, tmp_path / "m", at, whole, half=half)
        assert service.wrong == []


def test_killed_once_it_goes_on_where_it_was(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    with hosted.serving(hosted.usual()) as service:
        whole = {name: content.replace(b"URL", service.url.encode()) for name, content in undisturbed.items()}
        killed_and_taken_up(service, tmp_path / "m", 21, whole, half=True)
