"""The rules that were ever in force here, as they were: an old decision is explained by the pack that took it.

Trust: whoever changes these rows can at most make explanations fall silent, for a pack is used under its digest only.
"""

import zlib
from collections.abc import Mapping

import apsw


class PackStore:
    """Rows of `packs`: public rules of law, compressed to some 30 KiB a change of pack, never a word about anybody."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection

    def keep(self, digest: bytes, sources: Mapping[str, Mapping[str, bytes]]) -> None:
        """Keep the files of the packs in force, once; `sources`: pack to file name to content."""
        if self._db.execute("SELECT 1 FROM packs WHERE digest = ? LIMIT 1", (digest,)).fetchone():
            return
        for pack, files in sources.items():
            rows = ((digest, pack, name, zlib.compress(data)) for name, data in files.items())
            self._db.executemany("INSERT INTO packs (digest, pack, name, content) VALUES (?, ?, ?, ?)", rows)

    def sources(self, digest: bytes) -> dict[str, dict[str, bytes]]:
        """The files of the packs of that digest; empty when they were never in force here."""
        found: dict[str, dict[str, bytes]] = {}
        for pack, name, content in self._db.execute(
            "SELECT pack, name, content FROM packs WHERE digest = ?", (digest,)
        ):
            found.setdefault(pack, {})[name] = zlib.decompress(content)
        return found
