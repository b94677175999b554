"""Which token is to be predicted where, for a decoder by itself and for an encoder-decoder (T5, BART).

A row of data is one line of tokens, some of them labelled, whatever the model. A decoder by itself reads the line and
predicts each labelled token from what stands before it. An encoder-decoder gets one question for every run of
labelled tokens (an assistant's turn, its end-of-turn included): the encoder reads all that stands before the run, and
the decoder says the run, as it will be asked when it is served. So a conversation of three answers is three
questions, the earlier answers part of what the encoder reads in the later ones, and every labelled token is learned.
Tokens behind a run that carry no label (a template's line break) are in nobody's target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.errors import ContentError


@dataclass(frozen=True)
class Targets:
    """A batch as a model is asked it. N labelled tokens, row by row, in the order they have in their rows."""

    inputs: dict[str, Tensor]
    """What the model's forward is called with."""
    wanted_RT: Tensor
    """Where in the decoder's output a label's logits stand: bool, N true."""
    tokens_N: Tensor
    """The tokens to be predicted."""
    weight_N: Tensor
    """Their loss weights."""
    owner_N: Tensor
    """Index of the batch's row that each belongs to."""


def targets(model: Any, input_ids_BL: Tensor, attention_mask_BL: Tensor, loss_weight_BL: Tensor) -> Targets:
    """The questions that a batch asks of `model`. `loss_weight[b, t]` weighs the prediction of token t, 0 for none.

    Rows are padded on the right. A row's first token is never predicted.
    """
    if is_encoder_decoder(model):
        return _answers(input_ids_BL, attention_mask_BL, loss_weight_BL, start_id(model))
    return _next_tokens(input_ids_BL, attention_mask_BL, loss_weight_BL)


def is_encoder_decoder(model: Any) -> bool:
    """Whether the model reads with an encoder and answers with a decoder."""
    return bool(model.config.is_encoder_decoder)


def start_id(model: Any) -> int:
    """The token that a decoder's every answer begins behind; ContentError where the model names none."""
    for config in (model.config, getattr(model, "generation_config", None)):
        found = getattr(config, "decoder_start_token_id", None)
        if found is not None:
            return int(found)
    raise ContentError(
        "the base is an encoder-decoder that does not say how its decoder starts",
        mend="set decoder_start_token_id in the base's config.json (T5: the padding token; BART: the end token)",
    )


def _next_tokens(ids_BL: Tensor, mask_BL: Tensor, weight_BL: Tensor) -> Targets:
    """One line: the logits at t predict token t + 1."""
    ahead_BL = F.pad(weight_BL[:, 1:], (0, 1))
    wanted_BL = ahead_BL > 0
    return Targets(
        {"input_ids": ids_BL, "attention_mask": mask_BL},
        wanted_BL, ids_BL.roll(-1, dims=1)[wanted_BL], ahead_BL[wanted_BL], wanted_BL.nonzero()[:, 0],
    )  # fmt: skip


def _answers(ids_BL: Tensor, mask_BL: Tensor, weight_BL: Tensor, start: int) -> Targets:
    """Encoder and decoder: R questions, one for each run of labelled tokens."""
    weight_BL = torch.cat([torch.zeros_like(weight_BL[:, :1]), weight_BL[:, 1:]], dim=1)
    row_R, begin_R, length_R = _runs(weight_BL > 0)
    place_L = torch.arange(ids_BL.shape[1], device=ids_BL.device)
    read_RS = place_L[: int(begin_R.max())] < begin_R.unsqueeze(1)
    encoder_RS = ids_BL[row_R, : read_RS.shape[1]]
    wanted_RT = place_L[: max(1, int(length_R.max()))] < length_R.unsqueeze(1)
    at_RT = (begin_R.unsqueeze(1) + place_L[: wanted_RT.shape[1]]).clamp(max=ids_BL.shape[1] - 1)
    said_RT = ids_BL[row_R].gather(1, at_RT)
    decoder_RT = F.pad(said_RT[:, :-1], (1, 0), value=start)
    inputs = {
        "input_ids": encoder_RS,
        "attention_mask": mask_BL[row_R, : read_RS.shape[1]] * read_RS,
        # Behind the end of an answer stands whatever the row goes on with: causal, so no label sees it.
        "decoder_input_ids": decoder_RT,
    }
    owner_RT = row_R.unsqueeze(1).expand_as(wanted_RT)
    weight_RT = weight_BL[row_R].gather(1, at_RT)
    return Targets(inputs, wanted_RT, said_RT[wanted_RT], weight_RT[wanted_RT], owner_RT[wanted_RT])


def _runs(labelled_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(row, first place, length) of every unbroken run of labels, [R] each; one empty run where there is none."""
    step_BL = F.pad(labelled_BL.int(), (1, 1)).diff(dim=1)
    row_R, begin_R = (step_BL == 1).nonzero().T
    end_R = (step_BL == -1).nonzero()[:, 1]
    if len(row_R):
        return row_R, begin_R, end_R - begin_R
    none = torch.zeros(1, dtype=torch.long, device=labelled_BL.device)
    return none, none + 1, none
