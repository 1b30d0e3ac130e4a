"""A gateway under cProfile, its loop and its ledger thread each; written beside the configuration when it ends."""

import cProfile
import sys
import threading
from pathlib import Path

from broker.cli.main import main

THREADS = ("loop", "ledger")


def profile_of(config: Path, thread: str) -> Path:
    """Where the profile of a thread is written."""
    return config.with_name(f"{thread}.profile")


def _run() -> None:
    config = Path(sys.argv[sys.argv.index("--config") + 1])
    run = threading.Thread.run

    def profiled(thread: threading.Thread) -> None:
        if not thread.name.startswith("ledger"):
            run(thread)
            return
        profile = cProfile.Profile()
        profile.runcall(run, thread)
        profile.dump_stats(profile_of(config, "ledger"))

    threading.Thread.run = profiled  # type: ignore[method-assign, assignment]
    sys.argv[1:1] = ["serve"]
    profile = cProfile.Profile()
    try:
        profile.runcall(main)
    finally:
        profile.dump_stats(profile_of(config, "loop"))


if __name__ == "__main__":
    _run()
