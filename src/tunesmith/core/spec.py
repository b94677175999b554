"""The base of every piece of a recipe."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A frozen piece of configuration. Unknown keys are errors; defaults are visible in the schema.

    A Spec that configures an implementation has one `build()`, which imports that implementation; reading,
    checking and printing a Spec therefore loads no torch.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )  # fmt: skip
