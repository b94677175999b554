"""What a model says of tokens that are there already, and where it puts whole texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from ..models.head import without_router_loss
from ..models.targets import is_encoder_decoder
from .choose import Told
from .errors import AskError
from .steppers import padded

_MOST_NUMBERS = 2**28
"""A logit for each word of the vocabulary at each place: a gigabyte in float32."""


@torch.inference_mode()
def prompt_logprobs(model: Any, ids: Sequence[int], most: int) -> list[Told]:
    """Of every token but the first, with the `most` likeliest tokens of its place. AskError for an encoder-decoder,
    whose prompts are predicted by nothing."""
    if is_encoder_decoder(model):
        raise AskError("an encoder-decoder predicts no tokens of a prompt", param="prompt_logprobs")
    if len(ids) * model.config.get_text_config().vocab_size > _MOST_NUMBERS:
        raise AskError("the prompt is too long to tell its tokens' log-probabilities", param="prompt_logprobs")
    device = next(model.parameters()).device
    ids_1L = torch.tensor([list(ids)], device=device)
    logits_LV = model(input_ids=ids_1L, use_cache=False, **without_router_loss(model)).logits[0][-len(ids) : -1]
    told: list[Told] = []
    for some_NV, tokens_N in zip(torch.split(logits_LV, 256), torch.split(ids_1L[0, 1:], 256), strict=True):
        said_NV = some_NV.float().log_softmax(-1)
        own = said_NV.gather(1, tokens_N.unsqueeze(1)).squeeze(1).tolist()
        top = said_NV.topk(most, dim=-1)
        for logprob, top_ids, values in zip(own, top.indices.tolist(), top.values.tolist(), strict=True):
            told.append(Told(logprob, tuple(top_ids), tuple(values)))
    return told


@torch.inference_mode()
def embeddings(model: Any, inputs: Sequence[Sequence[int]], pad_id: int) -> list[list[float]]:
    """A vector of length 1 for each input: the mean of the last hidden states over its tokens. For an encoder-decoder
    those of the encoder, as in Sentence-T5 (Ni et al. 2021, arXiv 2108.08877, section 3.1, "encoder-only mean")."""
    body = model.get_encoder() if is_encoder_decoder(model) else getattr(model, model.base_model_prefix)
    ids_BL, mask_BL = padded(model, inputs, pad_id, left=False)
    hidden_BLD = body(input_ids=ids_BL, attention_mask=mask_BL)[0].float()
    weight_BL1 = mask_BL.unsqueeze(-1).float()
    mean_BD = (hidden_BLD * weight_BL1).sum(1) / weight_BL1.sum(1)
    vectors: list[list[float]] = F.normalize(mean_BD, dim=-1).tolist()
    return vectors
