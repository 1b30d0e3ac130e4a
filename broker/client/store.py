"""Submissions whose answer is not known, on disk before their first try.

One file a call, the exact request bytes, so that a retry is byte-identical: a crash before the file is renamed means
that nothing was sent; after it, that `Client.resume` sends the same bytes again; a file is removed once its answer is
known. The files hold whole records and facts, in the clear: the folder is the agency's own, mode 0700, and belongs on
an encrypted disk. Who can read it can read what the agency submits; who can change it can make the agency's client
hand in what its key did not sign, which the gateway refuses.
"""

import os
import time
from pathlib import Path
from typing import Final, Protocol

_DONE: Final = ".submit"
_MAKING: Final = ".part"
_MAKING_S: Final = 60.0


class Store(Protocol):
    """Keeps a call's request bytes until its answer is known."""

    def add(self, name: str, request: bytes) -> None:
        """Durable when it returns."""

    def waiting(self) -> list[tuple[str, bytes]]:
        """(name, request) of each call without an answer, oldest first."""

    def remove(self, name: str) -> None:
        """The answer is known. A crash before this is durable means that the call is made again: a duplicate."""


class Journal:
    """A folder of one file a call. Names sort by time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for half in folder.glob(f"*{_MAKING}"):
            if time.time() - half.stat().st_mtime > _MAKING_S:  # else another process may be writing it
                half.unlink(missing_ok=True)  # never sent

    def add(self, name: str, request: bytes) -> None:
        """Write, fsync, rename, fsync the folder."""
        making = self._folder / f"{name}{_MAKING}"
        handle = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(request)
            file.flush()
            os.fsync(file.fileno())
        making.rename(self._folder / f"{name}{_DONE}")
        self._sync()

    def waiting(self) -> list[tuple[str, bytes]]:
        """Oldest first."""
        return [(path.stem, path.read_bytes()) for path in sorted(self._folder.glob(f"*{_DONE}"))]

    def remove(self, name: str) -> None:
        """Gone at once; not synced, since a call made again is a duplicate and nothing more."""
        (self._folder / f"{name}{_DONE}").unlink(missing_ok=True)

    def _sync(self) -> None:
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Memory:
    """Keeps calls in memory: for benches. A crash of the client may leave an outcome unknown for ever."""

    def __init__(self) -> None:
        self._calls: dict[str, bytes] = {}

    def add(self, name: str, request: bytes) -> None:
        """Lost with the process."""
        self._calls[name] = request

    def waiting(self) -> list[tuple[str, bytes]]:
        """Oldest first."""
        return list(self._calls.items())

    def remove(self, name: str) -> None:
        """The answer is known."""
        self._calls.pop(name, None)
