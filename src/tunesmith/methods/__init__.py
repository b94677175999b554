"""The ways to learn, one folder each: `config.py` (torch-free) and `method.py`.

A new method is its folder, one entry in `config.METHODS`, a test and a row in docs/papers.md.
"""
