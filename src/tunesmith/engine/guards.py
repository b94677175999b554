"""What stands between a training and its ruin: signals, and numbers that are not finite."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ..core.errors import InterruptedRunError, TunesmithError

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 75}
MAX_BAD_STEPS = 10


class StopRequest:
    """Set by SIGINT or SIGTERM; read by the loop between two optimizer steps."""

    exit_code: int | None = None

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Take the signals inside the block. A second one gets the system's own treatment."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._take) for number in EXIT_CODES}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.exit_code = EXIT_CODES[signal.Signals(number)]
        signal.signal(number, signal.SIG_DFL)


class _Stopped(KeyboardInterrupt):  # not an Exception: nobody on the way may take it for an error of theirs
    def __init__(self, exit_code: int):
        super().__init__()
        self.exit_code = exit_code


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM inside the block end it as an InterruptedRunError, wherever they come."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stopped(EXIT_CODES[signal.Signals(number)])

    before = {number: signal.signal(number, stop) for number in EXIT_CODES}
    try:
        yield
    except _Stopped as stopped:
        what = "stopped before the end; what was finished is kept"
        raise InterruptedRunError(what, exit_code=stopped.exit_code) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class FiniteGuard:
    """Refuses updates from a loss or gradient that is not finite, and gives up after many in a row."""

    def __init__(self) -> None:
        self.in_a_row = 0

    def allows(self, loss: float, gradient_norm: float) -> bool:
        """False when the step must be skipped; TunesmithError when too many were."""
        if math.isfinite(loss) and math.isfinite(gradient_norm):
            self.in_a_row = 0
            return True
        self.in_a_row += 1
        if self.in_a_row >= MAX_BAD_STEPS:
            raise TunesmithError(
                f"{MAX_BAD_STEPS} optimizer steps in a row gave a loss or gradient that is not finite",
                why="the last good weights are in the newest checkpoint",
                mend="lower training.learning_rate, or set training.precision: fp32",
            )
        return False
