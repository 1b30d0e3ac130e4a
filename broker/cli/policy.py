"""`puente policy`: check the packs, and run their cases."""

from pathlib import Path
from typing import Annotated

import typer

from broker.cli.output import Exit, Output, OutputOption, emit_json, emit_table, fail
from policy.cases import Result, TestReport, run
from policy.check import CheckReport
from policy.check import check as check_packs
from policy.pack import PackError

app = typer.Typer(no_args_is_help=True, help="The rules: check them, and run their cases.")
PacksOption = Annotated[
    Path | None,
    typer.Option(
        "--packs", exists=True, file_okay=False, help="Folder of packs; those that came with Puente if absent."
    ),
]


@app.command()
def check(packs: PacksOption = None, output: OutputOption = Output.table) -> None:
    """Check schema, ids, citations, dates, and that what leaves tells no fact."""
    report = check_packs(packs)
    if output is Output.json:
        emit_json(report.to_json())
    else:
        _show_check(report)
    if not report.ok:
        raise typer.Exit(Exit.FAILURE)


@app.command("test")
def run_cases(packs: PacksOption = None, output: OutputOption = Output.table) -> None:
    """Run every case, and show which rule was decisive where."""
    try:
        report = run(packs)
    except PackError as error:
        fail("the cases did not run", "; ".join(error.problems), "run `puente policy check`")
    if output is Output.json:
        emit_json(report.to_json())
    else:
        _show_test(report)
    if not report.ok:
        raise typer.Exit(Exit.FAILURE)


def _show_check(report: CheckReport) -> None:
    rows = [[pack.id, str(len(pack.rules)), pack.digest.hex()[:16]] for pack in report.packs]
    emit_table("packs", ["pack", "policies", "digest"], rows)
    if report.problems:
        emit_table("problems", ["what"], [[problem] for problem in report.problems])
    if report.unverified:
        emit_table("citations that nobody has verified", ["instrument"], [[name] for name in report.unverified])


def _show_test(report: TestReport) -> None:
    rows = [
        [
            one.rule,
            str(len(one.decisive)),
            str(len(one.not_decisive)),
            "yes" if one.paired else "NO",
            " ".join(one.cites),
        ]
        for one in report.rules
    ]
    emit_table("rules", ["rule", "decisive in", "not in", "shown", "cites"], rows)
    failed = [one for one in report.results if not one.ok]
    if failed:
        emit_table("failed", ["case", "expected", "actual"], [_failed_row(one) for one in failed])
    passed = len(report.results) - len(failed)
    counts = [str(len(report.results)), str(passed), str(len(failed)), str(len(report.citations_unverified))]
    emit_table("totals", ["cases", "passed", "failed", "citations unverified"], [counts])


def _failed_row(result: Result) -> list[str]:
    expected, actual = result.case.expected, result.actual
    return [
        result.case.id,
        f"{expected.effect} {' '.join(expected.determining)}",
        f"{actual.effect} {' '.join(actual.determining)}",
    ]
