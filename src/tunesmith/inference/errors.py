"""Why a request is not answered. Loads no torch.

TunesmithError
├── BusyError         the queue is full: come back later
├── ClosedError       the service has ended
├── NoRoomError       the model's weights do not fit beside what is in use
└── ContentError
    └── AskError      the request itself cannot be answered
        └── TooLongError  its prompt has more tokens than the model, or the service, takes
"""

from __future__ import annotations

from ..core.errors import ContentError, TunesmithError


class BusyError(TunesmithError):
    """Too many requests wait."""


class ClosedError(TunesmithError):
    """The service ended before the answer did."""


class NoRoomError(TunesmithError):
    """No memory for a model's weights. `held`: whether there may be once the answers under way have ended."""

    def __init__(self, what: str, *, held: bool = False, why: str | None = None, mend: str | None = None):
        super().__init__(what, why=why, mend=mend)
        self.held = held


class AskError(ContentError):
    """A request that cannot be answered. `param` names the part of it that is wrong, by its name in `Ask`."""

    def __init__(self, what: str, *, param: str, why: str | None = None, mend: str | None = None):
        super().__init__(what, why=why, mend=mend)
        self.param = param


class TooLongError(AskError):
    """A prompt of `tokens` tokens where at most `limit` can be taken."""

    def __init__(self, tokens: int, limit: int, *, param: str = "messages"):
        super().__init__(
            f"the prompt has {tokens} tokens, and at most {limit} can be taken", param=param,
            mend="shorten it",
        )  # fmt: skip
        self.tokens, self.limit = tokens, limit
