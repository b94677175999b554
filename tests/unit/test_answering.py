"""The answering service on tiny models: what it answers, in what order, and under which limits."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import asked
import tiny
from tunesmith.adapters.config import BottleneckSpec, Ia3Spec, LoraSpec, PrefixSpec
from tunesmith.core.errors import ContentError
from tunesmith.core.messages import Message
from tunesmith.data.tokenize import encode_prompt
from tunesmith.inference.ask import Ask, Limits, Piece, Served
from tunesmith.inference.batcher import Turns, Waiting
from tunesmith.inference.errors import AskError, BusyError, ClosedError, NoRoomError, TooLongError
from tunesmith.inference.generate import Sampling, generate
from tunesmith.inference.serve import Answering
from tunesmith.inference.slots import Slots, key_of

SPECS: dict[str, Any] = {
    "lora": LoraSpec(r=4, alpha=8),
    "dora": LoraSpec(r=2, dora=True),
    "ia3": Ia3Spec(),
    "prefix": PrefixSpec(),
    "bottleneck": BottleneckSpec(width=8),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with adapters of several kinds: `base`, `a`, `b`, and one named after each of SPECS."""
    root = tmp_path_factory.mktemp("served")
    tiny.base_folder(root / "base")
    asked.adapter(root / "a", root / "base", seed=1)
    asked.adapter(
        root / "b", root / "base", LoraSpec(r=3, alpha=9, rslora=True, targets=("q_proj", "down_proj")), seed=2
    )
    return root


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, Served]:
    base = folder / "base"
    return {
        "base": asked.served(base, name="base"),
        "a": asked.served(base, folder / "a", SPECS["lora"], "a"),
        "b": asked.served(base, folder / "b", None, "b"),
    }


@pytest.fixture(scope="module")
def service() -> Iterator[Answering]:
    with Answering(Limits(rows=8, batches=3)) as made:
        yield made


def _reference(folder: Path, name: str, spec: Any = None) -> Any:
    """The model as a run opens it: by its own adapter, not beside others."""
    from tunesmith.models import load
    from tunesmith.models.refs import Base

    model: Any = load.model(Base("base", folder / "base"), torch.float32)
    if name != "base":
        spec = spec or SPECS["lora"]
        made = spec.build()
        made.attach(model)
        made.load(folder / name)
    return model.eval()


B = LoraSpec(r=3, alpha=9, rslora=True, targets=("q_proj", "down_proj"))


def _gap(model: Any, prompt: list[int], answer: list[int]) -> float:
    """How far apart the two best logits are behind `answer`."""
    with torch.no_grad():
        best = model(input_ids=torch.tensor([prompt + answer])).logits[0, -1].topk(2).values
    return float(best[0] - best[1])


def _traffic(folder: Path, models: dict[str, Served], service: Answering, count: int) -> tuple[int, list[float]]:
    """(answers, the gap between the best logits where one differs from what generate says alone)."""
    draw = random.Random(5)
    words = tiny.tokenizer()
    references = {"base": _reference(folder, "base"), "a": _reference(folder, "a"), "b": _reference(folder, "b", B)}
    sent = []
    for number in range(count):
        name = draw.choice(list(models))
        content = " ".join(draw.choices([*tiny.THINGS, *tiny.NAMES, "has", "a"], k=draw.randint(1, 20)))
        sampling = {"max_tokens": draw.randint(1, 14), "temperature": draw.choice([0, 0, 0.8]), "seed": number}
        ask = asked.ask(models[name], content, key=draw.choice("xyz"), **sampling)
        sent.append((name, ask, service.submit(ask)))
    gaps = []
    for name, ask, handle in sent:
        [choice] = handle.choices()
        prompt = encode_prompt(words, ask.messages)
        model = references[name]
        [alone] = generate(model, [prompt], ask.sampling, pad_id=0, stop_ids={2}, context=tiny.CONTEXT)
        if list(choice.token_ids) != alone.token_ids:
            same = next(i for i in range(99) if choice.token_ids[: i + 1] != tuple(alone.token_ids[: i + 1]))
            gaps.append(_gap(model, prompt, alone.token_ids[:same]))
            continue
        assert choice.text == words.decode(alone.token_ids, skip_special_tokens=True)
        assert choice.finish_reason == alone.finish_reason
        assert (handle.usage.prompt_tokens, handle.usage.completion_tokens) == (len(prompt), len(alone.token_ids))
    return count, gaps


