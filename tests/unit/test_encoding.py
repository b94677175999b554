"""Rows tokenized by worker processes come out as they do in one."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunesmith.core.errors import TunesmithError
from tunesmith.core.messages import Example, Message
from tunesmith.data.template import TemplateError
from tunesmith.data.tokenize import encode_rows
from tunesmith.data.wire import read_frame, write_frame
from tunesmith.models.find import find
from tunesmith.models.tokenizer import tokenizer as load_tokenizer
from tunesmith.pipelines import crew
from tunesmith.pipelines.crew import Crew
from tunesmith.pipelines.encoding import Encoding

# Shows the answers but the last without their end, and refuses tools: rows come whole, in pieces, and not at all.
FORGETFUL = (
    "{% for m in messages %}{% if m['role'] == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{{ '<|im_end|>' if m['role'] != 'assistant' or loop.last else '...' }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def row(number: int, *turns: tuple[str, str]) -> Example:
    return Example(messages=tuple(Message(role=r, content=c) for r, c in turns), origin=f"f:{number}")  # type: ignore[arg-type]


def rows(count: int) -> list[Example]:
    asked, said = ("user", "what is <|im_end|> for?"), ("assistant", "it ends a turn")
    kinds = [(asked, said), (asked, said, asked, said), (asked, ("tool", "x"), said)]
    return [row(number, ("system", f"row {number}"), *kinds[number % 3]) for number in range(count)]


@pytest.fixture
def base(tmp_path: Path, bundled_tokenizer: Any) -> str:
    """A folder with a tokenizer under a template that forgets and refuses."""
    import json

    found = find("bundled/tunesmith-8m")
    tokenizer = load_tokenizer(found, FORGETFUL)
    tokenizer.chat_template = FORGETFUL
    tokenizer.save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["x"]}))
    (tmp_path / "base" / "model.safetensors").touch()
    return str(tmp_path / "base")


def facts(shown: Any) -> list[Any]:
    return [
        (example.origin, str(made))
        if isinstance(made, TemplateError)
        else (example.origin, [(p, e.input_ids.tolist(), e.loss_weight.tolist()) for p, e in made])
        for example, made in shown
    ]


def test_workers_make_the_same_tokens_in_the_same_order(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "PORTION", 7)
    tokenizer = load_tokenizer(find(base), "")
    alone = facts(encode_rows(tokenizer, rows(60)))
    assert {len(made) for _, made in alone if isinstance(made, list)} == {1, 2}
    assert any(isinstance(made, str) for _, made in alone)
    with Crew(base, workers=2) as workers:
        made = Encoding(tokenizer, rows(60), workers)
        assert facts(made.of(np.arange(60))) == alone
        assert facts(made.of(np.array([0, 6, 7, 59]))) == [alone[i] for i in (0, 6, 7, 59)]


def test_a_worker_that_is_killed_is_told_and_none_is_left(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "PORTION", 1)
    started: list[Any] = []
    start = crew.subprocess.Popen

    def noted(*args: Any, **options: Any) -> Any:
        started.append(start(*args, **options))
        return started[-1]

    monkeypatch.setattr(crew.subprocess, "Popen", noted)
    many = rows(3000)
    with Crew(base, workers=2) as workers:
        tokens = Encoding(load_tokenizer(find(base), ""), many, workers).of(np.arange(len(many)))
        next(tokens)
        for process in started:
            os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(TunesmithError, match="a process that works on rows ended"):
            list(tokens)
    assert [process.poll() for process in started] == [-signal.SIGKILL] * 2


def test_few_rows_start_no_worker(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "_Worker", None)
    tokenizer = load_tokenizer(find(base), "")
    assert len(list(Encoding(tokenizer, rows(6), Crew(base)).of(np.arange(6)))) == 6
    monkeypatch.setattr(crew, "ENOUGH_ROWS", 6)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(crew.os.cpu_count()))
    assert len(list(Encoding(tokenizer, rows(6), Crew(base)).of(np.arange(6)))) == 6


def test_leaving_early_ends_the_workers(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "PORTION", 1)
    with Crew(base, workers=2) as workers:
        next(Encoding(load_tokenizer(find(base), ""), rows(3000), workers).of(np.arange(3000)))
        started = workers._running._workers  # type: ignore[union-attr]
    assert all(worker._process.poll() is not None for worker in started)


@pytest.mark.parametrize("cut", [0, 5, 8, 12])
def test_a_frame_that_ends_early_is_none(cut: int) -> None:
    stream = io.BytesIO()
    write_frame(stream, b"12345")
    assert read_frame(io.BytesIO(stream.getvalue())) == b"12345"
    assert read_frame(io.BytesIO(stream.getvalue()[:cut])) is None
    assert np.frombuffer(stream.getvalue()[:8], np.uint64)[0] == 5
