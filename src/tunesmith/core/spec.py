"""The base of every piece of a recipe."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class Spec(BaseModel):
    """A frozen piece of configuration. Unknown keys are errors; defaults are visible in the schema.

    A Spec that configures an implementation has one `build()`, which imports that implementation; reading,
    checking and printing a Spec therefore loads no torch.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )  # fmt: skip


class NamedSpec(Spec):
    """A Spec with a field `type` that may be given by its type alone: `optimizer: muon`."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        made = handler(schema)
        handler.resolve_ref_schema(made)["type"] = ["object", "string"]
        return made