def test_served_is_generated_for_random_traffic(folder: Path, models: Any, service: Answering) -> None:
    count, gaps = _traffic(folder, models, service, 60)
    assert len(gaps) <= count / 1000
    assert all(gap <= 1e-3 for gap in gaps)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_served_is_generated_for_much_random_traffic(folder: Path, models: Any) -> None:
    with Answering(Limits(waiting=10_000)) as service:
        count, gaps = _traffic(folder, models, service, 1000)
    assert len(gaps) <= count / 1000
    assert all(gap <= 1e-3 for gap in gaps)


@pytest.mark.parametrize("family", ["dora", "ia3", "prefix", "bottleneck"])
def test_families_that_cannot_share_a_base_have_one_of_their_own(family: str, folder: Path, service: Answering) -> None:
    if not (folder / family).exists():
        asked.adapter(folder / family, folder / "base", SPECS[family], seed=3)
    model = _reference(folder, family, SPECS[family])
    served = asked.served(folder / "base", folder / family, SPECS[family], family)
    prompt = encode_prompt(tiny.tokenizer(), asked.ask(served).messages)
    [alone] = generate(model, [prompt], Sampling(12), pad_id=0, stop_ids={2})
    [choice] = service.submit(asked.ask(served)).choices()
    assert list(choice.token_ids) == alone.token_ids
    [base] = service.submit(asked.ask(asked.served(folder / "base"))).choices()
    assert base.token_ids != choice.token_ids


def test_bases_are_loaded_once_and_loras_stand_beside_them(models: Any, folder: Path) -> None:
    slots = Slots(1 << 30)
    held = {name: slots.hold(served) for name, served in models.items()}
    assert held["a"].model is held["b"].model is held["base"].model
    assert slots.hold(models["a"]) is held["a"]
    assert slots.loaded()["a"] < slots.loaded()[str(folder / "base")]
    other = Served("x", models["a"].base, models["a"].adapter, models["a"].spec)
    assert key_of(other) == key_of(models["a"])


def test_what_was_used_longest_ago_goes_first_and_what_is_held_never(models: Any, folder: Path) -> None:
    base = str(folder / "base")
    probe = Slots(1 << 30)
    sizes = {name: probe.hold(models[name]).bytes for name in models}
    sizes["a"], sizes["b"] = (sum(f.stat().st_size for f in (folder / n).glob("*.safetensors")) for n in "ab")
    slots = Slots(sizes["base"] + max(sizes["a"], sizes["b"]) + 100)
    first = slots.hold(models["a"])
    with pytest.raises(NoRoomError) as caught:
        slots.hold(models["b"])
    assert caught.value.held, "there is room once a is given back"
    slots.give_back(first)
    second = slots.hold(models["b"])
    assert set(slots.loaded()) == {base, "b"}
    slots.give_back(second)
    slots.give_back(slots.hold(models["a"]))
    assert set(slots.loaded()) == {base, "a"}
    assert slots.forget(folder / "base")
    assert slots.loaded() == {}
    with pytest.raises(NoRoomError) as caught:
        Slots(100).hold(models["base"])
    assert not caught.value.held
    with pytest.raises(NoRoomError) as caught:
        Slots(sizes["base"] + 10).hold(models["a"])
    assert not caught.value.held, "its own base, held to load it, is nobody's use of it"


def test_of_two_the_one_used_longer_ago_goes(models: Any, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "a", tmp_path / "c")
    third = asked.served(folder / "base", tmp_path / "c", SPECS["lora"], "c")
    probe = Slots(1 << 30)
    both = sum(probe.hold(models[name]).bytes for name in ("base", "a"))
    slots = Slots(both + (tmp_path / "c" / "adapter_model.safetensors").stat().st_size + 100)
    for name in ("a", "b", "a"):
        slots.give_back(slots.hold(models[name]))
    slots.give_back(slots.hold(third))
    assert set(slots.loaded()) == {str(folder / "base"), "a", "c"}


def test_a_model_without_room_waits_for_it_and_one_that_never_fits_is_told(models: Any, folder: Path) -> None:
    size = Slots(1 << 30).hold(models["base"]).bytes
    with Answering(Limits(memory=size + (folder / "a" / "adapter_model.safetensors").stat().st_size + 100)) as service:
        handles = [service.submit(asked.ask(models[name], max_tokens=30)) for name in ("a", "b", "a", "base", "b")]
        assert all(len(handle.choices()) == 1 for handle in handles)
    with Answering(Limits(memory=size - 100)) as service:
        with pytest.raises(NoRoomError):
            service.submit(asked.ask(models["base"])).choices()
        with pytest.raises(NoRoomError):
            service.embed(models["base"], ["a"]).result(60)


