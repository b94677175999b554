"""What stands behind a model's body where it is not the vocabulary. Loads neither torch nor transformers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Head:
    """A linear layer on what the body says of a row's last token: one number for each label."""

    labels: tuple[str, ...]
    """Their names, which `id2label` in config.json keeps; a reward model has one."""

    @property
    def id2label(self) -> dict[int, str]:
        """The labels by number, as config.json has them."""
        return dict(enumerate(self.labels))


REWARD = Head(("reward",))
"""That of a reward model."""
