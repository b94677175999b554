"""Batched generation against transformers' own, one prompt at a time."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

import tiny
from tunesmith.inference.generate import Answer, Sampling, generate, stream

KINDS = ("llama", "gpt2", "gemma2", "qwen3-moe", *tiny.ENCODER_DECODERS)
NEVER = 95
"""A token for `stop` that greedy answers here do not hold."""


def _prompts(count: int = 9) -> list[list[int]]:
    """Prompts of 1 to 20 tokens in no order of length."""
    draw = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 21, (count,), generator=draw).tolist()
    return [torch.randint(3, 90, (n,), generator=draw).tolist() for n in lengths]


def _reference(model: Any, prompt: list[int], most: int, stop: set[int]) -> list[int]:
    """transformers' greedy answer without the stop token."""
    out = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), max_new_tokens=most,
        do_sample=False, eos_token_id=sorted(stop), pad_token_id=0,
        # transformers' own cache is as deep as a T5's encoder, and fails where the decoder is deeper
        use_cache=not model.config.is_encoder_decoder,
    )  # fmt: skip
    tokens = out[0, 1 if model.config.is_encoder_decoder else len(prompt) :].tolist()
    return tokens[:-1] if tokens and tokens[-1] in stop else tokens


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest) -> Any:
    """A tiny model of each kind. Do not change it."""
    return tiny.model(request.param)


def test_batched_greedy_is_transformers_one_by_one(model: Any) -> None:
    prompts = _prompts()
    free = [_reference(model, p, 12, {NEVER}) for p in prompts]
    common = Counter(token for answer in free for token in answer[2:]).most_common(2)
    stop = {token for token, _ in common}  # tokens that do come, so that rows end at different moments
    answers = generate(model, prompts, Sampling(max_tokens=12), pad_id=0, stop_ids=stop)
    wanted = [_reference(model, p, 12, stop) for p in prompts]
    assert [a.token_ids for a in answers] == wanted
    assert len({len(w) for w in wanted}) > 2, "all answers end together: a shrinking batch is not tested"
    assert {a.finish_reason for a in answers} >= {"stop"}
    for answer, alone in zip(answers, free, strict=True):
        cut = len(answer.token_ids)
        assert answer.finish_reason == ("stop" if cut < 12 else "length")
        assert alone[:cut] == answer.token_ids


def test_company_and_padding_do_not_matter(model: Any) -> None:
    prompts = _prompts()
    options: dict[str, Any] = {"pad_id": 0, "stop_ids": {NEVER}}
    together = generate(model, prompts, Sampling(max_tokens=8), **options)
    for size in (1, 2, 4):
        assert generate(model, prompts, Sampling(max_tokens=8), **options, batch_rows=size) == together
    assert generate(model, prompts, Sampling(max_tokens=8), pad_id=77, stop_ids={NEVER}) == together
    assert generate(model, prompts[::-1], Sampling(max_tokens=8), **options) == together[::-1]


def test_stream_gives_the_same_tokens(model: Any) -> None:
    for prompt in _prompts(3):
        [whole] = generate(model, [prompt], Sampling(max_tokens=9), pad_id=0, stop_ids={NEVER})
        assert list(stream(model, prompt, Sampling(max_tokens=9), pad_id=0, stop_ids={NEVER})) == whole.token_ids


