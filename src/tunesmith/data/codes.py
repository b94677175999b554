"""The findings that forbid training, by code: what `data.waive` may name. A test holds this to what the checks give."""

from __future__ import annotations

BLOCKING = {
    "bad_row": "the row is left out",
    "no_supervision": "the row is left out",
    "template_refuses": "the row is left out",
    "overlap": "the row is trained on, and the comparison on the held-out rows flatters the tuned model",
    "overlap_held_out": "the checkpoint is chosen on test rows",
    "near_leakage": "the row is trained on, and the comparison on the held-out rows flatters the tuned model",
    "too_long": "the row is cut at the end",
    "served_prompt_differs": "the row is trained on, behind a prompt that will not be served",
    "no_sort_key": "the row counts as the oldest of a split by time, and as the easiest of a curriculum",
    "too_few_rows": "so few rows are trained on",
}
"""What a run does with such rows when they are waived. `no_rows` is not among them: nothing could be trained."""

UNWAIVABLE = {
    "no_rows": "no training row is left",
    "one_label": "a classifier's rows all have the same label",
    "too_many_labels": "a classifier's rows have more labels than it takes",
    "unknown_label": "rows have labels that the classifier does not know",
}
"""Findings that block whatever the recipe says: there would be nothing to train."""
