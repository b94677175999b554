"""Texts to chat rows that go on with a text: general data to mix into a fine-tune, against forgetting.

python recipes/general_rows.py CORPUS OUT.jsonl ROWS      JSON Lines with a `text`, compressed or not

The first thirty words of a text are the prompt, the next ninety the answer.
"""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path

from tunesmith.data.raw import LIMITS
from tunesmith.data.source import rows

ASKED, SAID = 30, 90


def convert(corpus: Path, out: Path, most: int) -> int:
    """Write the rows; how many there are."""
    raws = rows(corpus, asked=None, known=lambda names: "text" in names, limits=LIMITS)
    texts = (raw.value.get("text", "").split() for raw in raws)
    long = (words for words in texts if len(words) >= ASKED + SAID)
    made = [
        {
            "messages": [
                {"role": "user", "content": "Continue: " + " ".join(words[:ASKED])},
                {"role": "assistant", "content": " ".join(words[ASKED : ASKED + SAID])},
            ]
        }
        for words in islice(long, most)
    ]
    out.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in made), "utf-8")
    return len(made)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    print(convert(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
