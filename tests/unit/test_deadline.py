"""Limits in time for foreign Python."""

from __future__ import annotations

import threading
import time

import pytest

from tunesmith.core.deadline import DeadlineError, deadline


def _busy() -> None:
    while True:
        pass


def test_a_loop_without_end_is_ended() -> None:
    with pytest.raises(DeadlineError), deadline(0.05):
        _busy()


def test_in_other_threads_too_and_each_its_own() -> None:
    ended: list[str] = []

    def run(name: str, seconds: float) -> None:
        try:
            with deadline(seconds):
                while not ended:
                    pass
            ended.append(f"{name} left")
        except DeadlineError:
            ended.append(f"{name} cut")

    threads = [threading.Thread(target=run, args=one) for one in (("short", 0.05), ("long", 60.0))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == ["short cut", "long left"]


def test_nothing_comes_after_the_block() -> None:
    for _ in range(300):
        try:
            with deadline(0.0005):
                time.sleep(0.0005)
        except DeadlineError:
            pass
        sum(range(100))
    time.sleep(0.05)


def test_a_block_in_time_is_left_alone() -> None:
    with deadline(60):
        found = 1
    assert found == 1
