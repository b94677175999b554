"""Sequences that share their beginning: computed once, the same to the model as each by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import families
from tunesmith.data.answers import Pair
from tunesmith.data.branches import Family, branched
from tunesmith.data.tokenize import Encoded
from tunesmith.engine.branches import can_share, sequences

CPU = torch.device("cpu")


def _row(prompt: list[int], answer: list[int]) -> Encoded:
    weight = [0.0] * len(prompt) + [1.0] * len(answer)
    return Encoded(np.array(prompt + answer, np.int32), np.array(weight, np.float32))


def _pair(prompt: list[int], chosen: list[int], rejected: list[int]) -> Pair:
    return Pair(_row(prompt, chosen), _row(prompt, rejected))


PAIRS = [
    _pair([1, 5, 9, 13, 17, 21], [30, 31, 32, 2], [40, 2]),
    _pair([1, 8], [50, 51], [50, 52, 53, 54, 55, 56, 57, 2]),  # answers that begin alike
    _pair([1, 7, 7, 7, 60, 61, 62, 63], [2], [3, 2]),
]


@pytest.mark.parametrize("kind", families.DECODERS)
def test_a_shared_prompt_gives_what_two_rows_give(kind: str) -> None:
    model, pairs = families.model(kind), [pair.family() for pair in PAIRS]
    assert can_share(model, pairs[0], 0), "this family pays for every prompt twice"
    found = [sequences(pairs, 0, CPU, share=share).logprobs(model) for share in (True, False)]
    assert found[0][1].tolist() == found[1][1].tolist() == [4, 2, 2, 8, 1, 2]
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-4)
    gradients = []
    for sums, _ in found:
        model.zero_grad()
        (sums * torch.arange(1.0, 7.0)).sum().backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", families.ENCODER_DECODERS)
def test_an_encoder_decoder_is_asked_each_answer_by_itself(kind: str) -> None:
    assert not can_share(families.model(kind), PAIRS[0].family(), 0)


def test_a_model_that_heeds_no_mask_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.engine import branches

    model = families.model("llama")
    monkeypatch.setattr(branches, "_seen", lambda positions, branch: (branch >= 0).unsqueeze(1) | True)
    assert not can_share(model, PAIRS[0].family(), 0)
    assert not model.training


def test_the_prompt_stands_once_and_each_answer_follows_it() -> None:
    made = branched([PAIRS[0].family(), PAIRS[1].family()], pad_id=0)
    assert made.input_ids[0].tolist() == [1, 5, 9, 13, 17, 21, 30, 31, 32, 2, 40, 2, 0, 0, 0, 0]
    assert made.positions[0, :12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 6, 7]
    assert made.branch[1].tolist() == [0, 0, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, -1, -1, -1, -1]
    flat = made.input_ids.ravel()
    first = made.before[made.owner == 0], made.before[made.owner == 1]
    assert [flat[at].tolist() for at in first] == [[21, 30, 31, 32], [21, 40]]
    assert made.tokens[made.owner == 3].tolist() == [50, 52, 53, 54, 55, 56, 57, 2]


@given(
    st.lists(st.integers(4, 90), min_size=1, max_size=6),
    st.lists(st.integers(4, 90), min_size=1, max_size=5),
    st.lists(st.integers(4, 90), min_size=1, max_size=5),
)
def test_every_token_with_loss_is_there_once_behind_its_own_predecessor(
    prompt: list[int], chosen: list[int], rejected: list[int]
) -> None:
    pair = _pair(prompt, chosen, rejected)
    family = pair.family()
    assert family.shared == len(prompt)
    assert pair.length == len(prompt) + len(chosen) + len(rejected)
    made = branched([family, Family((_row(prompt, chosen),), 0)], pad_id=0)
    flat = made.input_ids.ravel()
    for number, answer in enumerate((chosen, rejected, chosen)):
        mine = made.owner == number
        assert made.tokens[mine].tolist() == answer
        assert flat[made.before[mine]].tolist() == [prompt[-1], *answer[:-1]]
