"""Answers from a model: batched generation here, the seam for other engines in `backends/`."""
