"""Small disks of one's own: a tmpfs in a namespace, without any right on the machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


class SmallDisk:
    """A tmpfs that only processes in the namespace of `pid` see, at `place`. Sizes are in KiB."""

    def __init__(self, place: Path, kib: int):
        self.place = place
        script = f'mount -t tmpfs -o size={kib}k small "$1" && echo mounted && exec sleep 3600'
        self._process = subprocess.Popen(
            ["unshare", "-rm", "sh", "-c", script, "sh", place],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout
        assert self._process.stderr
        if self._process.stdout.readline() != "mounted\n":
            reason = self._process.stderr.read().strip()
            self.close()
            pytest.skip(f"a small disk cannot be mounted here: {reason}")

    @property
    def pid(self) -> int:
        """The process whose namespaces hold the mount."""
        return self._process.pid

    def seen(self, path: Path) -> Path:
        """A path of the namespace, seen from outside."""
        return Path(f"/proc/{self.pid}/root{path}")

    def remount(self, options: str) -> None:
        """Change the mount; tried again while a file is open for writing."""
        command = ["nsenter", "-t", str(self.pid), "-U", "-m", "--preserve-credentials"]
        for _ in range(500):
            done = subprocess.run(
                [*command, "mount", "-o", f"remount,{options}", self.place], capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                return
        raise AssertionError(done.stderr)

    def fill(self) -> Path:
        """A file of others' that takes all the room there is."""
        filler = self.seen(self.place / "others")
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return filler

    def close(self) -> None:
        """Unmount."""
        self._process.kill()
        self._process.communicate()


def small_disk(place: Path, kib: int) -> SmallDisk:
    """A small disk at `place`, or the test is skipped with the reason."""
    for tool in ("unshare", "nsenter", "mount"):
        if not shutil.which(tool):
            pytest.skip(f"a small disk cannot be mounted here: no {tool}")
    place.mkdir()
    return SmallDisk(place, kib)
