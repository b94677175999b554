"""`tunesmith rate` in a real terminal: keys in, a verdict out."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import tiny
from answered import run


def _typed(keys: str, *arguments: str) -> tuple[int, str]:
    """Exit code and screen of a command in a terminal, after these keys, one for each time that it tells them."""
    master, slave = pty.openpty()
    environment = {**os.environ, **tiny.ENVIRONMENT, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tunesmith", *arguments], stdin=slave, stdout=slave, stderr=slave, env=environment,
        start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    screen, sent, until = b"", 0, time.monotonic() + 60
    while time.monotonic() < until:
        if not select.select([master], [], [], 1.0)[0]:
            continue
        try:
            screen += os.read(master, 65536)
        except OSError:
            break  # the other side is closed
        if sent < len(keys) and screen.count(b"q: stop") > sent:
            os.write(master, keys[sent].encode())
            sent += 1
    os.close(master)
    if time.monotonic() >= until:
        process.kill()
    return process.wait(30), screen.decode()


def test_answers_are_chosen_by_keys_and_the_work_goes_on_another_time(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", rows=6)
    code, screen = _typed("aatuq", "rate", str(folder), "--rater", "ann")
    assert code == 0, screen
    assert "1 of 5" in screen
    assert "question" in screen
    assert "tuned" not in screen.split("q: stop")[1], "it is told whose the answers are"
    rows = [json.loads(line) for line in (folder / "ratings/ann.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 2, "the third was taken back"
    code, screen = _typed("xabt", "rate", str(folder), "--rater", "ann")
    assert code == 0, screen
    assert "3 of 5" in screen
    done = tiny.tunesmith("rate", folder, "--json")
    facts = json.loads(done.stdout)
    assert (facts["pairs"], facts["alike"]) == (6, 1)
    assert sum(facts["together"][key] for key in ("first", "second", "ties")) == 5
    assert "torch" not in done.stderr


def test_without_a_terminal_it_asks_nothing(tmp_path: Path) -> None:
    folder = run(tmp_path / "run")
    asked = tiny.tunesmith("rate", folder)
    assert asked.returncode == 2
    assert "needs a terminal" in asked.stderr
    told = tiny.tunesmith("rate", folder, "--verdict")
    assert (told.returncode, told.stdout.strip()) == (0, "nothing is rated yet")
