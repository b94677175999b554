"""Validity under a JSON Schema, through jsonschema."""

from __future__ import annotations

import json
from pathlib import Path

from jsonschema.exceptions import SchemaError
from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from ...core.errors import ContentError, MissingError
from .base import refuse_constant


class JsonSchema:
    """1 when the answer is JSON, nothing stands around it, and the schema allows it."""

    uses_reference = False

    def __init__(self, name: str, path: Path):
        self.name, self._path = name, path
        try:
            schema = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise MissingError(
                f"cannot read the JSON Schema {path}", where=f"evaluation.metrics: {name}", why=error.strerror,
                mend="name a file that is there; a relative path starts at the recipe's folder",
            ) from None  # fmt: skip
        except ValueError as error:
            raise self._bad(f"it is not JSON: {error}") from None
        try:
            kind = validator_for(schema, default=Draft202012Validator)
            kind.check_schema(schema)
        except (SchemaError, AttributeError, TypeError) as error:
            raise self._bad(getattr(error, "message", str(error))) from None
        # An empty registry: `$ref` finds what is in the file, and nothing is fetched.
        self._validator = kind(schema, registry=Registry())

    def score(self, prediction: str, reference: str) -> float:
        """1 or 0; the reference plays no part. ContentError for a `$ref` that leads nowhere."""
        try:
            answer = json.loads(prediction, parse_constant=refuse_constant)
            return float(self._validator.is_valid(answer))
        except (ValueError, RecursionError):
            return 0.0
        except Unresolvable as error:
            raise self._bad(f"its $ref '{error.ref}' leads nowhere in the file") from None

    def _bad(self, why: str) -> ContentError:
        return ContentError(
            f"{self._path} is no JSON Schema",
            where=f"evaluation.metrics: {self.name}",
            why=why,
            mend="correct the file",
        )
