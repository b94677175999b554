"""What stands between a training and its ruin: signals, numbers that are not finite, and loss spikes."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from ..core.errors import InterruptedRunError, TunesmithError
from .config import GuardSpec

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 75}
MAX_BAD_STEPS = 10
SPIKE_WINDOW, SPIKE_FEWEST, LEVEL_STEPS = 128, 16, 10


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


def usual_losses(curve: Sequence[tuple[int, float]], spikes: Sequence[int]) -> list[float]:
    """The newest losses of a curve (step, loss) that a further one is held against; `spikes` are steps left out."""
    left_out = set(spikes)
    newest = curve[-SPIKE_WINDOW - len(left_out) :]
    return [loss for step, loss in newest if step not in left_out][-SPIKE_WINDOW:]


def with_spike(spikes: Sequence[int], step: int) -> list[int]:
    """The steps to leave out when `step` was a spike as well.

    Ten in a row are no spikes any more but what the loss is now: they are let in, or every later step would be one.
    """
    grown = [*spikes, step]
    level = list(range(step - LEVEL_STEPS + 1, step + 1))
    return grown[:-LEVEL_STEPS] if grown[-LEVEL_STEPS:] == level else grown


class StepGuard:
    """Decides about each step before its update: a number that is not finite never reaches the weights, and a loss
    far above those before is seen."""

    def __init__(self, spec: GuardSpec) -> None:
        self.spec = spec
        self.in_a_row = 0
        """Steps up to the last one that were not finite, one behind the other."""
        self.spiked = False
        """Whether the last step's loss was far above those before."""

    def allows(self, loss: float, gradient_norm: float, earlier: Sequence[float], note: Callable[[str], None]) -> bool:
        """Whether to update; `earlier` holds the losses before this step, spikes left out.

        TunesmithError when the run must stop.
        """
        self.spiked = False
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            return self._not_finite(note)
        self.in_a_row = 0
        limit = self._limit(earlier)
        self.spiked = loss > limit
        if not self.spiked:
            return True
        what = f"its loss {loss:.3f} is far above those before (limit {limit:.3f})"
        if self.spec.spike == "stop":
            raise TunesmithError(
                f"stopped at a loss spike: {what}",
                mend="lower training.learning_rate, look at the rows of this step, or set training.guards.spike: note",
            )
        note(what + (", and it was skipped" if self.spec.spike == "skip" else ""))
        return self.spec.spike == "note"

    def _not_finite(self, note: Callable[[str], None]) -> bool:
        self.in_a_row += 1
        if self.spec.non_finite == "stop" or self.in_a_row >= MAX_BAD_STEPS:
            many = f"{self.in_a_row} optimizer steps in a row" if self.in_a_row > 1 else "an optimizer step"
            raise TunesmithError(
                f"{many} gave a loss or gradient that is not finite",
                why="the weights were left as they were; the newest checkpoint is good",
                mend="lower training.learning_rate, or set training.precision: fp32",
            )
        note("its loss or gradient is not finite, and it was skipped")
        return False

    def _limit(self, earlier: Sequence[float]) -> float:
        """The highest loss that is no spike: mean + sigmas x standard deviation of a window of finite ones."""
        window = [value for value in earlier[-SPIKE_WINDOW:] if math.isfinite(value)]
        if len(window) < SPIKE_FEWEST:
            return math.inf
        mean = sum(window) / len(window)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in window) / len(window))
        return mean + self.spec.spike_sigmas * deviation
