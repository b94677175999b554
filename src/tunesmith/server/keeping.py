"""What the server keeps of questions and answers."""

from __future__ import annotations

from pydantic import Field

from ..core.spec import Spec
from ..monitor.answers import Bounds


class Keeping(Spec):
    """Nothing of a chat or a completion, unless its request says `store` or `answers` is true here.

    Responses are kept unless their request says `store: false`, because others stand on them; so is what comes with
    feedback. All of it ends with its age and number.
    """

    answers: bool = False
    """Keep what every chat and completion asked and answered, so that feedback can name it."""
    days: float = Field(default=30, gt=0)
    """How long; answers with feedback stay as long as that."""
    most: int = Field(default=10_000, gt=0)
    """Answers of one project."""
    bytes: int = Field(default=2**20, gt=0)
    """Of one answer with what was asked; what is larger is answered and not kept."""
    feedback: int = Field(default=100_000, gt=0)
    """Pieces of feedback of one project."""

    def bounds(self) -> Bounds:
        """As the records take them."""
        return Bounds(self.days, self.most, self.bytes, self.feedback)
