"""The recipe's reference page and JSON Schema, made from the schema itself.

python -m tunesmith.pipelines.reference docs/reference     writes recipe.md and recipe.schema.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from .recipe import json_schema

_HEAD = """# The recipe: every key

Made from the schema by `python -m tunesmith.pipelines.reference docs/reference`. A recipe is YAML; unknown keys are
errors. `recipe.schema.json` beside this page is for editors.
"""


def markdown(schema: dict[str, Any]) -> str:
    """One table for the top level and one for each group of keys, in the order in which they are met."""
    sections = [_HEAD, _table("The top level", schema)]
    for name in _groups(schema, schema):
        part = schema["$defs"][name]
        heading = name.removesuffix("Spec")
        about = " ".join(part.get("description", "").split())
        sections.append(_table(heading, part, about))
    return "\n".join(sections)


def _groups(part: dict[str, Any], schema: dict[str, Any], seen: list[str] | None = None) -> list[str]:
    """Names of the definitions below a part, depth first, each once."""
    seen = [] if seen is None else seen
    for name in _references(part.get("properties", {})):
        if name not in seen:
            seen.append(name)
            _groups(schema["$defs"][name], schema, seen)
    return seen


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"].rpartition("/")[2]] if "$ref" in value else []
        below = [v for key, v in value.items() if key not in ("discriminator", "default")]
        return own + [name for v in below for name in _references(v)]
    if isinstance(value, list):
        return [name for item in value for name in _references(item)]
    return []


def _table(heading: str, part: dict[str, Any], about: str = "") -> str:
    lines = [
        f"## {heading}",
        "",
        *([about, ""] if about else []),
        "| key | type | default | what |",
        "|---|---|---|---|",
    ]
    required = part.get("required", [])
    for key, field in part["properties"].items():
        default = "required" if key in required else f"`{json.dumps(field.get('default'))}`"
        if isinstance(field.get("default"), dict):
            default = "see below"
        what = " ".join(field.get("description", "").split()).replace("|", "\\|")
        lines.append(f"| `{key}` | {_type(field)} | {default} | {what} |")
    return "\n".join([*lines, ""])


def _type(field: dict[str, Any]) -> str:
    """A short name of a field's type."""
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2].removesuffix("Spec")
    for union in ("anyOf", "oneOf"):
        if union in field:
            return " or ".join(_type(option) for option in field[union])
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        inner = field.get("items") or (field.get("prefixItems") or [{}])[0]
        return f"list of {_type(inner)}"
    return str(field.get("type", "any"))


def write(folder: Path) -> None:
    """Both files."""
    schema = json_schema()
    (folder / "recipe.md").write_text(markdown(schema), "utf-8")
    text = json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
    (folder / "recipe.schema.json").write_text(text, "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
