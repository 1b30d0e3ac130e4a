"""Where a demonstration runs: a scratch folder, and two gateways as processes (as root, each under its own user)."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from broker import development
from broker.cli.processes import Started, free_ports, start, stop

UIDS: Final = {"us": 52_711, "mx": 52_712}
GID: Final = 52_710
"""Users and a group that need no account: as root, neither gateway can read the other's files."""


@dataclass
class Stage:
    """Two running gateways and the callers' folders."""

    folder: Path
    callers: Mapping[str, Path] = field(default_factory=dict)
    processes: dict[str, Started] = field(default_factory=dict)

    def close(self) -> int:
        """Stop the gateways and remove every file; returns how many processes are left over."""
        for process in self.processes.values():
            stop(process)
        left = sum(_alive(process.pid) for process in self.processes.values())
        shutil.rmtree(self.folder, ignore_errors=True)
        return left


def raise_stage() -> Stage:
    """Make a development link and start both gateways. Raises ConfigError."""
    stage = Stage(Path(tempfile.mkdtemp(prefix="puente-demo-")))
    folder = stage.folder
    try:
        folder.chmod(0o711)
        us, mx = free_ports(2)
        made = development.create(folder / "link", ports={"us": us, "mx": mx})
        stage.callers = made.callers
        if os.geteuid() == 0:
            _give_away(made)
        for party, config in made.configs.items():
            uid = UIDS[party] if os.geteuid() == 0 else None
            stage.processes[party] = start(config, uid, GID if uid else None, log=folder / f"{party}.log")
    except BaseException:
        stage.close()
        raise
    return stage


def _give_away(made: development.Development) -> None:
    """Each party's folder to its own user; the transport to a group that both are in."""
    made.folder.chmod(0o711)
    for party in made.configs:
        own = made.folder / party
        for path in (own, *own.rglob("*")):
            os.chown(path, UIDS[party], GID)
        own.chmod(0o700)
    transport = made.folder / "transport"
    transport.mkdir(exist_ok=True)
    os.chown(transport, 0, GID)
    transport.chmod(0o2770)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
