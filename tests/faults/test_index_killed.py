"""An index whose process is killed at any change of a file: it is as it was or as it was to be, and can go on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import documents

# Each attempt is a fork that ends like a kill at its n-th change of a file; the first that ends by itself is the last.
SCRIPT = """
import os, shutil, sys
from pathlib import Path
from tunesmith.core.errors import MissingError
from tunesmith.pipelines.index import ask, build, delete
from tunesmith.retrieval.folder import load

work, act, tests = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
sys.path.insert(0, tests)
import documents

def attempt(out):
    delete(out, "secret.md") if act == "delete" else build(work / "new", out)

def chunks(out):
    return {(chunk.source, chunk.text) for chunk in load(out).chunks}

build(work / "old", work / "before")
shutil.copytree(work / "before", work / "after")
attempt(work / "after")
whole = (chunks(work / "before"), chunks(work / "after"))
assert whole[0] != whole[1]
for number in range(1, 200):
    out = work / f"try{number}"
    shutil.copytree(work / "before", out)
    child = os.fork()
    if not child:
        count = 0
        def hook(event, args):
            global count
            written = event == "open" and isinstance(args[1], str) and "w" in args[1]
            if written or event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir"):
                count += 1
                if count == number:
                    os._exit(9)
        sys.addaudithook(hook)
        attempt(out)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9), code
    found = chunks(out)
    assert found in whole, number
    ask(out, "parcel", 3)
    if found == whole[0]:
        assert code == 9, number
        attempt(out)
    else:
        try:
            attempt(out)
        except MissingError:
            assert act == "delete", number
    assert chunks(out) == whole[1], number
    assert documents.holding(out, ["Mustermann"]) == [], number
    if code == 0:
        print(number)
        break
"""


@pytest.mark.parametrize("act", ["build", "delete"])
def test_a_kill_at_every_change_leaves_a_whole_index_and_no_text_of_what_went(tmp_path: Path, act: str) -> None:
    kept = {"a": "A parcel takes seven days.", "b": "A letter takes two days."}
    documents.written(tmp_path / "old", **kept, secret="The salary of Mustermann.")
    documents.written(tmp_path / "new", **kept | {"b": "A letter takes three days."})
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), act, str(Path(documents.__file__).parent)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15, "there are that many changes at least"
