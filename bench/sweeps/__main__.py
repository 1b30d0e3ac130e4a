"""`python -m bench.sweeps`: every sweep, and each checker on a planted bug; writes build/sweeps.json. Ten minutes."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from bench.sweeps import bugs, canary, crash, flips
from bench.sweeps.crash import Point, Swept
from broker.outbound import Outbound

ROOT: Final = Path(__file__).resolve().parent.parent.parent
AT_ONCE: Final = 4


def note(text: str) -> None:
    """Progress, for whoever watches."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _crash(every: int) -> tuple[dict[str, Any], dict[str, int]]:
    found = crash.count()
    note(f"crash: {found} syncs")

    def told(swept: Swept) -> None:
        if swept.red or not swept.killed:
            note(f"crash: {swept}")

    done = crash.sweep(crash.points(found, every), told)
    return crash.summary(found, done), found


def crash_bug_found(found: int) -> bool:
    """Whether some point of the sender turns red when the word comes before the commit; stops at the first."""
    points = [Point("us", n, "early_word") for n in range(found // 4, found + 1)]
    chunks = (points[start : start + AT_ONCE] for start in range(0, len(points), AT_ONCE))
    return any(any(swept.killed and swept.red for swept in crash.sweep(chunk)) for chunk in chunks)


def flips_bug_found() -> bool:
    """Whether a caveat that facts add is noticed. Leaves this process as it was."""
    sound = Outbound._minimise
    bugs.telling_caveat()
    try:
        return flips.run()["differences"] > 0
    finally:
        Outbound._minimise = sound  # type: ignore[method-assign]


def _planted(found: dict[str, int]) -> list[dict[str, Any]]:
    checks: list[tuple[str, str, Callable[[], bool]]] = [
        ("crash", "early_word", lambda: crash_bug_found(found["us"])),
        ("canary", "open_slots", lambda: bool(canary.run("open_slots")["outside"])),
        ("canary", "chatty", lambda: bool(canary.run("chatty")["outside"])),
        ("facts", "telling_caveat", flips_bug_found),
    ]
    results = []
    for checker, bug, red in checks:
        results.append({"checker": checker, "bug": bug, "turned_red": red()})
        note(f"planted: {results[-1]}")
    return results


def _ok(report: dict[str, Any]) -> bool:
    crashed, leaks, facts = report["crash"], report["canary"], report["facts"]
    whole = crashed["found"] == crashed["swept"] and crashed["killed"] == sum(crashed["found"].values())
    sound = not any(crashed[name] for name in ("lost", "duplicated", "undecided", "damaged", "stuck"))
    silent = leaks["controls_found"] == leaks["planted"] and not leaks["outside"]
    same = facts["flipped"] > 0 and facts["differences"] == 0
    return whole and sound and silent and same and all(bug["turned_red"] for bug in report["planted_bugs"])


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when nothing was found, and every planted bug was."""
    parser = argparse.ArgumentParser(prog="python -m bench.sweeps", description="Faults and leaks, exhaustively.")
    parser.add_argument("--every", type=int, default=1, help="of the crash points, every so many: for development")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "sweeps.json")
    options = parser.parse_args(arguments)
    facts = flips.run()
    note(f"facts: {facts}")
    leaks = canary.run()
    note(f"canary: {leaks['planted']} planted, {len(leaks['outside'])} outside")
    crashed, found = _crash(options.every)
    note(f"crash: {crashed}")
    report: dict[str, Any] = {
        "schema": "puente.sweeps/1",
        "ok": False,
        "crash": crashed,
        "tamper": None,  # with the verifier's issue
        "canary": leaks,
        "facts": facts,
        "negative": None,  # with the edge's issue
        "planted_bugs": _planted(found),
    }
    report["ok"] = _ok(report)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps({k: report[k] for k in ("ok", "crash", "facts", "planted_bugs")}) + "\n")
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
