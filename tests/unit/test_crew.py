"""What a crew of processes finds in rows is what one process finds, and in whatever portions they are looked at."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from tunesmith.core.errors import TunesmithError
from tunesmith.core.events import silent
from tunesmith.core.messages import Example, Message
from tunesmith.data.check_privacy import Policy
from tunesmith.data.config import DataSpec, SourceSpec
from tunesmith.data.judge import Judge
from tunesmith.data.language import Languages, Usual, usual_languages
from tunesmith.data.look import portions
from tunesmith.data.pii.rows import find_in_rows
from tunesmith.data.rows import Joined, RowStore, pick, records
from tunesmith.pipelines import crew
from tunesmith.pipelines.crew import Answers, Crew
from tunesmith.pipelines.judging import Judging
from tunesmith.pipelines.prepare import prepare
from tunesmith.pipelines.recipe import RunSpec
from tunesmith.pipelines.searched import SearchedRows

ENGLISH = "My parcel number {} was to arrive on Tuesday, but it has still not left the warehouse."
GERMAN = "Mein Paket sollte am Dienstag ankommen, aber es hat das Lager noch immer nicht verlassen."
ODD = (
    "As an AI I cannot help with that, I am sorry to say so to you again.",
    "Sure! Here is what you have asked me for, and some more of it.",
    "caf\u00c3\u00a9 \ufffd is what the menu of the house says today, it seems.",
    "again and " * 30,
    "Write to anna.berg@example.org or to otto@example.org, whom you know.",
)


def row(number: int, answer: str) -> Example:
    asked = GERMAN if number % 50 == 49 else ENGLISH.format(number)
    turns = (Message(role="user", content=asked), Message(role="assistant", content=answer))
    return Example(messages=turns, origin=f"f.jsonl:{number}")


def rows(count: int = 60) -> list[Example]:
    return [row(n, ODD[n % 9] if n % 9 < len(ODD) else ENGLISH.format(-n)) for n in range(count)]


@pytest.fixture(scope="module")
def workers() -> Iterator[Crew]:
    with Crew("bundled/tunesmith-8m", workers=2) as made:
        yield made


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "PORTION", 7)


def test_workers_judge_as_one_process_does_and_rows_keep_their_places(workers: Crew) -> None:
    usual = usual_languages(rows())
    assert usual == ("en", "en")
    alone = list(Judge(usual).of(rows()))
    assert {mark for one in alone for mark in one.marks} == {"refusal", "boilerplate", "broken_encoding", "repetition"}
    assert alone[49].languages == ("de", "en")
    judging = Judging(rows(), usual, workers)
    assert list(judging.of(np.arange(60)) or ()) == alone
    assert list(judging.of(np.array([3, 6, 7, 49])) or ()) == [alone[n] for n in (3, 6, 7, 49)]


def test_without_usual_languages_none_is_judged(workers: Crew) -> None:
    judged = list(Judging(rows(), None, workers).of(np.arange(60)) or ())
    assert {one.languages for one in judged} == {("", "")}
    assert any(one.marks for one in judged)


@pytest.mark.parametrize("count", [60, 63])
def test_rows_are_searched_while_they_come(workers: Crew, count: int) -> None:
    alone = list(find_in_rows(rows(count)))
    assert len(alone) > 5
    with SearchedRows(workers) as store:
        for one in rows(count):
            store.append(one)
    assert list(store.finds(silent) or ()) == alone
    assert list(store) == rows(count)


def test_reading_that_fails_keeps_nobody_waiting() -> None:
    def read(made: Crew) -> None:
        with made, SearchedRows(made) as store:
            for one in rows(20):
                store.append(one)
            raise ValueError("the file ends here")

    with pytest.raises(ValueError, match="the file ends here"):
        read(Crew("bundled/tunesmith-8m", workers=2))


def test_few_rows_are_not_searched_elsewhere() -> None:
    with SearchedRows(Crew("bundled/tunesmith-8m")) as store:
        store.append(row(0, "fine"))
    assert store.finds(silent) is None


def test_a_worker_killed_in_the_search_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "PORTION", 1)
    with Crew("bundled/tunesmith-8m", workers=2) as made:
        with SearchedRows(made) as store:
            for one in rows(2000):
                store.append(one)
        finds = store.finds(silent)
        assert finds is not None
        next(finds)
        for worker in made._running._workers:  # type: ignore[union-attr]
            os.kill(worker._process.pid, signal.SIGKILL)
        with pytest.raises(TunesmithError, match="a process that works on rows ended"):
            list(finds)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_languages_are_the_same_in_whatever_portions_they_are_seen(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.data.language.FIRST", 20)
    many = [row(n, ENGLISH.format(n) if n < 12 else GERMAN) for n in range(90)]
    shown, judged = (Languages(usual_languages(many)) for _ in range(2))
    for portion in portions(many, size):
        shown.see(portion)
    for portion in portions(many, size, Judge(Usual("en", "en")).of(many)):
        judged.see(portion)
    assert dict(shown.counts("answer")) == {"en": 12, "de": 78}
    assert list(shown.findings()) == list(judged.findings())
    assert shown._usual == judged._usual == ("en", "en")


def test_a_rows_json_is_found_wherever_it_is_kept() -> None:
    store, more = RowStore(rows(9)), rows(4)
    joined = Joined((store, more))
    assert list(records(pick(joined, [1, 10, 8]))) == [list(records(joined))[place] for place in (1, 10, 8)]
    [again] = RowStore([Example.model_validate_json(next(iter(records(store))))])
    assert (again, again.model_fields_set) == (rows(1)[0], rows(1)[0].model_fields_set)


def checked(folder: Path, policy: Policy) -> dict[str, Any]:
    train, test = (SourceSpec(path=str(folder / name)) for name in ("train.jsonl", "test.jsonl"))
    data = DataSpec(
        train=(train,), test=test, validation=0.1, personal_data=policy, on_overlap="drop", near_duplicates="drop"
    )  # fmt: skip
    made = prepare(RunSpec(data=data))
    tokens = [one.input_ids.tolist() for one in made.train.encoded]
    return {"audit": made.audit.as_json(), "tokens": tokens, "fingerprint": made.tokens_fingerprint}


@pytest.mark.parametrize("policy", ["mask", "drop"])
def test_a_check_with_workers_finds_what_one_without_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: Policy
) -> None:
    made = [{"messages": [m.template_form() for m in one.messages]} for one in rows(120)]
    tiny.write_rows(tmp_path / "train.jsonl", made)
    tiny.write_rows(tmp_path / "test.jsonl", made[20:24])
    alone = checked(tmp_path, policy)
    given: list[str] = []
    do = Crew.do

    def noted(self: Crew, task: Mapping[str, Any], rows: Iterable[bytes]) -> Answers:
        given.append(task["task"])
        return do(self, task, rows)

    monkeypatch.setattr(Crew, "do", noted)
    monkeypatch.setattr(crew, "ENOUGH_ROWS", 60)
    monkeypatch.setattr(crew, "_cores", lambda: 2)
    assert json.dumps(checked(tmp_path, policy)) == json.dumps(alone)
    assert given == ["find", "judge", "encode"]
    codes = {finding["code"] for finding in alone["audit"]["findings"]}
    done = {"mask": "personal_data_masked", "drop": "personal_data_dropped"}[policy]
    assert codes >= {done, "refusal", "boilerplate", "broken_encoding", "repetition", "other_language"}
    assert "overlap_dropped" in codes
