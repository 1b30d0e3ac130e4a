"""How often each gateway waits for the disk: counted from outside, by strace, in a run of its own."""

import re
import shutil
import tempfile
from pathlib import Path

from bench import exchange, gateways

TRACED = "trace=fsync,fdatasync"


def count(records: int, size: int, calls: int) -> dict[str, int] | None:
    """fsync and fdatasync calls of each gateway for `records`, from its start to its end; None without strace."""
    if shutil.which("strace") is None:
        return None
    with tempfile.TemporaryDirectory(prefix="puente-bench-") as folder:
        found = {party: Path(folder) / f"{party}.strace" for party in gateways.PARTIES}
        before = {party: ("strace", "-f", "-qq", "-e", TRACED, "-o", str(path)) for party, path in found.items()}
        with gateways.running(before) as link:
            run = exchange.at_full_speed(link, records, size, calls)
            exchange.proof(link, run)
        return {party: _calls(path) for party, path in found.items()}


def _calls(trace: Path) -> int:
    """Calls that began; one that another thread interrupted in the trace is on two lines."""
    return len(re.findall(r"(?m)^\d+ +(?:fsync|fdatasync)\(", trace.read_text(encoding="utf-8", errors="replace")))
