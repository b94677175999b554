"""Templates that show the date show the run's: on every day, in every process, in training and in serving."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from tunesmith.core import clock
from tunesmith.core.errors import ConflictError, ContentError
from tunesmith.core.events import silent
from tunesmith.core.messages import Example, Message
from tunesmith.data.template import render
from tunesmith.data.tokenize import encode_prompt
from tunesmith.models.dated import dated
from tunesmith.models.find import find
from tunesmith.models.refs import Base
from tunesmith.models.tokenizer import tokenizer as load_tokenizer
from tunesmith.pipelines import journey, train
from tunesmith.pipelines.crew import Crew
from tunesmith.pipelines.encoding import Encoding
from tunesmith.pipelines.read_recipe import read_recipe
from tunesmith.pipelines.rundir import RunDir
from tunesmith.pipelines.train import identity
from tunesmith.pipelines.use import Speaker

TURNS = "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
PROMPT = "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
# The ways in which published templates ask.
ASKING = {
    "llama 3.2": (
        "{% if not date_string is defined %}{% if strftime_now is defined %}"
        "{% set date_string = strftime_now(\"%d %b %Y\") %}{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}"
        "{% endif %}Today Date: {{ date_string }}\n",
        "Today Date: 29 Feb 2024\n",
    ),
    "mistral small 3": (
        '{%- set today = strftime_now("%Y-%m-%d") %}{{ "The date is " + today }}\n',
        "The date is 2024-02-29\n",
    ),
    "smollm3": (
        '{%- set today = strftime_now("%d %B %Y") -%}Today Date: {{ today }}\n',
        "Today Date: 29 February 2024\n",
    ),
    "spaced": ("{{ strftime_now( format='%A' ) }}\n", "Thursday\n"),
}  # fmt: skip
ASKED = (Message(role="user", content="a?"),)


def _shown(template: str, date: str) -> str:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = dated(template + TURNS + PROMPT, date)
    return render(tokenizer, ASKED, None, prompt=True)


@pytest.mark.parametrize("name", ASKING)
def test_the_day_given_is_shown_and_nothing_else_changes(name: str) -> None:
    template, shown = ASKING[name]
    assert _shown(template, "2024-02-29").startswith(shown)
    assert _shown(template, "2024-02-29").endswith("<s>user\na?</s>\n<s>assistant\n")
    assert _shown(template, "2025-03-01") != _shown(template, "2024-02-29")


def test_a_date_that_a_template_holds_ready_is_left_alone() -> None:
    own = "{% if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}{{ date_string }}\n"
    assert dated(own, "2025-01-01") == own


def test_a_form_that_nobody_can_know_beforehand_is_refused() -> None:
    with pytest.raises(ContentError, match="cannot be held fast"):
        dated("{% set form = '%Y' %}{{ strftime_now(form) }}", "2025-01-01")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base whose template asks the clock."""
    folder = tiny.base_folder(tmp_path / "base")
    words = tiny.tokenizer()
    words.chat_template = ASKING["llama 3.2"][0] + TURNS + PROMPT
    words.save_pretrained(folder)
    return folder


def test_a_loaded_tokenizer_knows_one_day_only(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "today", lambda: "2024-02-29")
    loaded = load_tokenizer(Base("x", base), "")
    monkeypatch.setattr(clock, "today", lambda: "2024-03-01")
    assert "Today Date: 29 Feb 2024" in render(loaded, ASKED, None)


def test_every_template_of_several_is_held(base: Path) -> None:
    words = tiny.tokenizer()
    words.chat_template = {"default": ASKING["smollm3"][0] + TURNS, "tool_use": ASKING["llama 3.2"][0] + TURNS}
    words.save_pretrained(base)
    loaded = load_tokenizer(Base("x", base), "", "2024-02-29")
    assert "29 February 2024" in render(loaded, ASKED, None)
    tool = {"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}
    assert "Today Date: 29 Feb 2024" in render(loaded, ASKED, [tool])


def test_workers_show_the_day_that_they_are_told(base: Path) -> None:
    rows = [Example(messages=(*ASKED, Message(role="assistant", content=str(i)))) for i in range(6)]

    def tokens(workers: int) -> list[Any]:
        with Crew(str(base), "2024-02-29", workers) as crew:
            encoding = Encoding(load_tokenizer(find(str(base)), "", "2024-02-29"), rows, crew)
            return [made[0][1].input_ids.tolist() for _, made in encoding.of(np.arange(len(rows)))]  # type: ignore[index]

    assert tokens(2) == tokens(1)


def test_a_run_keeps_its_day_in_training_resuming_and_serving(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read_recipe(tiny.write_task(tmp_path, base), ["training.max_steps=3"])
    out = tmp_path / "run"
    monkeypatch.setattr(clock, "today", lambda: "2024-02-29")
    run = journey.train_only(recipe, out, resume=False, sink=silent)
    monkeypatch.setattr(clock, "today", lambda: "2024-03-01")
    facts = run.read_json("run.json")
    assert facts["date"] == "2024-02-29"
    speaker = Speaker(out)
    assert "29 Feb 2024" in speaker.tuned.tokenizer.decode(encode_prompt(speaker.tuned.tokenizer, ASKED))
    assert "29 Feb 2024" in (out / "adapter" / "chat_template.jinja").read_text("utf-8")

    assert journey.train_only(recipe, out, resume=True, sink=silent).read_json("run.json")["date"] == "2024-02-29"
    assert run.read_json("run.json")["tokens_fingerprint"] == facts["tokens_fingerprint"]
    run.update(date="2024-03-01")
    with pytest.raises(ConflictError, match=r"changed since it was started: tokens\n"):
        journey.train_only(recipe, out, resume=True, sink=silent)
    (out / "run.json").unlink()  # then the checkpoint itself must tell
    with pytest.raises(ConflictError, match=r"changed since its checkpoint: tokens\n"):
        journey.train_only(recipe, out, resume=True, sink=silent)


def test_a_run_of_an_older_version_goes_on(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = read_recipe(tiny.write_task(tmp_path, base), ["training.max_steps=3"])
    with monkeypatch.context() as older:
        older.setattr(train, "identity", lambda made: {k: v for k, v in identity(made).items() if k != "tokens"})
        run = journey.train_only(recipe, tmp_path / "run", resume=False, sink=silent)
    state = json.loads((run.checkpoints / "step-3" / "state.json").read_text("utf-8"))
    assert set(state["identity"]) == {"recipe", "data", "base", "tokenizer"}
    facts = run.read_json("run.json")
    run.write_json("run.json", {k: v for k, v in facts.items() if k not in ("date", "tokens_fingerprint")})
    assert RunDir(run.path).date() == facts["created"][:10]
    again = journey.train_only(recipe, run.path, resume=True, sink=silent).read_json("run.json")
    assert (again["status"], again["id"]) == ("trained", facts["id"])
    assert json.dumps(again["tokens_fingerprint"]) == json.dumps(facts["tokens_fingerprint"])
