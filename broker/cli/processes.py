"""Gateways as processes of their own: started, waited for until they answer, and stopped again."""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from broker.errors import ConfigError

START_S: Final = 30.0
STOP_S: Final = 10.0


class Started(subprocess.Popen[bytes]):
    """A gateway's process; `ready` is the line that it printed."""

    ready: dict[str, Any]


def free_ports(count: int) -> list[int]:
    """Loopback ports that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def start(config: Path, uid: int | None = None, gid: int | None = None, log: Path | None = None) -> Started:
    """Start a gateway and wait until its port answers. Raises ConfigError with what it said."""
    command = [sys.executable, "-m", "broker.cli", "serve", "--config", str(config)]
    if uid is not None:
        command += ["--uid", str(uid), "--gid", str(uid if gid is None else gid)]
    errors = log.open("ab") if log is not None else subprocess.DEVNULL
    process = Started(command, stdout=subprocess.PIPE, stderr=errors, start_new_session=True)
    if log is not None:
        errors.close()  # type: ignore[union-attr]  # the child has its own
    try:
        line = _first_line(process)
        if not line:
            raise ConfigError("a gateway did not start", f"read {log}" if log else "run `puente serve` to see why")
    except BaseException:  # Ctrl-C too: it has a session of its own, and hears of nothing that we do not tell it
        process.kill()
        process.wait()
        raise
    process.ready = json.loads(line)
    return process


def _first_line(process: Started) -> bytes:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        return process.stdout.readline() if selector.select(START_S) else b""


def stop(process: subprocess.Popen[bytes]) -> int:
    """Ask a gateway to end, and see that it did; returns its exit code."""
    if process.poll() is None:
        os.kill(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
    if process.stdout is not None:
        process.stdout.close()
    return process.wait()