def test_several_answers_to_one_prompt(models: Any, service: Answering) -> None:
    handle = service.submit(asked.ask(models["a"], temperature=1.0, seed=4, n=5))
    choices = handle.choices()
    assert len({choice.token_ids for choice in choices}) > 2
    assert handle.usage.completion_tokens == sum(len(choice.token_ids) for choice in choices)
    [first] = service.submit(asked.ask(models["a"], temperature=1.0, seed=4)).choices()
    assert choices[0] == first, "the first is drawn with the seed itself"
    assert service.submit(asked.ask(models["a"], temperature=1.0, seed=4, n=5)).choices() == choices


def test_a_stop_text_ends_the_answer_and_is_left_out(models: Any, service: Answering) -> None:
    [free] = service.submit(asked.ask(models["a"], max_tokens=30)).choices()
    assert len(free.text) > 12
    stop = free.text[7:10]
    at = free.text.find(stop)
    handle = service.submit(asked.ask(models["a"], max_tokens=30, stop=("never this", stop)))
    pieces = list(handle)
    assert "".join(piece.text for piece in pieces) == free.text[:at]
    assert pieces[-1].finish_reason == "stop"
    assert handle.usage.completion_tokens < len(free.token_ids)


def test_log_probabilities_of_answer_and_prompt(folder: Path, models: Any, service: Answering) -> None:
    model, words = _reference(folder, "a"), tiny.tokenizer()
    ask = asked.ask(models["a"], logprobs=3, prompt_logprobs=True)
    [choice] = service.submit(ask).choices()
    prompt = encode_prompt(words, ask.messages)
    with torch.no_grad():
        said = model(input_ids=torch.tensor([prompt + list(choice.token_ids)])).logits[0].log_softmax(-1)
    told = (*choice.prompt, *choice.logprobs)
    assert [one.token_id for one in told] == prompt + list(choice.token_ids)
    assert told[0].logprob is None
    for place, one in enumerate(told[1:]):
        assert one.logprob == pytest.approx(float(said[place, one.token_id]), abs=1e-4)
        assert [other.token_id for other in one.top] == said[place].topk(3).indices.tolist()
    assert b"".join(one.bytes for one in choice.logprobs).decode("utf-8", "replace") == choice.text


def test_a_plain_prompt_is_continued_as_text_or_as_tokens(folder: Path, models: Any, service: Answering) -> None:
    words = tiny.tokenizer()
    text = "Tom has a"
    ids = words(text)["input_ids"]
    [alone] = generate(_reference(folder, "base"), [ids], Sampling(6), pad_id=0, stop_ids={2})
    for prompt in (text, ids):
        [choice] = service.submit(Ask(models["base"], Sampling(6), prompt=prompt)).choices()
        assert list(choice.token_ids) == alone.token_ids
    assert service.tokens(models["base"], text) == ids
    assert service.text(models["base"], [1, *ids]) == "<s>" + text
    assert service.submit(Ask(models["base"], Sampling(2), prompt="")).usage.prompt_tokens == 1


def test_what_cannot_be_answered_is_told_at_once(models: Any, folder: Path, service: Answering) -> None:
    base = models["base"]
    wrong = {
        "n": asked.ask(base, n=0),
        "messages": Ask(base, Sampling(3)),
        "logit_bias": asked.ask(base, logit_bias={9999: 1.0}),
        "prompt": Ask(base, Sampling(3), prompt=[5, 9999]),
    }
    for param, ask in wrong.items():
        with pytest.raises(AskError) as caught:
            service.submit(ask)
        assert caught.value.param == param
    with pytest.raises(TooLongError) as long:
        service.submit(asked.ask(base, "cat " * 200))
    assert long.value.tokens > long.value.limit == tiny.CONTEXT - 1
    with pytest.raises(ContentError):
        service.submit(asked.ask(asked.served(folder / "nowhere")))
    with pytest.raises(ContentError):
        service.submit(asked.ask(asked.served(folder / "base", folder / "nowhere", SPECS["lora"]))).choices()
    handle = service.submit(asked.ask(base, max_tokens=3))
    assert len(handle.choices()[0].token_ids) == 3, "the service goes on"