@pytest.mark.parametrize("kind", tiny.ENCODER_DECODERS)
def test_the_encoder_reads_once_and_the_decoder_goes_on_from_its_cache(kind: str) -> None:
    model, seen = tiny.model(kind), {"read": 0, "said": 0}
    model.get_encoder().register_forward_hook(lambda *_: seen.update(read=seen["read"] + 1))
    model.get_decoder().register_forward_pre_hook(
        lambda _, args, kwargs: seen.update(said=seen["said"] + kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    generate(model, _prompts(4), Sampling(max_tokens=7), pad_id=0, stop_ids={NEVER})
    assert seen == {"read": 1, "said": 7}


def test_an_answer_is_of_the_whole_prompt_and_no_more() -> None:
    """Padding on the encoder's other side would move BART's places."""
    model = tiny.model("bart")
    short, long = [5, 6, 7], list(range(3, 23))
    [alone] = generate(model, [short], Sampling(max_tokens=8), pad_id=0, stop_ids={NEVER})
    assert generate(model, [short, long], Sampling(max_tokens=8), pad_id=0, stop_ids={NEVER})[0] == alone
    assert generate(model, [[*short, 8]], Sampling(max_tokens=8), pad_id=0, stop_ids={NEVER}) != [alone]


@pytest.fixture(scope="module")
def llama() -> Any:
    return tiny.model()


@pytest.mark.parametrize("most", [1, 2, 7])
def test_the_limit_of_tokens(llama: Any, most: int) -> None:
    answers = generate(llama, _prompts(), Sampling(max_tokens=most), pad_id=0, stop_ids=set())
    assert {(len(a.token_ids), a.finish_reason) for a in answers} == {(most, "length")}


def test_the_context_bounds_prompt_and_answer_together(llama: Any) -> None:
    prompts = [[5] * 30, [6] * 28, [7] * 3, [8] * 40]
    answers = generate(llama, prompts, Sampling(max_tokens=10), pad_id=0, stop_ids=set(), context=30)
    assert [len(a.token_ids) for a in answers] == [0, 2, 10, 0]
    assert {a.finish_reason for a in answers} == {"length"}
    assert list(stream(llama, prompts[0], Sampling(max_tokens=10), pad_id=0, stop_ids=set(), context=30)) == []


def test_a_first_token_that_stops_gives_an_empty_answer(llama: Any) -> None:
    prompt = [5, 6, 7]
    [first] = generate(llama, [prompt], Sampling(max_tokens=1), pad_id=0, stop_ids=set())
    [answer] = generate(llama, [prompt], Sampling(max_tokens=5), pad_id=0, stop_ids=set(first.token_ids))
    assert answer == Answer([], "stop")
    least = Sampling(max_tokens=5, min_tokens=3)
    [answer] = generate(llama, [prompt], least, pad_id=0, stop_ids=set(first.token_ids))
    assert len(answer.token_ids) >= 3
    assert not set(answer.token_ids[:3]) & set(first.token_ids)


def test_sampling_follows_its_seed(llama: Any) -> None:
    def draw(seed: int, **more: float) -> list[list[int]]:
        sampling = Sampling(max_tokens=12, temperature=1.0, seed=seed, **more)
        return [a.token_ids for a in generate(llama, _prompts(4), sampling, pad_id=0, stop_ids=set())]

    torch.manual_seed(1)
    first = draw(7)
    torch.manual_seed(2)
    assert draw(7) == first, "the global random state must not matter"
    assert draw(8) != first
    assert draw(7, top_p=1e-9) == draw(9, top_p=1e-9), "only the likeliest token is left"
    greedy = generate(llama, _prompts(4), Sampling(max_tokens=12), pad_id=0, stop_ids=set())
    assert draw(7, top_p=1e-9) == [a.token_ids for a in greedy]


def test_sampling_leaves_the_global_random_state_alone(llama: Any) -> None:
    before = torch.get_rng_state()
    generate(llama, _prompts(2), Sampling(max_tokens=4, temperature=1.0), pad_id=0, stop_ids=set())
    assert torch.equal(torch.get_rng_state(), before)


def test_samples_have_the_models_probabilities(llama: Any) -> None:
    prompt, many = [5, 6, 7], 4000
    sampling = Sampling(max_tokens=1, temperature=2.0, top_p=0.8)
    answers = generate(llama, [prompt] * many, sampling, pad_id=0, stop_ids=set(), batch_rows=many)
    with torch.no_grad():
        p = (llama(input_ids=torch.tensor([prompt])).logits[0, -1] / 2.0).softmax(-1)
    order = p.argsort(descending=True)
    size = int((p[order].cumsum(0) < 0.8).sum()) + 1  # the smallest set that reaches 0.8
    inside = order[:size].tolist()
    counts = Counter(a.token_ids[0] for a in answers)
    assert set(counts) <= set(inside)
    for token in inside[:5]:
        share = float(p[token] / p[order[:size]].sum())
        deviation = (share * (1 - share) / many) ** 0.5
        assert abs(counts[token] / many - share) < 5 * deviation


def test_a_model_in_training_is_given_back_in_training() -> None:
    model = tiny.model().train()
    seen: list[int] = []
    generate(
        model, _prompts(5), Sampling(max_tokens=2), pad_id=0, stop_ids=set(), batch_rows=2, on_progress=seen.append
    )
    assert model.training
    assert seen == [2, 4, 5]
    assert generate(model, [], Sampling(max_tokens=2), pad_id=0, stop_ids=set()) == []
