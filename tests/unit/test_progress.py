"""What a check tells while it runs: every stage when it begins, none inside another."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import tiny
from tunesmith.cli import progress
from tunesmith.cli.console import err
from tunesmith.core.events import Event, Progress, StageEnded, StageStarted
from tunesmith.pipelines.check import Request, check_files

STAGES = ("reading", "personal data", "keys", "near-duplicates", "looks", "tokens", "diversity")


def test_stages_follow_each_other_and_each_is_told_when_it_begins(tmp_path: Path) -> None:
    heard: list[Event] = []
    check_files(Request([tiny.write_rows(tmp_path / "a.jsonl", tiny.rows(0, 1200))]), heard.append)
    told = [e for e in heard if isinstance(e, StageStarted | StageEnded) and e.stage in STAGES]
    assert [type(e) for e in told] == [StageStarted, StageEnded] * len(STAGES), "none lies inside another"
    assert [e.stage for e in told[::2]] == [e.stage for e in told[1::2]] == list(STAGES)
    assert {e.unit for e in heard if isinstance(e, Progress)} >= {"rows searched", "rows looked at", "rows tokenized"}


@pytest.mark.parametrize("live", [True, False])
def test_the_stage_that_runs_is_shown(live: bool, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(err, "_force_terminal", live)
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    with progress.Watch() as watch:
        watch(StageStarted("near-duplicates"))
        if live:
            assert watch._bar
            assert watch._bar.tasks[0].description.strip() == "near-duplicates"
            assert watch._bar.tasks[0].visible
            time.sleep(0.01)
    if not live:
        assert "near-duplicates ..." in capsys.readouterr().err
