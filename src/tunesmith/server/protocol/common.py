"""What all wire types share."""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Ask(BaseModel):
    """A request. Types are held to as they stand in JSON: a number in quotes is no number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class Reply(BaseModel):
    """An answer."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


def _no_nul(text: str) -> str:
    """A NUL cannot be stored by every database, and means nothing in a name."""
    if "\x00" in text:
        raise ValueError("must not hold a NUL character")
    return text


Text = Annotated[str, AfterValidator(_no_nul)]
"""Text that is stored."""
Name = Annotated[str, AfterValidator(_no_nul), Field(min_length=1, max_length=256)]
"""The name of a model, or an id."""

Item = TypeVar("Item")


class Page(Reply, Generic[Item]):
    """A page of a list that goes on after its last item's id."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool


class EndedPage(Page[Item], Generic[Item]):
    """A page that also names its ends."""

    first_id: str | None
    last_id: str | None


class Deleted(Reply):
    """What was deleted."""

    id: str
    object: str
    deleted: bool = True


Id = Annotated[str, Path(max_length=256)]
After = Annotated[str | None, Query(max_length=256, description="The id after which the page begins.")]
Order = Annotated[Literal["asc", "desc"], Query(description="By time of creation.")]
PAGE = 10_000
"""The longest page."""
Limit20 = Annotated[int, Query(ge=1, le=PAGE)]
"""How many at most."""


def ended(items: list[Item], ids: list[str], has_more: bool) -> EndedPage[Item]:
    """A page with its ends; `ids` are those of the items."""
    return EndedPage[Item](
        data=items, has_more=has_more, first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None
    )
