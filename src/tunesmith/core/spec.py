"""The base of every piece of a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


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


@dataclass(frozen=True)
class ByName:
    """Lets a union on `type` be given by the type alone: `loss: simpo` is short for `loss: {type: simpo}`."""

    default: str | None = None
    """The type of a mapping that names none; None requires a name."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._named, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        made = handler(schema)
        if self.default:  # a discriminator would require the name
            made = {"anyOf": made["oneOf"], "discriminator": made["discriminator"]}
        return {"anyOf": [made, {"type": "string", "enum": list(made["discriminator"]["mapping"])}]}

    def _named(self, value: Any) -> Any:
        if isinstance(value, str):
            return {"type": value}
        return {"type": self.default} | value if self.default and isinstance(value, dict) else value
