"""The first layers of a base as a base of its own: a small student for distillation (recipes/distill-snips.yaml).

python recipes/first_layers.py BASE N OUT_FOLDER      BASE as in a recipe: bundled name, local folder or hub id
"""

from __future__ import annotations

import sys
from pathlib import Path

from tunesmith import api

if __name__ == "__main__":
    if len(sys.argv) != 4 or not sys.argv[2].isdecimal():
        raise SystemExit(__doc__)
    try:
        print(api.first_layers(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
    except api.TunesmithError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
