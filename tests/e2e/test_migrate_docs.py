"""docs/migrate.md: its snippets are run as they are shown, the old service being a server that behaves like it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

import hosted
import tiny
from hosted import KEY, Hosted
from tunesmith.cli.main import app

Cli = Callable[..., tiny.Result]
PAGE = (Path(__file__).parents[2] / "docs" / "migrate.md").read_text("utf-8")
SHELL = re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)
[SCRIPT] = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
[TABLE] = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
SERVED = any(command.name == "serve" for command in app.registered_commands)


def lines(block: str) -> list[list[str]]:
    return [words for line in block.splitlines() if (words := shlex.split(line, comments=True))]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hosted]:
    with hosted.serving(hosted.usual()) as made:
        monkeypatch.setenv("OPENAI_BASE_URL", made.url)
        monkeypatch.chdir(tmp_path)
        yield made


def first(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> tiny.Result:
    """Step 1, with a key in place of the dots."""
    (export, name), command = lines(SHELL[0])
    assert (export, name) == ("export", "OPENAI_API_KEY=sk-...")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert command[0] == "tunesmith"
    return cli(*command[1:], "--rate", 1000)  # at five requests a second this would take a quarter of a minute


def test_step_1_fetches_what_the_page_says(
    service: Hosted, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = first(cli, monkeypatch)
    assert done.code == 0, done.err
    told = re.findall(r"^\| `([\w./]+)`", PAGE, flags=re.MULTILINE)
    assert {"jobs.json", "files/", "answers.jsonl", "recipes/", "SHA256SUMS"} <= set(told)
    for name in ("jobs.json", "files/", "results/", "answers.jsonl", "recipes/", "SHA256SUMS"):
        assert (tmp_path / "old" / name).exists(), name
    [check] = re.findall(r"`(cd old && sha256sum -c SHA256SUMS)`", PAGE)
    assert subprocess.run(["bash", "-c", check], cwd=tmp_path, capture_output=True, check=False).returncode == 0
    assert service.wrong == []


def test_options_that_the_page_names_are_there(cli: Cli) -> None:
    known = cli("migrate", "openai", "--help").out
    named = set(re.findall(r"`(--[a-z-]+)", PAGE)) - {"--resume"}
    assert named >= {"--no-answers", "--rate", "--prompts", "--rows", "--offline", "--base", "--mapping", "--job"}
    assert [option for option in named if option not in known] == []


@pytest.mark.slow
def test_step_2_trains_again_and_compares(
    service: Hosted, cli: Cli, tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert first(cli, monkeypatch).code == 0
    monkeypatch.delenv("OPENAI_API_KEY")
    requests = len(service.asked)
    [command] = lines(SHELL[1])
    # A tiny base in place of the bundled one, which would take minutes here.
    words = [word.replace("bundled/tunesmith-8m", str(base)) for word in command[1:]]
    assert words != command[1:]
    quick = ("training.max_steps=3", "evaluation.skills=false", "evaluation.memorisation=null")
    done = cli(*words, *(word for value in quick for word in ("--set", value)))
    assert done.code == 0, done.err
    assert "Old model beside new" in done.out
    assert len(service.asked) == requests
    jobs = json.loads((tmp_path / "old" / "agreement.json").read_text("utf-8"))["jobs"]
    assert [job["job"] for job in jobs] == ["ftjob-sft00001", "ftjob-dpo00001"]
    assert {"equal", "similarity", "old_right", "new_right", "rows"} <= set(jobs[0])


def test_step_3_names_what_there_is() -> None:
    compile(SCRIPT, "existing_script.py", "exec")
    assert lines(SHELL[2]) == [["tunesmith", "serve"]]
    assert [words[:2] for words in lines(SHELL[3])] == [
        ["export", "OPENAI_BASE_URL=http://127.0.0.1:8000/v1"], ["export", "OPENAI_API_KEY=ts-..."],
        ["python", "existing_script.py"],
    ]  # fmt: skip
    assert yaml.safe_load(TABLE) == {"aliases": {hosted.BASE: "bundled/tunesmith-8m"}}


@pytest.mark.slow
@pytest.mark.skipif(not SERVED, reason="needs `tunesmith serve`: jobs, files and chat completions over HTTP")
def test_step_3_an_existing_script_runs_unchanged(tmp_path: Path, base: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    table = yaml.safe_load(TABLE)
    (home / "server.yaml").write_text(yaml.safe_dump({"aliases": dict.fromkeys(table["aliases"], str(base))}), "utf-8")
    (tmp_path / "existing_script.py").write_text(SCRIPT, "utf-8")
    tiny.write_rows(tmp_path / "train.jsonl", hosted.chats(0, 40))
    environment = {**os.environ, **tiny.ENVIRONMENT, "TUNESMITH_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "tunesmith", "serve", "--port", "0"], env=environment, cwd=tmp_path,
        stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        try:
            assert server.stdout is not None
            url, key = server.stdout.readline().strip(), server.stdout.readline().split()[-1]
            assert url.startswith("http://127.0.0.1:")
            assert key.startswith("ts-")
            done = subprocess.run(
                [sys.executable, "existing_script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=400,
                env={**environment, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": key}, check=False,
            )  # fmt: skip
        finally:
            server.terminate()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"ft:{hosted.BASE}:personal:")
