"""Two real gateways, each a `puente serve` process of its own, sharing nothing but the transport."""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from broker import development
from broker.cli.processes import free_ports, start, stop


@dataclass
class Gateways:
    folder: Path
    callers: Mapping[str, Path]
    configs: Mapping[str, Path]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, party: str) -> None:
        self.processes[party] = start(self.configs[party], log=self.log(party))

    def log(self, party: str) -> Path:
        """What the gateway wrote to its standard error."""
        return self.folder / f"{party}.log"

    def stop(self, party: str) -> None:
        stop(self.processes.pop(party))


@contextlib.contextmanager
def two_gateways() -> Iterator[Gateways]:
    with tempfile.TemporaryDirectory(prefix="puente-test-") as scratch:
        us, mx = free_ports(2)
        made = development.create(Path(scratch) / "link", ports={"us": us, "mx": mx})
        gateways = Gateways(made.folder, made.callers, made.configs)
        try:
            for party in ("us", "mx"):
                gateways.start(party)
            yield gateways
        finally:
            for party in list(gateways.processes):
                gateways.stop(party)
