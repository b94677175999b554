"""Load a base model and its tokenizer: bundled, from a local folder, or from a hub.

`refs` finds a base (no torch); `load` reads it. Code that comes with a model is never run.
"""
