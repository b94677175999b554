"""How each row's next token is chosen, by rules of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

import families
import tiny
from tunesmith.inference.batch import Batch, Line
from tunesmith.inference.choose import Told, choose
from tunesmith.inference.generate import generate
from tunesmith.inference.sampling import Sampling

NEVER = {95}


@dataclass
class Row:
    """What `choose` sees."""

    sampling: Sampling = field(default_factory=lambda: Sampling(8))
    random: Any = None
    constraint: Any = None
    logprobs: int | None = None
    tokens: list[int] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)


@pytest.fixture(scope="module")
def llama() -> Any:
    return tiny.model()


def _written(model: Any, lines: list[Line], stop_ids: set[int] = NEVER) -> list[list[int]]:
    for _ in Batch(model, lines, 0, stop_ids).steps():
        pass
    return [line.tokens for line in lines]


def test_penalties_are_taken_from_what_the_answer_holds() -> None:
    logits = torch.tensor([[3.0, 2.9, 1.0, 0.0]])
    for more, wanted in (
        ({"presence_penalty": 0.05}, 0),
        ({"presence_penalty": 0.2}, 1),
        ({"frequency_penalty": 0.04}, 1),
        ({"frequency_penalty": 0.02}, 0),
        ({"presence_penalty": -1.0}, 0),
        ({"logit_bias": {2: 2.5}}, 2),
        ({"logit_bias": {0: -100, 1: -100}}, 2),
    ):
        row = Row(Sampling(8, **more), tokens=[0, 0, 0])
        assert choose(logits.clone(), [row], set()).tolist() == [wanted], more


def test_penalties_change_their_own_row_alone(llama: Any) -> None:
    prompt = [5, 6, 7]
    [plain] = generate(llama, [prompt], Sampling(12), pad_id=0, stop_ids=NEVER)
    first = plain.token_ids[0]
    lines = [
        Line(prompt, Sampling(12)),
        Line(prompt, Sampling(12, logit_bias={first: -100})),
        Line(prompt, Sampling(12)),
    ]
    free, banned, again = _written(llama, lines)
    assert free == again == plain.token_ids
    assert first not in banned
    once = _written(llama, [Line(prompt, Sampling(40, presence_penalty=2.0, frequency_penalty=2.0))])[0]
    assert len(set(once)) > len(set(_written(llama, [Line(prompt, Sampling(40))])[0]))


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2", "qwen3-moe", "t5", "bart"])
def test_log_probabilities_are_those_of_a_plain_forward(kind: str) -> None:
    """At every place, whatever bias, temperature and company do to the choice."""
    model = families.model(kind)
    prompts = [[5, 6, 7, 8, 9], [11, 12], [20, 21, 22]]
    lines = [
        Line(prompts[0], Sampling(6), logprobs=3),
        Line(prompts[1], Sampling(4, 1.3, logit_bias={40: 3.0}), torch.Generator().manual_seed(1), logprobs=0),
        Line(prompts[2], Sampling(5, presence_penalty=1.0), logprobs=5),
    ]
    answers = _written(model, lines)
    for prompt, line, answer in zip(prompts, lines, answers, strict=True):
        assert len(line.told) == len(answer) > 0
        said = _forward(model, prompt, answer)
        for place, (told, token) in enumerate(zip(line.told, answer, strict=True)):
            assert told.logprob == pytest.approx(float(said[place, token]), abs=1e-4)
            top = said[place].topk(line.logprobs or 0)
            assert told.top_logprobs == pytest.approx(tuple(top.values.tolist()), abs=1e-4)
            assert len(told.top_ids) == line.logprobs


def _forward(model: Any, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """Log-probabilities [answer, vocabulary] by transformers alone, without a cache."""
    with torch.no_grad():
        if model.config.is_encoder_decoder:
            start = model.config.decoder_start_token_id
            said = model(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([[start, *answer[:-1]]]))
            return said.logits[0].log_softmax(-1)
        logits = model(input_ids=torch.tensor([prompt + answer])).logits[0]
        return logits[len(prompt) - 1 : -1].log_softmax(-1)


def test_the_stop_tokens_log_probability_is_not_among_the_answers(llama: Any) -> None:
    [free] = _written(llama, [Line([5, 6, 7], Sampling(12))])
    line = Line([5, 6, 7], Sampling(12), logprobs=1)
    [answer] = _written(llama, [line], {free[-1]})
    assert line.finish == "stop"
    assert len(line.told) == len(answer) < 12


def test_a_row_with_its_own_random_numbers_is_the_same_in_any_company(llama: Any) -> None:
    def line(seed: int, prompt: list[int], **more: Any) -> Line:
        return Line(prompt, Sampling(10, 1.0, seed=seed, **more), torch.Generator().manual_seed(seed))

    [alone] = _written(llama, [line(7, [5, 6, 7])])
    company = [line(1, [8] * 9), line(7, [5, 6, 7]), Line([3, 4], Sampling(3)), line(2, [9], top_p=0.5)]
    assert _written(llama, company)[1] == alone
    [asked] = generate(llama, [[5, 6, 7]], Sampling(10, 1.0, seed=7), pad_id=0, stop_ids=NEVER)
    assert alone == asked.token_ids, "a request of one row is what generate gives under the same seed"


def test_a_line_can_be_ended_between_two_tokens(llama: Any) -> None:
    lines = [Line([5, 6, 7], Sampling(9)), Line([8, 9], Sampling(9))]
    [whole] = generate(llama, [[8, 9]], Sampling(9), pad_id=0, stop_ids=set())
    for count, tokens in enumerate(Batch(llama, lines, 0, set()).steps()):
        assert set(tokens) == ({0, 1} if count < 3 else {1})
        if count == 2:
            lines[0].end()
    assert (len(lines[0].tokens), lines[0].finish) == (3, "stop")
    assert lines[1].tokens == whole.token_ids


def test_a_constraint_masks_and_ends_its_own_row(llama: Any) -> None:
    class Only:
        """First 41, then 42, then nothing more."""

        def __init__(self) -> None:
            self.taken: list[int] = []

        @property
        def done(self) -> bool:
            return len(self.taken) == 2

        def allowed(self, vocabulary: int) -> torch.Tensor:
            mask = torch.zeros(vocabulary, dtype=torch.bool)
            mask[41 + len(self.taken)] = True
            return mask

        def take(self, token: int) -> None:
            self.taken.append(token)

    lines = [Line([5, 6], Sampling(9)), Line([5, 6], Sampling(9, min_tokens=4), constraint=Only())]
    free, held = _written(llama, lines)
    assert held == [41, 42]
    assert (lines[1].finish, lines[0].finish) == ("stop", "length")
    assert len(free) == 9
