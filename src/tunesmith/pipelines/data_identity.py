"""What tells the data of two runs apart: the files that were read, and how rows are chosen from them."""

from __future__ import annotations

from ..core import fingerprints
from ..data.audit import Audit
from ..data.config import DataSpec

_NEWER = ("near_threshold", "near_duplicates", "on_near_overlap", "split", "cap_per_label", "names", "canaries")
"""Keys whose defaults change no row of the runs that were made before there were such keys."""


def fingerprint(audit: Audit, data: DataSpec, seed: int) -> str:
    """Hash of every file's content and role, and of how rows are chosen from them; paths do not count."""
    chosen = data.model_dump(mode="json", exclude={"benchmarks", "waive", "curriculum"})
    for name in _NEWER:
        if chosen[name] == DataSpec.model_fields[name].default:
            del chosen[name]
    if data.personal_data != "mask" and data.subject == DataSpec.model_fields["subject"].default:
        chosen["subject"] = None  # which was the default, and changes no row
    if isinstance(data.test, float):
        chosen["seed"] = seed  # other test rows cannot be compared
    for source in [*chosen["train"], chosen["validation"], chosen["test"]]:
        if isinstance(source, dict):
            source.pop("path")
    return fingerprints.of_object({"files": [[f.role, f.sha256] for f in audit.files], "chosen": chosen})
