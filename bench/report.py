"""The rows of a bench, as JSON (`puente.bench/1`) and as one table."""

import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

AIMS: Final[Mapping[str, float]] = {"exchange_batch256": 3000.0, "exchange_single": 500.0, "latency100_p99": 80.0}
"""Records a second at least; milliseconds at most."""
GROWTH_AIM: Final = 1.2
RATIOS: Final = (
    ("exchange_batch256", "baseline_crypto"),
    ("exchange_batch256", "baseline_rpc"),
    ("exchange_batch256", "baseline_sqlite"),
    ("exchange_single", "baseline_sqlite"),
    ("rss_us_200k", "rss_us_10k"),
    ("rss_mx_200k", "rss_mx_10k"),
)


@dataclass
class Rows:
    """Values of each row, a value a run."""

    found: dict[str, tuple[str, list[float]]] = field(default_factory=dict)

    def add(self, name: str, unit: str, value: float) -> None:
        """One more run's value."""
        self.found.setdefault(name, (unit, []))[1].append(round(value, 3))

    def median(self, name: str) -> float | None:
        """None for a row that was not measured."""
        return statistics.median(self.found[name][1]) if name in self.found else None

    def json(self) -> list[dict[str, Any]]:
        """As outputs pin them."""
        return [
            {"name": n, "unit": u, "median": statistics.median(v), "min": min(v), "max": max(v), "values": v}
            for n, (u, v) in self.found.items()
        ]

    def ratios(self) -> dict[str, float]:
        """Of medians."""
        found = {}
        for row, base in RATIOS:
            over, under = self.median(row), self.median(base)
            if over is not None and under:
                found[f"{row}_over_{base}"] = round(over / under, 3)
        return found

    def aims(self) -> list[dict[str, Any]]:
        """What was aimed at, and whether it was met."""
        found = []
        for name, aim in AIMS.items():
            value = self.median(name)
            if value is not None:
                met = value <= aim if name.startswith("latency") else value >= aim
                found.append({"name": name, "aim": aim, "value": value, "met": met})
        for name, value in self.ratios().items():
            if name.startswith("rss_"):
                found.append({"name": name, "aim": GROWTH_AIM, "value": value, "met": value <= GROWTH_AIM})
        return found


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that so large a share does not exceed."""
    return ordered[min(len(ordered) - 1, max(0, -int(-len(ordered) * share // 1) - 1))]


def machine() -> dict[str, Any]:
    """What it ran on; `cores` is what it was allowed to use."""
    cpu = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    ram = next((int(line.split()[1]) // 1024 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "ram_mib": ram,
        "python": platform.python_version(),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()


def commit() -> tuple[str, bool]:
    """(commit, whether files differ from it); '' outside a checkout."""
    root = Path(__file__).resolve().parent.parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False).stdout.strip()

    return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))


def table(report: Mapping[str, Any]) -> str:
    """For people."""
    lines = [f"{'row':<28}{'median':>12}{'min':>12}{'max':>12}  unit"]
    lines += [
        f"{row['name']:<28}{row['median']:>12,.1f}{row['min']:>12,.1f}{row['max']:>12,.1f}  {row['unit']}"
        for row in report["rows"]
    ]
    lines += [f"{name:<58}{value:>6.2f}" for name, value in report["ratios"].items()]
    lines += [
        f"{'met' if aim['met'] else 'NOT met':<8}{aim['name']}: aim {aim['aim']:,g}, is {aim['value']:,g}"
        for aim in report["aims"]
    ]
    lines.append("proof " + ", ".join(f"{name} {value}" for name, value in report["proof"].items()))
    return "\n".join(lines)
