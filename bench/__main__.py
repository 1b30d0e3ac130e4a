"""`python -m bench`: run everything, print one table, write build/bench.json.

`--quick` is for development: fewer records, one run, no long memory run. `--profile` prints where the time goes.
"""

import argparse
import json
import os
import pstats
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench import baselines, exchange, fsyncs, gateways, report, workload
from bench.exchange import CALLS_OF_BATCHES, CALLS_OF_ONE, Proof, Run, RunError
from bench.profiled import THREADS, profile_of

ROOT: Final = Path(__file__).resolve().parent.parent
CORES: Final = 2
K: Final = 1000
TOP: Final = 25


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    runs: int
    records: int
    singles: int
    latency_s: float
    memory: int
    crypto_batches: int
    rpc_batches: int
    commits: int
    traced: int


FULL: Final = Size(3, 20 * K, 20 * K, 61.0, 200 * K, 16, 400, 20 * K, 5 * K)
QUICK: Final = Size(1, 5 * K, 2 * K, 10.0, 10 * K, 4, 100, 5 * K, 1 * K)


@dataclass
class Bench:
    """Rows and proofs as they come."""

    size: Size
    rows: report.Rows = field(default_factory=report.Rows)
    proofs: list[Proof] = field(default_factory=list)

    def run(self) -> None:
        """All rows. Raises RunError."""
        for n in range(self.size.runs):
            self._throughput(n, "exchange_batch256", self.size.records, 256, CALLS_OF_BATCHES)
            self._throughput(n, "exchange_single", self.size.singles, 1, CALLS_OF_ONE)
            self._latency(n)
        self._memory()
        self._baselines()

    def _throughput(self, n: int, name: str, records: int, size: int, calls: int) -> None:
        with gateways.running() as link:
            run = exchange.at_full_speed(link, records, size, calls)
            self._proven(link, run)
        self.rows.add(name, "records/s", run.rate)
        note(f"run {n + 1}: {name} {run.rate:,.0f} records/s; CPU ms a record: {_words(run.cpu)}")

    def _latency(self, n: int) -> None:
        with gateways.running() as link:
            run = exchange.at_a_rate(link, self.size.latency_s)
            self._proven(link, run)
        for share in (50, 99):
            value = 1000 * report.percentile(run.latencies, share / 100)
            self.rows.add(f"latency100_p{share}", "ms", value)
            note(f"run {n + 1}: latency100_p{share} {value:.1f} ms")
        note(f"run {n + 1}: ms at the median: {_words(run.stages)}")

    def _memory(self) -> None:
        """One life of both gateways, as fast as it goes; peaks before the operators ask, for that reads the logs."""
        points = (10 * K, self.size.memory) if self.size.memory > 10 * K else (self.size.memory,)
        with gateways.running() as link:
            run = exchange.at_full_speed(link, self.size.memory, 256, CALLS_OF_BATCHES, points)
            self._proven(link, run)
        for (at, party), peak in run.peaks.items():
            self.rows.add(f"rss_{party}_{at // K}k", "MiB", peak)
            note(f"rss_{party}_{at // K}k {peak:.0f} MiB")

    def _baselines(self) -> None:
        for _ in range(self.size.runs):
            self.rows.add("baseline_crypto", "records/s", baselines.crypto(self.size.crypto_batches))
            with gateways.running(module=dict.fromkeys(gateways.PARTIES, ("bench.echo",))) as link:
                rate = baselines.rpc(link, self.size.rpc_batches, CALLS_OF_BATCHES)
            self.rows.add("baseline_rpc", "records/s", rate)
            self.rows.add("baseline_sqlite", "records/s", baselines.sqlite(self.size.commits))
        note("baselines done")

    def _proven(self, link: gateways.Link, run: Run) -> None:
        self.proofs.append(exchange.proof(link, run))

    def proof(self) -> dict[str, Any]:
        """Sums over all timed runs, each of which added up by itself; fsyncs of a run that was not timed."""
        traced = fsyncs.count(self.size.traced, 256, CALLS_OF_BATCHES)
        return {
            **{
                name: sum(getattr(proof, name) for proof in self.proofs)
                for name in ("submitted", "acknowledged", "refused", "receipts_verified")
            },
            "decisions": {p: sum(proof.decisions[p] for proof in self.proofs) for p in gateways.PARTIES},
            "fsyncs": traced,
            "fsyncs_records": self.size.traced if traced else None,
            "policy_cache_hit_rate": self.proofs[0].cache_hit_rate,
        }


def note(text: str) -> None:
    """Progress, for whoever watches."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _words(found: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in found.items())


def _report(bench: Bench) -> dict[str, Any]:
    commit, dirty = report.commit()
    found: dict[str, Any] = {
        "schema": "puente.bench/1",
        "ok": True,  # a run that does not add up ends the command before this
        "commit": commit,
        "dirty": dirty,
        "machine": report.machine(),
        "transport": "sqlite",
        "ledger": "sqlite",
        "sync": "FULL",
        "workers": 1,
        "runs": bench.size.runs,
        "workload": {
            "records": bench.size.records,
            "distinct": bench.size.records,
            "minimised_share": workload.MINIMISED / workload.CYCLE,
            "refused_share": workload.REFUSED / workload.CYCLE,
            "by_family": {"passenger": bench.size.records},
        },
        "client": {
            "answers_signed": False,
            "journal": False,
            "batches_in_flight": CALLS_OF_BATCHES,
            "singles_in_flight": CALLS_OF_ONE,
            "poll_ms": 1000 * exchange.POLL_S,
        },
        "rows": bench.rows.json(),
        "proof": bench.proof(),
        "ratios": bench.rows.ratios(),
        "aims": bench.rows.aims(),
    }
    return found


def _profile(records: int, single: bool) -> None:
    """Both gateways under cProfile; the costliest functions of each thread by their own time."""
    with gateways.running(module=dict.fromkeys(gateways.PARTIES, ("bench.profiled",))) as link:
        calls, size = (CALLS_OF_ONE, 1) if single else (CALLS_OF_BATCHES, 256)
        run = exchange.at_full_speed(link, records, size, calls)
        note(f"{run.rate:,.0f} records/s under the profiler")
        configs = dict(link.made.configs)
        while link.running:
            link.running.popitem()[1].stop()
        for party in gateways.PARTIES:
            for thread in THREADS:
                path = profile_of(configs[party], thread)
                if path.exists():
                    sys.stdout.write(f"\n== {party}, {thread} thread\n")
                    pstats.Stats(str(path)).sort_stats("tottime").print_stats(TOP)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every run added up."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="How fast the broker is.")
    parser.add_argument("--quick", action="store_true", help="fewer records, one run")
    parser.add_argument("--profile", action="store_true", help="where the time goes, a function a line")
    parser.add_argument("--single", action="store_true", help="with --profile: one record a Submit")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench.json")
    options = parser.parse_args(arguments)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    if options.profile:
        _profile(QUICK.singles if options.single else QUICK.records, options.single)
        return 0
    bench = Bench(QUICK if options.quick else FULL)
    try:
        bench.run()
        found = _report(bench)
    except RunError as error:
        note(f"failed: {error}")
        return 1
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(report.table(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
