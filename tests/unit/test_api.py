"""The public Python surface is what it is said to be."""

from tunesmith import api

PINNED = {
    "Event", "Message", "Model", "Prepared", "RunDir", "RunSpec", "Sampling", "Sink", "TunesmithError", "Verdict",
    "classify", "evaluate", "first_layers", "open_model", "prepare", "read_recipe", "run", "score_answers", "train",
}  # fmt: skip


def test_public_names_are_pinned() -> None:
    assert set(api.__all__) == PINNED
    assert all(getattr(api, name) is not None for name in PINNED)
