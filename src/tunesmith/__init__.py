"""Tunesmith turns a general language model into a specialist, and proves that it did.

The public Python surface is :mod:`tunesmith.api`. Importing this package loads no torch.
"""

__version__ = "0.1.0"
