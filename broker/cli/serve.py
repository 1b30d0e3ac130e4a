"""`puente serve`: run one gateway in the foreground."""

import asyncio
import gc
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from broker import config
from broker.cli.output import Exit, fail
from broker.errors import ConfigError, PuenteError

UID_MAX = 2**32 - 2
SWITCH_S = 0.0005
"""How long a thread may keep the interpreter from another: a commit that is back from the disk waits for its turn."""
GC_AFTER = 50_000
"""Objects between collections: what is loaded stays, and a batch makes thousands that all end by themselves."""


def serve(
    path: Annotated[Path, typer.Option("--config", help="The gateway's TOML file.")],
    uid: Annotated[
        int | None, typer.Option(min=0, max=UID_MAX, help="As root: load everything, then run as this user.")
    ] = None,
    gid: Annotated[
        int | None, typer.Option(min=0, max=UID_MAX, help="With --uid: the group that may use the transport.")
    ] = None,
) -> None:
    """Run a gateway: its gRPC edge and its relay, until SIGTERM.

    Prints one JSON line when it is ready. What was accepted is durable, however the process ends.
    """
    from broker import app, events
    from broker.gateway import server
    from policy import PackError

    events.configure()
    try:
        settings = config.load(path)
        engine = app.load_code(settings.party)
        sys.setswitchinterval(SWITCH_S)
        gc.freeze()
        gc.set_threshold(GC_AFTER)
        if uid is not None:
            _drop(uid, uid if gid is None else gid)
        asyncio.run(server.serve(settings, engine, lambda gateway, port: _ready(gateway.link.party, port)))
    except ConfigError as error:
        fail("the gateway did not start", str(error), error.mend)
    except PackError as error:
        fail("the gateway did not start", str(error), "see that `party` is one whose packs this release has")
    except PuenteError as error:
        fail("the gateway stopped", f"{error.reason}: {error}", "see docs/operating.md", Exit.UNAVAILABLE)


def _ready(party: str, port: int) -> None:
    """Tell whoever started us that the port answers."""
    line = {
        "schema": "puente.serve/1",
        "ok": True,
        "party": party,
        "port": port,
        "pid": os.getpid(),
        "uid": os.getuid(),
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _drop(uid: int, gid: int) -> None:
    """Become another user for good; the code is loaded by then, for it may lie where only root can go."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    os.umask(0o007)
    os.chdir("/")
