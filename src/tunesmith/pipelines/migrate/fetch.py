"""Jobs, their events, checkpoints, files and results, from the old service into the folder.

A job that has ended is asked for its events and checkpoints once; one that is under way is asked again next time. A
file that the service has deleted, or will not give, is a note on its jobs, not the end: the rest can still be saved.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...core import clock, files, fingerprints
from ...core.errors import MissingError
from .folder import Folder, safe
from .service import RefusedError, Service

Say = Callable[[str], None]
ENDED = ("succeeded", "failed", "cancelled")
_HEADER = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*[\w\"]+\s*,[^\n]*\n?")


def fetch(service: Service, folder: Folder, wanted: Sequence[str], say: Say) -> None:
    """All jobs, or the `wanted` ones. MissingError for one that the service does not list."""
    listed = list(service.pages("/fine_tuning/jobs"))
    known = {str(job["id"]) for job in listed}
    absent = [id for id in wanted if id not in known]
    if absent:
        raise MissingError(
            f"the old service lists no job '{absent[0]}'", mend=f"its jobs: {', '.join(sorted(known)[:20]) or 'none'}"
        )
    chosen = [job for job in listed if not wanted or job["id"] in wanted]
    say(f"{len(chosen)} of {len(listed)} jobs")
    for number, job in enumerate(chosen, 1):
        say(f"job {number}/{len(chosen)}: {job['id']} ({job.get('status')}, {job.get('model')})")
        _job(service, folder, job)
        for id in filter(None, (job.get("training_file"), job.get("validation_file"))):
            _file(service, folder, "files", str(id), ".jsonl", say)
        for id in job.get("result_files") or ():
            _file(service, folder, "results", str(id), ".csv", say)


def _job(service: Service, folder: Folder, job: dict[str, Any]) -> None:
    name, place = f"jobs/{safe(str(job['id']))}.json", f"/fine_tuning/jobs/{quote(str(job['id']), safe='')}"
    kept = folder.read(name)
    if kept and kept["job"].get("status") in ENDED:
        return
    parts: dict[str, Any] = {"job": job, "notes": []}
    for part in ("events", "checkpoints"):
        try:
            # The service has the newest first; told in the order in which it happened.
            parts[part] = list(service.pages(f"{place}/{part}"))[::-1]
        except RefusedError as error:
            parts[part] = []
            parts["notes"].append(f"no {part}: {error.why} ({error.what})")
    folder.write(name, parts)


def _file(service: Service, folder: Folder, kind: str, id: str, ending: str, say: Say) -> None:
    """One file with its record; the record is written last, and says that the file is whole."""
    known = folder.read(f"{kind}/{safe(id)}.json")
    if folder.fetched(kind, id):
        return
    place = f"/files/{quote(id, safe='')}"
    path = folder.path / kind / f"{safe(id)}{ending}"
    try:
        told = service.one(place) if not known or "missing" in known else known["file"]
        say(f"  {kind}: {id} ({told.get('filename')}, {told.get('bytes') or 0:,} bytes)")
        with files.replacing(path) as file:
            service.content(f"{place}/content", file)
    except RefusedError as error:
        say(f"  {kind}: {id} cannot be had: {error.why}")
        missing = {"id": id, "missing": f"{error.why} ({error.what})", "path": "", "sha256": ""}
        folder.write(f"{kind}/{safe(id)}.json", missing)
        return
    sent = fingerprints.of_file(path)
    facts = _decoded(path) if kind == "results" else {"encoding": "plain"}
    folder.write(
        f"{kind}/{safe(id)}.json",
        {"id": id, "path": f"{kind}/{path.name}", "bytes": path.stat().st_size, "sha256": fingerprints.of_file(path),
         "sent_sha256": sent, "fetched": clock.now(), "file": told} | facts,
    )  # fmt: skip


def _decoded(path: Path) -> dict[str, str]:
    """A result file as CSV: the live service sends base64 of it, guides and other servers send it plainly."""
    content = path.read_bytes()
    try:
        inside = base64.b64decode(b"".join(content.split()), validate=True)
    except (binascii.Error, ValueError):
        return {"encoding": "plain"}
    if not content or not _HEADER.match(inside):
        return {"encoding": "plain"}
    files.write_bytes(path, inside)
    return {"encoding": "base64"}
