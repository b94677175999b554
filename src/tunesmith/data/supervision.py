"""What of the training rows carries loss, and whether each is trained behind the prompt that will be served.

That the two prompts are the same text is proved for every row while it is rendered: the loss of a turn begins where
the served prompt ends, or the row is refused (`template.render_example`). Text and cuts being the same, so are the
tokens. `compare` puts that to the test on a seeded sample, for a rendering costs more than all else of a check.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..core.messages import Example
from .audit import Finding, Supervision
from .template import TemplateError, Tokenizer, render_prompt
from .tokenize import Encoded, encode_prompt

COMPARED = 1000
"""Rows whose prompt is rendered and tokenized once more, as a server does it; some 0.3 ms each."""


@dataclass
class Measure:
    """Counts rows, not yet cut, by what the length limit leaves of their loss."""

    max_length: int
    drop: bool = False
    """Whether longer rows are left out."""
    found: Counter[str] = field(default_factory=Counter)

    def see(self, one: Encoded) -> None:
        """Count one more."""
        self.found["examples"] += 1
        whole = one.labelled
        if len(one.input_ids) <= self.max_length:
            self.found["no_loss"] += not whole
            return
        left = int(np.count_nonzero(one.loss_weight[: self.max_length]))
        self.found["dropped"] += self.drop
        self.found["no_loss"] += not left and not self.drop
        self.found["lost_all"] += bool(whole) and not left
        self.found["lost_part"] += 0 < left < whole

    def result(self) -> Supervision:
        """The figures so far."""
        return Supervision(*(self.found[name] for name in ("examples", "no_loss", "lost_all", "lost_part", "dropped")))


def measure(encoded: Iterable[Encoded], max_length: int, *, drop: bool) -> Supervision:
    """The figures of all rows."""
    counter = Measure(max_length, drop)
    for one in encoded:
        counter.see(one)
    return counter.result()


@dataclass
class Compared:
    """Trained prompts beside served ones: how many were compared, how many are equal, where they are not."""

    compared: int = 0
    differing: list[str] = field(default_factory=list)
    cut_elsewhere: list[str] = field(default_factory=list)
    """Prompts that another server, which tokenizes the whole text at once, would cut into other tokens."""

    def added_to(self, supervision: Supervision) -> Supervision:
        """The figures with these."""
        equal = self.compared - len(self.differing)
        return replace(supervision, prompts_compared=self.compared, prompts_equal=equal)

    def findings(self) -> Iterator[Finding]:
        """What is to be told of them."""
        places, elsewhere = (tuple(dict.fromkeys(found)) for found in (self.differing, self.cut_elsewhere))
        if places:
            yield Finding(
                "served_prompt_differs", "block", "the tokens of this row do not begin with its prompt as it is served",
                "use the base's own chat template and tokenizer; report this, it should not happen", places,
            )  # fmt: skip
        if elsewhere:
            yield Finding(
                "prompt_tokens_differ", "warn",
                f"other servers would cut this prompt into other tokens than it was trained with (of {self.compared} "
                "prompts compared)",
                "serve the model with Tunesmith, or use a template with special tokens between the turns", elsewhere,
            )  # fmt: skip


def compare(
    examples: Sequence[Example], encoded: Sequence[Encoded], tokenizer: Tokenizer, seed: int = 0
) -> Compared:  # fmt: skip
    """Render, tokenize and compare the prompts of up to COMPARED rows, a seeded sample of them where there are more."""
    found = Compared()
    for index in _chosen(len(examples), seed):
        example, trained = examples[index], encoded[index].input_ids.tolist()
        learned = [i for i, m in enumerate(example.messages) if m.learned]
        asked = example.messages[: learned[-1] if learned else 0]
        try:
            served = encode_prompt(tokenizer, asked, example.tools)
            text = render_prompt(tokenizer, asked, example.tools).text
        except TemplateError:
            continue
        found.compared += 1
        if trained[: len(served)] != served[: len(trained)]:
            found.differing.append(example.origin)
        if served != list(tokenizer(text, add_special_tokens=False)["input_ids"]):
            found.cut_elsewhere.append(example.origin)
    return found


def _chosen(count: int, seed: int) -> Iterable[int]:
    if count <= COMPARED:
        return range(count)
    chosen: list[int] = sorted(np.random.default_rng(seed).choice(count, COMPARED, replace=False).tolist())
    return chosen
