"""Two gateways of a fresh development link, each a process of its own; what they say and what they use."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from broker import development
from broker.cli.callers import Caller
from broker.cli.processes import free_ports
from broker.v1 import operations_service_pb2 as pb

START_S: Final = 60.0
STOP_S: Final = 30.0
PARTIES: Final = ("us", "mx")


class StartError(RuntimeError):
    """A gateway did not come up."""


@dataclass
class Gateway:
    """One running process; `pid` is the gateway's own, also under a tracer."""

    process: subprocess.Popen[bytes]
    pid: int

    def peak_mib(self) -> float:
        """The largest resident memory of its life so far."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise StartError("a gateway has gone")

    def cpu_s(self) -> float:
        """Processor time of its life so far, in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> int:
        """End it in order; the exit code."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
        try:
            return self.process.wait(STOP_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it at once, and its tracer."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@dataclass
class Link:
    """A development link and the gateways that run on it."""

    made: development.Development
    running: dict[str, Gateway] = field(default_factory=dict)
    died: bool = False
    """Whether a gateway that had to die did."""

    @property
    def folder(self) -> Path:
        """Where the parties' folders are."""
        return self.made.folder

    @property
    def callers(self) -> Mapping[str, Path]:
        """Each caller's folder."""
        return self.made.callers

    def ledger(self, party: str) -> Path:
        """The file of a party's ledger."""
        return self.folder / party / "data" / "ledger.db"

    def start(self, party: str, before: Sequence[str] = (), module: Sequence[str] = ("broker.cli", "serve")) -> Gateway:
        """Start one gateway and wait for its port; `before`: what it runs under."""
        command = [*before, sys.executable, "-m", *module, "--config", str(self.made.configs[party])]
        with (self.folder / f"{party}.stderr").open("ab") as errors:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, start_new_session=True)
        line = _first_line(process)
        if not line:
            process.kill()
            process.wait()
            raise StartError(f"the gateway of {party} did not start")
        self.running[party] = Gateway(process, json.loads(line)["pid"])
        return self.running[party]

    def stop(self) -> None:
        """End both; what they accepted is durable."""
        while self.running:
            self.running.popitem()[1].stop()

    def status(self, party: str) -> pb.GetStatusResponse:
        """What the party's operator is told: counts, receipts, both logs checked leaf by leaf."""
        caller = Caller(self.callers[f"{party}.operator"])
        try:
            return caller.call("OperationsService/GetStatus", pb.GetStatusRequest(), pb.GetStatusResponse)
        finally:
            caller.close()


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    if process.stdout is None:
        return b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        return process.stdout.readline() if selector.select(START_S) else b""


def create(folder: Path) -> Link:
    """A new link in `folder`, nothing running."""
    us, mx = free_ports(2)
    return Link(development.create(folder, ports={"us": us, "mx": mx}))


@contextlib.contextmanager
def running(
    before: Mapping[str, Sequence[str]] | None = None, module: Mapping[str, Sequence[str]] | None = None
) -> Iterator[Link]:
    """Both gateways on a fresh link; gone afterwards, files and all."""
    with tempfile.TemporaryDirectory(prefix="puente-bench-") as scratch:
        link = create(Path(scratch) / "link")
        try:
            for party in PARTIES:
                link.start(party, (before or {}).get(party, ()), (module or {}).get(party, ("broker.cli", "serve")))
            yield link
        finally:
            link.stop()
