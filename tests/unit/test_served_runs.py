"""A run's model through the service is what `tunesmith generate` says; stops are known without weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import asked
import families
import tiny
from tunesmith import api
from tunesmith.core.errors import MissingError
from tunesmith.core.messages import Message
from tunesmith.inference.ask import Ask
from tunesmith.inference.generate import Sampling
from tunesmith.inference.serve import Answering
from tunesmith.inference.stops import stop_ids, stop_ids_of
from tunesmith.models import load
from tunesmith.models.refs import Base
from tunesmith.pipelines.served import served_base, served_run
from tunesmith.pipelines.use import Speaker, conversation
from tunesmith.server.engine import AnsweringSettings

ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {"type": "lora", "r": 4, "alpha": 8},
    "dora": {"type": "lora", "r": 2, "dora": True},
    "full": {"type": "full"},
    "layers": {"type": "layers", "last": 1},
    "prompt": {"type": "prompt"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A short training of each kind."""
    root = tmp_path_factory.mktemp("runs")
    base = tiny.base_folder(root / "base")
    found = {"base": base}
    for name, adapter in ADAPTERS.items():
        task = tiny.write_task(root / f"task-{name}", base, adapter=adapter)
        spec = api.read_recipe(task, ["training.max_steps=6", "training.learning_rate=0.02"])
        api.train(spec, root / name)
        found[name] = root / name
    return found


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_runs_model_says_the_same(name: str, runs: dict[str, Path]) -> None:
    speaker = Speaker(runs[name])
    served = served_run(runs[name], f"ft:{name}")
    with Answering() as service:
        for prompt in ("Tom has a cat, no 3. What?", "Lily has", "</s>"):
            for sampling in (Sampling(20), Sampling(20, 0.9, 0.9, seed=3)):
                messages = conversation(speaker, prompt, None)
                pieces = list(speaker.answer(messages, "tuned", sampling))
                handle = service.submit(Ask(served, sampling, messages))
                [choice] = handle.choices()
                assert choice.text == "".join(piece.text for piece in pieces)
                assert choice.finish_reason == pieces[-1].finish_reason
                assert handle.usage.completion_tokens == pieces[-1].tokens


def test_in_float32_a_run_of_bf16_is_served_as_it_is_generated(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that is fast in bf16, and so would take it."""
    monkeypatch.setattr("tunesmith.engine.precision.cpu_has_bf16", lambda: True)
    task = tiny.write_task(tmp_path / "task", runs["base"], adapter=ADAPTERS["lora"])
    half = ["training.max_steps=2", "training.precision=bf16"]
    api.train(api.read_recipe(task, half), tmp_path / "run")
    engine = AnsweringSettings(precision="fp32").build()
    speaker = Speaker(tmp_path / "run", "fp32")
    messages = conversation(speaker, "Tom has a cat, no 3. What?", None)
    pieces = list(speaker.answer(messages, "tuned", Sampling(20)))
    try:
        served = engine.run(tmp_path / "run", "ft:half", tmp_path / "run" / "adapter")
        [choice] = engine.service.submit(Ask(served, Sampling(20), messages)).choices()
        assert choice.text == "".join(piece.text for piece in pieces)
        base = engine.base(str(runs["base"]))
    finally:
        engine.service.close()
    assert {served.number_type, base.number_type, speaker.tuned.number_type} == {"fp32"}
    assert served_run(tmp_path / "run", "ft:half").number_type == "bf16"
    assert served_base(str(runs["base"])).number_type == "bf16"


def test_a_base_by_itself(runs: dict[str, Path]) -> None:
    served = served_base(str(runs["base"]), called="old-name")
    assert (served.name, served.base.folder, served.adapter) == ("old-name", runs["base"], None)
    with Answering() as service:
        ask = Ask(served, Sampling(4), [Message(role="user", content="a")])
        assert len(service.submit(ask).choices()) == 1
    with pytest.raises(MissingError):
        served_run(runs["base"], "x")


@pytest.mark.parametrize("kind", families.CONFIGS)
def test_stops_are_known_without_weights(kind: str, tmp_path: Path) -> None:
    words = tiny.tokenizer()
    for ends in (None, [2, 7]):
        model = families.model(kind)
        if ends:
            model.generation_config.eos_token_id = ends
        folder = tmp_path / str(ends)
        model.save_pretrained(folder)
        loaded = load.from_folder(folder, model.dtype)
        assert stop_ids_of(Base("b", folder), words) == stop_ids(loaded, words)
        (folder / "generation_config.json").unlink(missing_ok=True)
        loaded = load.from_folder(folder, model.dtype)
        assert stop_ids_of(Base("b", folder), words) == stop_ids(loaded, words)
    assert stop_ids_of(asked.BUNDLED_BASE, asked.bundled()[1]) == stop_ids(*asked.bundled())
