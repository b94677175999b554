"""The public SNIPS files to chat rows: sentence -> {"intent", "slots"}.

python recipes/snips_to_jsonl.py SOURCE_FOLDER OUT_FOLDER      standard library only
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

SYSTEM = 'Reply with JSON: {"intent": ..., "slots": {...}}'
SEED = 0


def rows(file: Path, intent: str) -> list[dict[str, Any]]:
    """All sentences of one intent's file. A slot that occurs twice keeps its last value."""
    raw = file.read_bytes()
    try:
        content = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        content = json.loads(raw.decode("latin-1"))
    made = []
    for item in content[intent]:
        text = " ".join("".join(part["text"] for part in item["data"]).split())
        slots = {part["entity"]: part["text"].strip() for part in item["data"] if "entity" in part}
        answer = json.dumps({"intent": intent, "slots": slots}, ensure_ascii=False)
        turns = [("system", SYSTEM), ("user", text), ("assistant", answer)]
        made.append({"messages": [{"role": role, "content": content} for role, content in turns]})
    return made


def convert(source: Path, out: Path) -> dict[str, int]:
    """Write train.jsonl and test.jsonl; rows of each by file name."""
    intents = sorted(folder.name for folder in source.iterdir() if folder.is_dir())
    if not intents:
        raise SystemExit(f"{source} holds no folders of intents: name .../2017-06-custom-intent-engines")
    out.mkdir(parents=True, exist_ok=True)
    counts = {}
    for name, pattern in (("train.jsonl", "train_{}_full.json"), ("test.jsonl", "validate_{}.json")):
        made = [row for intent in intents for row in rows(source / intent / pattern.format(intent), intent)]
        random.Random(SEED).shuffle(made)
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made)
        (out / name).write_text(text, "utf-8")
        counts[name] = len(made)
    return counts


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    print(convert(Path(sys.argv[1]), Path(sys.argv[2])))
