"""What of the training rows carries loss, and whether each is trained behind the prompt that will be served.

That the two prompts are the same is seen for every row while it is rendered: the loss of a turn begins where the served
prompt ends (`template.render_example`), and up to there the row is cut into the same texts (`tokenize._as_served`),
or it is refused. Equal texts have equal tokens. `Prompts` puts that to the test on the tokens of a seeded sample, which
are made once more for it, and holds them against those of a server that does not cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from ..core.messages import Example
from .audit import Finding, Supervision
from .template import TemplateError, Tokenizer, render_prompt
from .tokenize import Encoded, Pieces, encode_prompt

COMPARED = 10_000
"""Rows whose prompt's tokens are made once more, as a server does it; some 0.3 ms each, thus 3 s at most."""


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


class Prompts:
    """Trained prompts beside served ones: how many rows were compared, how many are equal; the tokens of a sample."""

    def __init__(self, tokenizer: Tokenizer, rows: int, seed: int = 0):
        self._tokenizer = tokenizer
        drawn = np.random.default_rng(seed).choice(rows, COMPARED, replace=False) if rows > COMPARED else range(rows)
        self._chosen = frozenset(map(int, drawn))
        self._seen = self._sampled = 0
        self._differing: list[str] = []
        self._cut_elsewhere: list[str] = []

    def see(self, index: int, pieces: Pieces) -> None:
        """The next row, by its place, as it is trained: itself or in pieces, each rendered as it is served."""
        self._seen += len(pieces)
        if index in self._chosen:
            for piece, encoded in pieces:
                self._compare(piece, encoded)

    def _compare(self, example: Example, encoded: Encoded) -> None:
        """Render and tokenize the prompt of the last learned turn, as a server does."""
        learned = [i for i, m in enumerate(example.messages) if m.learned]
        asked = example.messages[: learned[-1] if learned else 0]
        try:
            served = encode_prompt(self._tokenizer, asked, example.tools)
            shown = render_prompt(self._tokenizer, asked, example.tools)
        except TemplateError:
            return
        self._sampled += 1
        trained = encoded.input_ids.tolist()
        if trained[: len(served)] != served[: len(trained)]:
            self._differing.append(example.origin)
        # What spells a special token is told by itself, and others do cut it otherwise.
        if not shown.cuts and served != list(self._tokenizer(shown.text, add_special_tokens=False)["input_ids"]):
            self._cut_elsewhere.append(example.origin)

    def added_to(self, supervision: Supervision) -> Supervision:
        """The figures with these."""
        return replace(supervision, prompts_compared=self._seen, prompts_equal=self._seen - len(self._differing))

    def findings(self) -> Iterator[Finding]:
        """Prompts that differ, and those that a server which tokenizes the whole text at once would cut otherwise."""
        places, elsewhere = (tuple(dict.fromkeys(found)) for found in (self._differing, self._cut_elsewhere))
        if places:
            yield Finding(
                "served_prompt_differs", "block", "the tokens of this row do not begin with its prompt as it is served",
                "use the base's own chat template and tokenizer; report this, it should not happen", places,
            )  # fmt: skip
        if elsewhere:
            yield Finding(
                "prompt_tokens_differ", "warn",
                f"other servers would cut this prompt into other tokens than it was trained with (of {self._sampled} "
                "prompts looked at)",
                "serve the model with Tunesmith, or use a template with special tokens between the turns", elsewhere,
            )  # fmt: skip
