"""recipes/snips_to_jsonl.py on files of the public set's form."""

import importlib.util
import json
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "recipes" / "snips_to_jsonl.py"


def test_converts_intents_slots_and_latin1(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("snips_to_jsonl", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for intent, word in (("PlayMusic", "Beyoncé"), ("GetWeather", "Oslo")):
        folder = tmp_path / "source" / intent
        folder.mkdir(parents=True)
        data = {intent: [{"data": [{"text": "Please "}, {"text": f"{word} ", "entity": "slot"}, {"text": "\n"}]}]}
        encoded = json.dumps(data, ensure_ascii=False).encode("latin-1" if intent == "PlayMusic" else "utf-8")
        (folder / f"train_{intent}_full.json").write_bytes(encoded)
        (folder / f"validate_{intent}.json").write_bytes(encoded)
    assert module.convert(tmp_path / "source", tmp_path / "out") == {"train.jsonl": 2, "test.jsonl": 2}
    rows = [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").read_text("utf-8").splitlines()]
    answers = {row["messages"][1]["content"]: json.loads(row["messages"][2]["content"]) for row in rows}
    assert answers["Please Beyoncé"] == {"intent": "PlayMusic", "slots": {"slot": "Beyoncé"}}
    assert answers["Please Oslo"]["intent"] == "GetWeather"