def test_an_answer_ends_with_the_context(models: Any, service: Answering) -> None:
    handle = service.submit(asked.ask(models["a"], "cat " * 50, max_tokens=10_000))
    [choice] = handle.choices()
    assert choice.finish_reason == "length"
    assert handle.usage.prompt_tokens + len(choice.token_ids) == tiny.CONTEXT


def test_tokens_at_work_are_bounded_and_answers_too(models: Any) -> None:
    with Answering(Limits(tokens=100, answer_tokens=40)) as service:
        first = service.submit(asked.ask(models["base"], max_tokens=10_000))
        next(iter(first))
        second = service.submit(asked.ask(models["a"], max_tokens=40))
        seen = 0
        while not second.usage.completion_tokens and second.open:
            seen = max(seen, service.load().running)
        assert seen == 1, "two of them would be more than 100 tokens"
        assert len(first.choices()[0].token_ids) < 40, "the first piece was read above"
        assert first.usage.completion_tokens == 40
        assert len(second.choices()[0].token_ids) == 40


def test_a_full_queue_refuses_and_a_closed_service_says_so(models: Any) -> None:
    service = Answering(Limits(waiting=4, rows=1, batches=1))
    with pytest.raises(BusyError):
        service.submit(asked.ask(models["base"], n=5))
    running = service.submit(asked.ask(models["base"], max_tokens=100))
    next(iter(running))
    waiting = service.submit(asked.ask(models["base"], n=4))
    with pytest.raises(BusyError):
        service.submit(asked.ask(models["base"]))
    assert (service.load().waiting, service.load().running) == (4, 1)
    service.close()
    for handle in (running, waiting):
        with pytest.raises(ClosedError):
            handle.choices()
    with pytest.raises(ClosedError):
        service.submit(asked.ask(models["base"]))
    with pytest.raises(ClosedError):
        service.embed(models["base"], ["a"])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_is_left_waiting_when_the_thread_dies(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    service = Answering()
    monkeypatch.setattr(service, "_admit", broken)
    with pytest.raises(ClosedError):
        service.submit(asked.ask(models["base"])).choices()
    with pytest.raises(ClosedError):
        service.submit(asked.ask(models["base"]))
    service.close()


def test_a_cancelled_request_makes_no_more_tokens(models: Any) -> None:
    with Answering(Limits(rows=2, batches=1)) as service:
        handle = service.submit(asked.ask(models["a"], max_tokens=120))
        pieces = iter(handle)
        next(pieces)
        waiting = service.submit(asked.ask(models["base"], max_tokens=4, n=2))
        late = service.submit(asked.ask(models["base"], max_tokens=4))
        late.cancel()
        handle.cancel()
        assert list(pieces) == []
        assert len(waiting.choices()) == 2
        done = handle.usage.completion_tokens
        assert done < 110
        assert late.choices() == []
        assert late.usage.completion_tokens == 0
        time.sleep(0.05)
        assert (handle.usage.completion_tokens, service.load().running) == (done, 0)


class Together(Turns):
    """Nothing is taken before so many wait; notes whose turn it was."""

    def __init__(self, begin: int) -> None:
        super().__init__(room=begin)
        self.begin, self.order = begin, list[str]()

    def first(self) -> Waiting | None:
        return super().first() if self.order or len(self) == self.begin else None

    def take(self, most: int, fits: Callable[[Waiting], bool]) -> list[Waiting]:
        taken = super().take(most, fits) if self.first() else []
        self.order += [waiting.key for waiting in taken]
        return taken


def test_keys_take_turns(models: Any) -> None:
    together = Together(7)
    with Answering(Limits(rows=1, batches=1), together) as service:
        handles = [service.submit(asked.ask(models["base"], max_tokens=2, key="greedy")) for _ in range(6)]
        handles.append(service.submit(asked.ask(models["a"], max_tokens=2, key="modest")))
        for handle in handles:
            handle.choices()
    assert together.order == ["greedy", "modest", *["greedy"] * 5]


def test_a_short_answer_does_not_wait_for_a_long_one(models: Any) -> None:
    with Answering(Limits(rows=4, batches=2)) as service:
        long = service.submit(asked.ask(models["a"], max_tokens=140))
        next(iter(long))
        short = service.submit(asked.ask(models["b"], max_tokens=3))
        assert len(short.choices()) == 1
        assert long.open
        long.cancel()


def test_an_event_loop_waits_for_many_answers_at_once(models: Any, service: Answering) -> None:
    async def streamed(name: str) -> list[Piece]:
        return [piece async for piece in service.submit(asked.ask(models[name], max_tokens=8))]

    async def left_early() -> Any:
        handle = service.submit(asked.ask(models["a"], max_tokens=120))
        pieces = handle.__aiter__()
        await anext(pieces)
        await pieces.aclose()
        return handle

    async def all_of_them() -> Any:
        return await asyncio.gather(*(streamed(name) for name in "abababab"), left_early())

    *answers, left = asyncio.run(all_of_them())
    assert left.cancelled
    for name, pieces in zip("abababab", answers, strict=True):
        [choice] = service.submit(asked.ask(models[name], max_tokens=8)).choices()
        assert "".join(piece.text for piece in pieces) == choice.text
        assert [piece.finish_reason for piece in pieces][-1] == choice.finish_reason


def test_what_goes_wrong_in_one_batch_ends_that_one_alone(models: Any, folder: Path) -> None:
    broken = folder / "broken"
    if not broken.exists():
        asked.adapter(broken, folder / "base", seed=9)
        from safetensors.torch import load_file, save_file

        tensors = {
            name: torch.full_like(t, float("nan"))
            for name, t in load_file(broken / "adapter_model.safetensors").items()
        }
        save_file(tensors, broken / "adapter_model.safetensors", metadata={"format": "pt"})
    with Answering() as service:
        handle = service.submit(asked.ask(models["a"], max_tokens=60))
        next(iter(handle))
        with pytest.raises(RuntimeError):
            service.submit(asked.ask(asked.served(folder / "base", broken, SPECS["lora"]), temperature=1.0)).choices()
        assert len(handle.choices()) == 1


def test_embeddings_are_mean_hidden_states(folder: Path, models: Any, service: Answering) -> None:
    texts = ["Tom has a ball", "cat", "a hat"]
    vectors, tokens = service.embed(models["a"], texts).result(60)
    model, words = _reference(folder, "a"), tiny.tokenizer()
    ids = [words(text)["input_ids"] for text in texts]
    assert tokens == sum(map(len, ids))
    for one, vector in zip(ids, vectors, strict=True):
        with torch.no_grad():
            mean = model.model(input_ids=torch.tensor([one]))[0][0].mean(0)
        torch.testing.assert_close(torch.tensor(vector), mean / mean.norm(), rtol=1e-4, atol=1e-5)


def test_a_deleted_model_is_forgotten_once_nobody_uses_it(models: Any, folder: Path) -> None:
    with Answering(Limits(rows=2)) as service:
        handle = service.submit(asked.ask(models["a"], max_tokens=100))
        next(iter(handle))
        gone = service.forget(folder / "a")
        assert not gone.done() or not handle.open
        handle.choices()
        gone.result(30)
        assert set(service.load().loaded) == {str(folder / "base")}


def test_a_template_without_end_is_ended(tmp_path: Path, service: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.inference.words.TEMPLATE_SECONDS", 0.3)
    base = tiny.base_folder(tmp_path / "base")
    loops = "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}"
    template = "{% if messages[0].content == 'loop' %}" + loops + "{% endif %}" + tiny.TEMPLATE
    (base / "chat_template.jinja").write_text(template, "utf-8")
    with pytest.raises(AskError) as caught:
        service.submit(asked.ask(asked.served(base), "loop"))
    assert caught.value.param == "messages"
    assert "took too long" in str(caught.value)
    assert len(service.submit(asked.ask(asked.served(base), "no loop")).choices()) == 1


@pytest.mark.parametrize("kind", ["gpt2", "gemma2", "qwen3-moe", "t5", "bart"])
def test_other_kinds_of_models(kind: str, tmp_path: Path, service: Answering) -> None:
    base = tiny.base_folder(tmp_path / "base", kind)
    lora, reference = asked.adapter(tmp_path / "lora", base, LoraSpec(r=2, alpha=4))
    words = tiny.tokenizer()
    messages = [Message(role="user", content="Sue has a hat. What?")]
    prompt = encode_prompt(words, messages)
    [alone] = generate(reference, [prompt], Sampling(9), pad_id=0, stop_ids={2}, context=tiny.CONTEXT)
    served = asked.served(base, lora, LoraSpec(r=2, alpha=4))
    [choice] = service.submit(Ask(served, Sampling(9), messages)).choices()
    assert list(choice.token_ids) == alone.token_ids
    vectors, _ = service.embed(served, ["a", "the cat"]).result(60)
    assert all(torch.tensor(v).norm() == pytest.approx(1, abs=1e-4) for v in vectors)
