"""Learning a teacher's answers: what is learned of them, what is left out, and that nothing is asked twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import endpoint
import tiny
from endpoint import Reply, refused, said, serving
from tunesmith.adapters.config import FullSpec
from tunesmith.core.errors import ContentError, MissingError
from tunesmith.core.events import Event, Note
from tunesmith.core.messages import Example, Message
from tunesmith.data.tokenize import Encoded, encode, encode_prompt
from tunesmith.methods.base import Learned, Scene
from tunesmith.methods.distill.answer_file import AnswerFile, Given
from tunesmith.methods.distill.config import DistillSpec
from tunesmith.methods.sft.config import SftSpec
from tunesmith.models.load import from_folder

WORDS = tiny.tokenizer()


def _examples(count: int = 10) -> list[Example]:
    return [Example.model_validate({k: v for k, v in row.items() if k == "messages"}) for row in tiny.rows(0, count)]


def _scene(examples: list[Example], folder: Path | None = None, **other: Any) -> Scene:
    model = tiny.model(seed=8, vocabulary=len(WORDS))
    adapter = FullSpec().build()
    adapter.attach(model)
    plain = {"identity": "one", "max_length": 100, "examples": examples} | other
    return Scene(model, adapter, WORDS, 5, train=[None] * len(examples), folder=folder, **plain)


def _text(row: Any) -> str:
    return WORDS.decode(row.input_ids)


def _taught(row: Any) -> str:
    """The tokens that carry loss."""
    return WORDS.decode(row.input_ids[np.flatnonzero(row.loss_weight)])


def _spec(url: str, **other: Any) -> DistillSpec:
    return DistillSpec(
        teacher={"url": url, "model": "big", "retries": 1, "concurrency": 1}, on="answers", **other  # type: ignore[arg-type]
    )  # fmt: skip


def _number(asked: dict[str, Any]) -> int:
    """Of the row that is asked about."""
    return int(asked["messages"][-1]["content"].partition("no ")[2].partition(".")[0])


def test_answers_replace_those_of_the_data_and_bad_ones_are_left_out(tmp_path: Path) -> None:
    """Row 2 is cut, 4 empty, 5 too long to fit, the others end."""
    odd = {2: said("half an", "length"), 4: said("  "), 5: said("far too much to say " * 30)}
    heard: list[Event] = []
    with serving(lambda asked: odd.get(_number(asked), said(f" said {_number(asked)} "))) as server:
        learned = _spec(server.url).build().prepare(_scene(_examples(), tmp_path, sink=heard.append))
    assert learned.places == [0, 1, 3, 6, 7, 8, 9]
    assert [_taught(row) for row in learned.train] == [f"said {i}</s>" for i in learned.places]
    prompts = [_text(row).partition("said")[0] for row in learned.train]
    assert prompts[1] == "<s>user\nTom has a ball, no 1. What?</s>\n<s>assistant\n".replace("Tom", "Lily")
    facts = learned.facts["teacher"]
    assert {k: v for k, v in facts.items() if k != "summary"} == {
        "rows": 10, "ended": 7, "cut": 1, "empty": 1, "unfit": 1,
    }  # fmt: skip
    assert facts["summary"] == (
        "7 of 10 answers of the teacher ended and are learned; left out: 1 did not end, 1 were empty, 1 do not fit"
    )
    assert [event.text for event in heard if isinstance(event, Note)][-1] == facts["summary"]
    assert [asked["max_tokens"] for asked in server.asked] == [512] * 10


def test_without_any_good_answer_the_run_ends(tmp_path: Path) -> None:
    with serving(lambda asked: said("half", "length")) as server, pytest.raises(ContentError) as caught:
        _spec(server.url).build().prepare(_scene(_examples(3), tmp_path))
    assert "no answer that could be learned" in str(caught.value)
    assert "3 did not end" in str(caught.value)


def test_only_the_last_answer_of_a_conversation_is_the_teachers(tmp_path: Path) -> None:
    turns = [("user", "One?", None), ("assistant", "uno", None), ("user", "Two?", None), ("assistant", "dos", 0.5)]
    example = Example(messages=tuple(Message(role=r, content=c, weight=w) for r, c, w in turns))  # type: ignore[arg-type]
    with serving(lambda asked: said("deux")) as server:
        [row] = _spec(server.url).build().prepare(_scene([example], tmp_path)).train
    assert [m["content"] for m in server.asked[0]["messages"]] == ["One?", "uno", "Two?"]
    assert _taught(row) == "deux</s>"
    assert set(np.unique(row.loss_weight)) == {0.0, 0.5}  # type: ignore[attr-defined]
    assert "uno" in _text(row)


def test_answers_are_never_asked_for_twice(tmp_path: Path) -> None:
    """A run that broke off goes on where it was, whatever the last line on disk looks like; another run asks anew."""
    examples = _examples(8)

    def act(asked: dict[str, Any]) -> Reply:
        return refused(400, "bad") if _number(asked) == 5 and len(server.asked) == 6 else said(f"x{_number(asked)}")

    with serving(act) as server:
        with pytest.raises(MissingError):
            _spec(server.url).build().prepare(_scene(examples, tmp_path))
        file = tmp_path / "teacher-answers.jsonl"
        assert file.read_text("utf-8").count("\n") == 6
        file.write_bytes(file.read_bytes() + b'{"row": 5, "te')
        assert [_number(asked) for asked in server.asked] == [0, 1, 2, 3, 4, 5]
        learned = _spec(server.url).build().prepare(_scene(examples, tmp_path))
        assert [_number(asked) for asked in server.asked[6:]] == [5, 6, 7]
        assert [_taught(row) for row in learned.train] == [f"x{i}</s>" for i in range(8)]
        assert [json.loads(line).get("row") for line in file.read_text("utf-8").splitlines()] == [None, *range(8)]
        again = _spec(server.url).build().prepare(_scene(examples, tmp_path))
        assert len(server.asked) == 9
        assert again.facts == learned.facts
        _spec(server.url).build().prepare(_scene(examples, tmp_path, identity="another"))
        assert len(server.asked) == 17


def test_a_file_that_is_none_of_ours_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    for content in (b"", b"\xff\xfe", b"[1]\n", b'{"identity": "one"}', b'{"identity": "two"}\n{"row": 0}\n'):
        path.write_bytes(content)
        with AnswerFile(path, "one") as file:
            assert file.given == {}
            file.add({3: Given("é\n", True)})
        with AnswerFile(path, "one") as file:
            assert file.given == {3: Given("é\n", True)}
    path.write_bytes(path.read_bytes() + b'{"row": 4}\n' + b'{"row": 5, "text": "x", "ended": true}\n')
    with AnswerFile(path, "one") as file:
        assert set(file.given) == {3}, "behind a line that is none nothing can be trusted"
        file.add({4: Given("y", False)})
    with AnswerFile(path, "one") as file:
        assert set(file.given) == {3, 4}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that has learned to answer the tiny task's rows. Do not change it."""
    folder = tiny.base_folder(tmp_path_factory.mktemp("teacher"))
    model: Any = from_folder(folder, torch.float32)
    rows = [row for row in encode(WORDS, _examples(24)) if isinstance(row, Encoded)]
    optimizer, sft = torch.optim.AdamW(model.parameters(), lr=0.01), SftSpec().build()
    batch = sft.batch(rows, 0, torch.device("cpu"))
    for _ in range(60):
        loss = sft.loss_sum(model, batch) / batch.loss_weight_BL.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    model.save_pretrained(folder)
    return folder


