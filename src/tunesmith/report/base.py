"""What all facts are made of."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]
Interval = tuple[float, float]
Unit = Literal["share", "nats", "ratio"]


def _writable(value: object) -> object:
    """Replace lone surrogates: a model may emit them, and UTF-8 cannot carry them."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return value


Text = Annotated[str, BeforeValidator(_writable)]


class Facts(BaseModel):
    """Base of all facts: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
