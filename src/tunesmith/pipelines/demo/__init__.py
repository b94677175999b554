"""The packaged example: support tickets of a fictional company to JSON, its generator and its recipe."""

from pathlib import Path

FOLDER = Path(__file__).parent
RECIPE = FOLDER / "recipe.yaml"
