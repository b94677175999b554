"""Personal data and secrets in texts: found by shape and checksum, offline; reported, masked, or their rows dropped.

    hits        what a detector is          checksums   check digits         scan    the table, and text to finds
    email phone iban card ip ids_* secrets  one kind or group of kinds each  mask    finds to placeholders
    rows        examples instead of texts

    names       names and places, which have no shape, by an analyzer        presidio  that analyzer (an extra)

`DETECTORS` is the table; a new kind is a file and a line there.
"""

from .hits import Detector, Hit
from .mask import Known, Masked, mask
from .scan import DETECTORS, SECRET_KINDS, find
from .sieve import find_all

__all__ = ["DETECTORS", "SECRET_KINDS", "Detector", "Hit", "Known", "Masked", "find", "find_all", "mask"]
