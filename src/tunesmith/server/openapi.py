"""The app's description of itself: what a route declares and nothing that it never answers."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, `ts-...`; `tunesmith keys create` makes one.",
}


def install(app: FastAPI) -> None:
    """Give the app its own `openapi()`. FastAPI promises a 422 for each route with parameters; here it is a 400."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _without_422(
                get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            )
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]


def form(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """What a route that reads a form by itself tells of it."""
    schema = {"type": "object", "required": list(required), "properties": properties}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def _without_422(made: dict[str, Any]) -> dict[str, Any]:
    for operations in made["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
    components = made.setdefault("components", {})
    for name in ("HTTPValidationError", "ValidationError"):
        components.get("schemas", {}).pop(name, None)
    components["securitySchemes"] = {"key": _BEARER}
    return made
