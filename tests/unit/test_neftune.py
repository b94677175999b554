"""Noise on the embeddings: its size by the paper's formula, in training only, and in nothing but the loss."""

from __future__ import annotations

import math

import pytest
import torch
from test_loss import _batch, _rows

import tiny
from tunesmith.methods.sft.config import SftSpec
from tunesmith.methods.sft.method import Sft
from tunesmith.methods.sft.neftune import noisy_embeddings

IDS_BL = torch.tensor([[1, 5, 9, 13, 17, 21, 7], [1, 90, 80, 0, 0, 0, 0]])
MASK_BL = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0]])


def test_the_noise_of_a_row_is_alpha_over_the_root_of_length_times_width() -> None:
    model = tiny.model().train()
    embed = model.get_input_embeddings()
    clean = embed(IDS_BL).detach()
    largest = torch.zeros(2)
    for seed in range(40):
        torch.manual_seed(seed)
        with noisy_embeddings(model, MASK_BL, 5.0):
            noise = (embed(IDS_BL) - clean).detach()
        largest = torch.maximum(largest, noise.abs().amax((1, 2)))
        assert (noise != 0).all()
    for row, length in enumerate((7, 3)):
        bound = 5.0 / math.sqrt(length * 32)
        assert 0.99 * bound < float(largest[row]) <= bound * (1 + 1e-5)
    assert torch.equal(embed(IDS_BL), clean), "the hook must be gone"


@pytest.mark.parametrize("kind", ["llama", "gemma2", "t5"])
def test_the_loss_is_noisy_in_training_and_plain_in_evaluation(kind: str) -> None:
    model, batch = tiny.model(kind), _batch(_rows(4))
    model.eval()
    plain = Sft(SftSpec()).loss_sum(model, batch)
    noisy = Sft(SftSpec(neftune_alpha=5.0))
    assert torch.equal(noisy.loss_sum(model, batch), plain)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    torch.manual_seed(1)
    first = noisy.loss_sum(model, batch)
    assert not torch.equal(first, noisy.loss_sum(model, batch))
    torch.manual_seed(1)
    assert torch.equal(noisy.loss_sum(model, batch), first), "a resumed run must draw the same"
    first.backward()
