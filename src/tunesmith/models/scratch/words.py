"""A byte-level BPE tokenizer trained on text (Sennrich et al. 2016, arXiv 1508.07909; on bytes: Radford et al. 2019).

Digits stand alone, so that numbers are read digit by digit; conversations are shown in ChatML. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ...core.errors import ContentError
from .config import END_OF_TURN, PAD, SPECIAL_TOKENS, START, ScratchSpec

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ message['content'] }}<|im_end|>{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LEAST_COUNT = 2
"""A pair met once teaches a tokenizer nothing."""


def train_tokenizer(texts: Iterable[str], spec: ScratchSpec) -> Any:
    """A tokenizer of exactly `spec.vocabulary` entries; equal texts in equal order give equal files.

    ContentError where the texts do not hold so many pieces that repeat.
    """
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocabulary, min_frequency=LEAST_COUNT, special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False,
    )  # fmt: skip
    made.train_from_iterator(texts, trainer)
    found = made.get_vocab_size()
    if found < spec.vocabulary:
        raise ContentError(
            f"the text gives {found} tokens, and the vocabulary is to have {spec.vocabulary}", where="vocabulary",
            why="no more pieces of it repeat", mend=f"set vocabulary to {found} or less, or give more text",
        )  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=START, eos_token=END_OF_TURN, pad_token=PAD, chat_template=CHATML,
        model_max_length=spec.context,
    )  # fmt: skip