def _local(teacher: Path, examples: list[Example], folder: Path | None, **answers: Any) -> Learned:
    spec = DistillSpec(teacher=str(teacher), on="answers", answers={"max_tokens": 12} | answers)  # type: ignore[arg-type]
    return spec.build().prepare(_scene(examples, folder))


def test_a_local_teacher_says_what_it_was_taught(teacher: Path, tmp_path: Path) -> None:
    learned = _local(teacher, _examples(24), tmp_path)
    assert learned.facts["teacher"]["ended"] >= 22
    known = dict(enumerate(tiny.THINGS[i // 5 % 6] for i in range(24)))
    right = [
        _taught(row) == f"{known[place]}</s>" for place, row in zip(learned.places or [], learned.train, strict=True)
    ]
    assert sum(right) >= 22
    prompt = encode_prompt(WORDS, _examples(1)[0].prompt())
    assert learned.train[0].input_ids[: len(prompt)].tolist() == prompt  # type: ignore[attr-defined]


def test_a_local_teachers_samples_are_the_same_after_a_kill(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Portions of 4 prompts, of which the last came to be half written."""
    monkeypatch.setattr("tunesmith.methods.distill.answers.BATCH_ROWS", 4)
    how = {"temperature": 3.0, "top_p": 0.99}
    whole, part = tmp_path / "whole", tmp_path / "part"
    for folder in (whole, part):
        folder.mkdir()
        _local(teacher, _examples(20), folder, **how)
    lines = (whole / "teacher-answers.jsonl").read_text("utf-8").splitlines(keepends=True)
    assert len({json.loads(line)["text"] for line in lines[1:]}) > 6, "samples differ"
    (part / "teacher-answers.jsonl").write_text("".join(lines[:11]), "utf-8")
    again = _local(teacher, _examples(20), part, **how)
    assert again.facts == _local(teacher, _examples(20), whole, **how).facts

    def answers(folder: Path) -> dict[int, str]:
        told = [json.loads(line) for line in (folder / "teacher-answers.jsonl").read_text("utf-8").splitlines()[1:]]
        return {one["row"]: one["text"] for one in told}

    assert answers(part) == answers(whole)


def test_a_teacher_of_other_words_answers_too(teacher: Path, tmp_path: Path) -> None:
    """The bundled base has another vocabulary and never ends within 3 tokens."""
    spec = DistillSpec(teacher="bundled/tunesmith-8m", on="answers", answers={"max_tokens": 3})  # type: ignore[arg-type]
    with pytest.raises(ContentError, match="no answer"):
        spec.build().prepare(_scene(_examples(2), tmp_path))
    given = [json.loads(line) for line in (tmp_path / "teacher-answers.jsonl").read_text("utf-8").splitlines()[1:]]
    assert [one["ended"] for one in given] == [False, False]
    assert all(one["text"] for one in given)


def test_an_endpoint_that_is_slow_to_die_does_not_hold_the_run(tmp_path: Path) -> None:
    """What is heard while another waits is kept, and the error comes."""
    with serving(lambda asked: said("x") if _number(asked) < 2 else refused(503, "down")) as server:
        with pytest.raises(MissingError, match="503"):
            _spec(server.url).build().prepare(_scene(_examples(5), tmp_path))
        assert (tmp_path / "teacher-answers.jsonl").read_text("utf-8").count('"row"') == 2
        server.act = endpoint.slowly(0.01, said("x"))
        assert len(_spec(server.url).build().prepare(_scene(_examples(5), tmp_path)).train) == 5
