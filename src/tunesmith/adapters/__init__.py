"""What of a model is trained: everything, or a small addition beside it.

`config` is torch-free; the implementations stand beside it, one file each.
"""
