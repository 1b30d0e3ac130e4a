"""The key store: wrapped keys of each message, in a file of its own, outside the ledger and its backups.

Keys are durable before the ledger's transaction that needs them commits: a crash between leaves keys that open
nothing. They are shredded before the ledger records it: a crash between makes the purge run again.

Trust: who reads this file without the key-encryption key learns nothing; who deletes it destroys content.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import apsw

from broker.errors import StoreError, VaultError
from broker.message import SealedKeys

_SCHEMA = "CREATE TABLE keys (key_id BLOB PRIMARY KEY, content BLOB, opening BLOB) WITHOUT ROWID"
_VERSION = 2


class KeyStore:
    """Opens, or creates, the key store at `path`. Writes from one thread; reads from any."""

    def __init__(self, path: Path) -> None:
        self._db = apsw.Connection(str(path))
        self._db.set_busy_timeout(10_000)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON", "wal_autocheckpoint = 4096"):
            self._db.execute(f"PRAGMA {pragma}").fetchall()  # one by one: a result that is not fetched stops the rest
        self._migrate()
        self._reader = apsw.Connection(str(path))
        self._reader.set_busy_timeout(10_000)

    def _migrate(self) -> None:
        """Version 1 left copies of destroyed keys in the pages where they had been: the file is written anew, once."""
        have = self._db.execute("PRAGMA user_version").fetchone()[0]
        if not have:
            self._db.execute(f"BEGIN IMMEDIATE; {_SCHEMA}; PRAGMA user_version = {_VERSION}; COMMIT;")
        elif have < _VERSION:
            self._db.execute("VACUUM")
            self._truncate_log()
            self._db.execute(f"PRAGMA user_version = {_VERSION}")

    def _truncate_log(self) -> None:
        """No copy of a destroyed key stays in the write-ahead log. Raises StoreError when that is not certain."""
        busy, *_ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreError("the key store's log could not be cleared")

    def flush(self, added: Sequence[SealedKeys], shredded: Sequence[bytes], forgotten: Sequence[bytes] = ()) -> None:
        """Make new keys and destructions durable, in one transaction."""
        if not added and not shredded and not forgotten:
            return
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO keys VALUES (?, ?, ?)",
                ((k.key_id, k.content or None, k.opening) for k in added),
            )
            self._db.executemany("UPDATE keys SET content = NULL WHERE key_id = ?", ((k,) for k in shredded))
            self._db.executemany("DELETE FROM keys WHERE key_id = ?", ((k,) for k in forgotten))
        if shredded or forgotten:
            self._truncate_log()

    def opening(self, key_id: bytes) -> bytes:
        """The wrapped opening key. Raises VaultError when it was destroyed."""
        row = self._reader.execute("SELECT opening FROM keys WHERE key_id = ?", (key_id,)).fetchone()
        if row is None or row[0] is None:
            raise VaultError("the key was destroyed")
        return bytes(row[0])

    def both(self, key_id: bytes) -> tuple[bytes, bytes]:
        """The wrapped content key and opening key. Raises VaultError when either was destroyed."""
        row = self._reader.execute("SELECT content, opening FROM keys WHERE key_id = ?", (key_id,)).fetchone()
        if row is None or row[0] is None or row[1] is None:
            raise VaultError("the key was destroyed")
        return row[0], row[1]

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
        self._db.close()


class KeyChanges:
    """Keys to add and to shred with the transaction that is being made."""

    def __init__(self) -> None:
        self.added: list[SealedKeys] = []
        self.shredded: list[bytes] = []
        self.forgotten: list[bytes] = []

    def add(self, keys: Iterable[SealedKeys]) -> None:
        """Keep the keys of messages."""
        self.added += keys

    def shred(self, key_id: bytes) -> None:
        """Destroy a message's content key."""
        self.shredded.append(key_id)

    def forget(self, key_id: bytes) -> None:
        """Destroy both of a message's keys: salts and the question that policy was asked open no more."""
        self.forgotten.append(key_id)

    def mark(self) -> tuple[int, int, int]:
        """Where a change begins."""
        return len(self.added), len(self.shredded), len(self.forgotten)

    def back_to(self, mark: tuple[int, int, int]) -> None:
        """A change was rolled back: its keys are neither kept nor destroyed."""
        del self.added[mark[0] :], self.shredded[mark[1] :], self.forgotten[mark[2] :]

    def clear(self) -> None:
        """Begin the next transaction."""
        self.added, self.shredded, self.forgotten = [], [], []
