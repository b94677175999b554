"""The figures that recipes which Tunesmith writes begin with."""

from __future__ import annotations


def usual_rate(supervised: bool, small: bool) -> tuple[str, str]:
    """(learning rate, why this one); `small` is a bundled base."""
    if supervised:
        usual = ("2.0e-4", "the usual rate for LoRA")
        return ("2.0e-3", "a base of 8 M parameters takes more than the usual 2e-4") if small else usual
    usual = ("2.0e-5", "preferences are learned more slowly than answers")
    return ("1.0e-4", "a base of 8 M parameters takes more than the usual 2e-5") if small else usual


def usual_rank(small: bool) -> int:
    """LoRA's rank; `small` is a bundled base. Alpha is twice that."""
    return 32 if small else 16
