"""A data set of the Hugging Face hub as one local Parquet file: what was fetched once, else a question, then the files.

`hf://owner/name`, `hf://owner/name/config`, with `?split=test` for another split than train. The rows are those of the
Parquet files that the hub makes of every public data set, on its branch `refs/convert/parquet`. Code that comes with a
data set is never run. A fetched split stays as it is, below HF_HOME: delete its file to have it fetched anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

from ..core import files
from ..core.errors import ContentError, MissingError, nearest
from ..core.later import later
from ..core.patience import within
from .places import on_hub

pa, pq = later("pyarrow"), later("pyarrow.parquet")

HUB_SECONDS = 4.0
"""How long a hub may stay silent before it counts as out of reach."""
BRANCH = "refs/convert/parquet"
_ID = r"[A-Za-z0-9][\w.-]*"
_REFERENCE = re.compile(rf"hf:/{{1,2}}({_ID}/{_ID})(?:/({_ID}))?/?(?:\?split=({_ID}))?", re.ASCII)
_ROWS = 1024


@dataclass(frozen=True)
class Reference:
    """A split of a data set; without a configuration the one called default, or the only one."""

    repository: str
    config: str | None
    split: str

    @staticmethod
    def of(text: str) -> Reference:
        """Read `hf://owner/name/config?split=train`; ContentError."""
        match = _REFERENCE.fullmatch(text)
        if not match:
            raise ContentError(
                f"'{text}' names no data set of the hub",
                mend="write hf://owner/name, or hf://owner/name/config?split=test",
            )
        return Reference(match[1], match[2], match[3] or "train")

    @property
    def name(self) -> str:
        """For people."""
        return f"hf://{self.repository}" + (f"/{self.config}" if self.config else "") + f"?split={self.split}"

    @property
    def kept(self) -> Path:
        """Where it lies once it is fetched: whole, or not at all."""
        owner, _, name = self.repository.partition("/")
        folder = Path(constants.HF_HOME) / "tunesmith" / "datasets" / owner / name / (self.config or "-")
        return folder / f"{name}-{self.split}.parquet"


def local(path: str | Path) -> Path:
    """The file itself, or that of a data set's rows. MissingError where the hub is out of reach, ContentError."""
    if not on_hub(str(path)):
        return Path(path)
    wanted = Reference.of(str(path))
    if not wanted.kept.is_file():
        _fetch(wanted)
    return wanted.kept


def _fetch(wanted: Reference) -> None:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise MissingError(
            f"the data set {wanted.name} was not fetched yet, and HF_HUB_OFFLINE forbids to",
            mend="unset HF_HUB_OFFLINE, or name a local file",
        )
    try:
        info = within(
            HUB_SECONDS, lambda: HfApi().dataset_info(wanted.repository, revision=BRANCH, timeout=HUB_SECONDS)
        )
        names = chosen([s.rfilename for s in info.siblings or ()], wanted)
        shards = [
            Path(hf_hub_download(wanted.repository, name, repo_type="dataset", revision=info.sha)) for name in names
        ]
    except ContentError:
        raise
    except RevisionNotFoundError as error:
        raise MissingError(
            f"the hub has no Parquet form of the data set {wanted.repository}", why=_first(error),
            mend="download its files, and name them",
        ) from error  # fmt: skip
    except HfHubHTTPError as error:
        raise MissingError(
            f"the hub has no data set {wanted.repository} for you", why=_first(error),
            mend="check the name; for a gated data set accept its terms and set HF_TOKEN",
        ) from error  # fmt: skip
    except Exception as error:  # whatever a transport raises: the person needs one sentence
        raise MissingError(
            f"the hub cannot be reached for the data set {wanted.name}", why=_first(error),
            mend="name a local file, or try again where the hub can be reached",
        ) from error  # fmt: skip
    files.make_folder(wanted.kept.parent)
    keep(shards, wanted.kept)


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def chosen(names: Sequence[str], wanted: Reference) -> list[str]:
    """The files `config/split/0000.parquet` of a configuration and split, in order; a ContentError lists the known."""
    splits: dict[str, dict[str, list[str]]] = {}
    for name in sorted(names):
        config, _, rest = name.partition("/")
        split, _, file = rest.partition("/")
        if file.endswith(".parquet") and "/" not in file:
            splits.setdefault(config, {}).setdefault(split, []).append(name)
    if not splits:
        raise ContentError(
            f"the data set {wanted.repository} has no rows in Parquet", mend="download and name its files"
        )
    config = wanted.config or ("default" if "default" in splits else next(iter(splits)))
    if wanted.config is None and config != "default" and len(splits) > 1:
        first = f"hf://{wanted.repository}/{config}"
        raise ContentError(
            f"the data set {wanted.repository} has several configurations: {', '.join(splits)}",
            mend=f"name one: {first}",
        )
    if config not in splits:
        raise ContentError(f"{wanted.repository} has no configuration '{config}'", mend=nearest(config, splits))
    if wanted.split not in splits[config]:
        raise ContentError(
            f"{wanted.repository} has no split '{wanted.split}'",
            mend=f"?split=...: {nearest(wanted.split, splits[config])}",
        )
    return splits[config][wanted.split]


def keep(shards: Sequence[Path], final: Path) -> None:
    """One file of all shards, in order, whole or not at all. ContentError for shards that do not go together."""
    temporary = files.beside(final)
    with files.writing(final):
        try:
            if len(shards) > 1 or not _linked(shards[0], temporary):
                _joined(shards, temporary)
            temporary.replace(final)
        except pa.ArrowException as error:
            raise ContentError("the files of the data set cannot be joined", where=str(shards[0].parent),
                               why=_first(error), mend="download and name them one by one") from error  # fmt: skip
        finally:
            files.discard(temporary)


def _linked(shard: Path, target: Path) -> bool:
    """Whether the file could be given a second name, which takes no room."""
    with suppress(OSError):
        os.link(os.path.realpath(shard), target)
        return True
    return False


def _joined(shards: Sequence[Path], target: Path) -> None:
    schema = pq.read_schema(shards[0])
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for shard in shards:
            with pq.ParquetFile(shard) as file:
                for batch in file.iter_batches(batch_size=_ROWS):
                    writer.write_batch(batch.cast(schema))
