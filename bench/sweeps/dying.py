"""A gateway that is killed at its n-th sync: `python -m bench.sweeps.dying [--at N] [--bug early_word] --config ...`.

The kill is SIGKILL to itself at the moment when SQLite asks for the sync: what was written before is there, nothing
after it happens, nobody hears. Under strace these are all fdatasync calls of a gateway but those of folders, which
SQLite makes within the sync of a new file. Without `--at` it
counts, and writes `syncs` beside the configuration when it ends.
"""

import argparse
import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

import apsw

from bench.sweeps.bugs import BUGS
from broker.ledger.outbox import Outbox, Unsealed
from broker.message import Stream
from broker.origin import parse_batch_statement

HELD_LIFE_MS: Final = 1500
"""What lives no longer than this is never sealed, as if the link were held for it: its gateway sees it expire."""


class _File(apsw.VFSFile):  # type: ignore[misc]
    counter: "_Syncs"

    def xSync(self, flags: int) -> None:  # noqa: N802  SQLite's name
        self.counter.came()
        super().xSync(flags)


class _Syncs(apsw.VFS):  # type: ignore[misc]
    """SQLite's files as they are, with their syncs counted in the order in which they come, over all threads."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._numbers = itertools.count(1)
        self.last = 0
        _File.counter = self
        super().__init__("dying", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: Any) -> apsw.VFSFile:  # noqa: N802
        return _File("unix", name, flags)

    def came(self) -> None:
        self.last = next(self._numbers)
        if self.last == self._at:
            os.kill(os.getpid(), signal.SIGKILL)


def _hold_the_short_lived() -> None:
    unsealed = Outbox.unsealed

    def held(self: Outbox, stream: Stream, limit: int) -> list[Unsealed]:
        return [m for m in unsealed(self, stream, limit) if _life_ms(m) > HELD_LIFE_MS]

    Outbox.unsealed = held  # type: ignore[method-assign]


def _life_ms(message: Unsealed) -> int:
    return message.expires_ms - parse_batch_statement(message.batch.statement).created_ms


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--at", type=int, default=0)
    parser.add_argument("--bug", choices=sorted(BUGS))
    parser.add_argument("--config", type=Path, required=True)
    options = parser.parse_args()
    _hold_the_short_lived()
    if options.bug:
        BUGS[options.bug]()
    syncs = _Syncs(options.at)
    sys.argv[1:] = ["serve", "--config", str(options.config)]
    from broker.cli.main import main

    try:
        main()
    finally:
        options.config.with_name("syncs").write_text(f"{syncs.last}\n", encoding="ascii")


if __name__ == "__main__":
    _main()
