"""What the routes work with: the records, the queue, the limits. One of each for an app."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..core.files import discard
from ..governance import audit
from ..governance.keys import Keys
from ..jobs.queue import Queue
from ..jobs.workers import Workers
from ..monitor.answers import Answers
from ..monitor.feedback import Feedback
from ..store import orphans
from ..store.database import Store
from .answering import Answerer
from .errors import ApiError
from .meters import Meters
from .rates import Rates
from .records.files import Files
from .records.models import Models
from .records.repeats import Repeats
from .records.uploads import Uploads
from .settings import Settings

log = logging.getLogger("tunesmith.server")

SCRATCH = ".export-"
"""How folders begin in which models are exported, in `settings.home`."""


@dataclass
class Services:
    """Opened once, shared by all requests; each part may be used by several threads."""

    settings: Settings
    store: Store
    keys: Keys
    queue: Queue
    files: Files
    uploads: Uploads
    models: Models
    repeats: Repeats
    workers: Workers
    rates: Rates
    answers: Answers
    feedback: Feedback
    answerer: Answerer
    meters: Meters = field(default_factory=Meters)

    @staticmethod
    def open(settings: Settings) -> Services:
        """Over the database and the folder that the settings name. The schema is brought up to date."""
        store = Store.open(settings.database, settings.home)
        files, limits, models = Files(store), settings.limits, Models(store, settings)
        answers = Answers(store, settings.keep.bounds())
        return Services(
            settings, store, Keys(store), Queue(store, audit.record), files, Uploads(store, files),
            models, Repeats(store), Workers(store), Rates(limits.requests_per_minute, limits.tokens_per_minute),
            answers, Feedback(store, answers), Answerer(models, settings.answering),
        )  # fmt: skip

    def __post_init__(self) -> None:
        self._receiving = threading.BoundedSemaphore(self.settings.limits.uploads_at_once)

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """One of the few files that may be received at a time. ApiError 429 when there are too many."""
        if not self._receiving.acquire(blocking=False):
            raise ApiError(
                429, "Too many files are being uploaded at once.", code="too_many_uploads",
                headers={"retry-after": "1"},
            )  # fmt: skip
        try:
            yield
        finally:
            self._receiving.release()

    def worker_alive(self) -> bool:
        """Whether a worker has been seen lately. GoneError when the database does not answer."""
        return any(worker.alive for worker in self.workers.known())

    def keys_valid(self) -> bool:
        """Whether any key opens anything."""
        with self.store.reading() as connection:
            now = self.store.now(connection)
        return any(key.revoked_at is None and (key.expires_at or now + 1) > now for key in self.keys.list())

    def begin(self) -> None:
        """Give up what a server that was killed had begun: claims to answer, models half exported. And mark the folder
        of files as this database's, before the first one comes."""
        orphans.mark(self.store)
        self.repeats.abandon()
        for scratch in self.settings.home.glob(f"{SCRATCH}*"):
            discard(scratch)

    def sweep(self) -> None:
        """Remove files that no record names."""
        found = orphans.sweep(self.store)
        if found.foreign:
            log.warning("the files in %s are another database's: none is removed", self.store.folder)
        elif found.blobs or found.unfinished:
            log.warning("removed %d files without a record and %d unfinished ones", found.blobs, found.unfinished)

    def tidy(self) -> None:
        """Remove what has expired."""
        self.files.expire()
        self.uploads.expire()
        self.repeats.forget()
        self.answers.tidy()

    def close(self) -> None:
        """End what is under way, and give the database back."""
        self.answerer.close()
        self.store.close()
