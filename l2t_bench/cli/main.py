"""The command line: ``l2t-bench VERB``. A mistake is answered in a line, with exit code 2, never with a traceback."""

import sys

import typer

from l2t_bench.cli import (
    compare,
    doctor,
    listing,
    merge,
    predict,
    prepare,
    report,
    run,
    select,
    status,
    teach,
    train,
    verify,
)
from l2t_bench.cli.console import error_line, fallbacks_in_a_line
from l2t_bench.errors import L2TError, RankError

app = typer.Typer(
    name="l2t-bench",
    help="Teacher gradients through a student's whole training run: compute, prove, measure, compare.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("list")(listing.list_names)
app.command("doctor")(doctor.doctor)
app.command("run")(run.run)
app.command("status")(status.status)
app.command("show")(status.show)
app.command("merge")(merge.merge)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("verify")(verify.verify)
app.command("predict")(predict.predict)
app.command("select")(select.select)
app.command("train")(train.train)
app.command("teach")(teach.teach)
app.command("prepare")(prepare.prepare)


def main() -> None:
    """The entry point. Exit codes: 0 all well, 1 something failed, 2 a mistake in what was asked, 130 interrupted."""
    try:
        with fallbacks_in_a_line():
            app()
    except L2TError as error:
        error_line(str(error))
        sys.exit(1 if isinstance(error, RankError) else 2)


if __name__ == "__main__":
    main()
