"""What a failure left behind: the end of its log, and the commands that show it and repeat it; a verdict's method."""

import pytest
from golden_runs import fail
from invented_runs import RunWriter

from l2t_bench.engine.records import log_tail
from l2t_bench.reports.chosen import chosen
from l2t_bench.reports.failure_details import failure_details, repeating
from l2t_bench.reports.growth import memories_with
from l2t_bench.reports.load import load_run


def test_the_last_lines_of_a_log_are_told_however_long_it_is(writer: RunWriter) -> None:
    fail(writer, "digits/mlp", "rmd", "error", "it broke", "".join(f"line {number}\n" for number in range(20_000)))
    (found,) = failure_details(load_run(writer.finish()))
    assert found.log == tuple(f"line {number}" for number in range(19_985, 20_000))
    assert found.title == "error: rmd on digits/mlp, gradient, seed 0" and found.message == "it broke"
    assert found.show.startswith("l2t-bench show quick gradient-digits-mlp-rmd-s0-")


def test_a_line_that_does_not_end_is_cut(writer: RunWriter) -> None:
    fail(writer, "digits/mlp", "rmd", "error", "", "x" * 5000)
    (found,) = failure_details(load_run(writer.finish()))
    assert [len(line) for line in found.log] == [400]


def test_standard_output_is_told_where_standard_error_is_empty(writer: RunWriter) -> None:
    folder = writer.plan("gradient", "digits/mlp", "rmd", 0)
    (folder / "stderr.log").write_text("")
    (folder / "stdout.log").write_text("said aloud\n")
    writer.write(folder, "crashed", {}, "SIGKILL")
    (found,) = failure_details(load_run(writer.finish()))
    assert found.log == ("said aloud",)


def test_cells_that_failed_alike_are_told_once_and_a_refusal_is_no_failure(writer: RunWriter) -> None:
    for seed in range(3):
        fail(writer, "digits/mlp", "rmd", "timeout", "over 60 s", "", seed=seed)
    fail(writer, "digits/mlp", "higher", "refused", "no momentum", "")
    (found,) = failure_details(load_run(writer.finish()))
    assert found.log == () and found.title.endswith("seed 0")


def test_the_command_that_repeats_failures_names_no_folder_of_the_machine(writer: RunWriter) -> None:
    fail(writer, "digits/mlp", "rmd", "timeout", "over 60 s", "")
    folder = writer.finish()
    assert repeating(load_run(folder)).startswith("in the run that it came from")
    (folder / "run.toml").write_text("")
    assert repeating(load_run(folder)) == "l2t-bench run --config quick/run.toml --out quick --rerun failed"


@pytest.mark.parametrize(("suite", "log"), [("..", "stderr.log"), ("quick", "../cell.json"), ("quick", "missing.log")])
def test_a_log_s_name_leads_nowhere_else(writer: RunWriter, suite: str, log: str) -> None:
    fail(writer, "digits/mlp", "rmd", "error", "", "secret")
    assert log_tail(writer.finish(), suite, writer.planned[0]["cell_id"], log, 5) == []


def test_a_method_whose_name_is_no_spec_has_no_file_to_copy(writer: RunWriter) -> None:
    fail(writer, "digits/mlp", "rmd", "error", "", "")
    run = load_run(writer.finish())
    assert chosen(run, "digits/mlp", "", 20, "a[b", "") is None
    found = chosen(run, "digits/mlp", "", 20, "rmd[store=all]", "fast\u00a0enough")
    assert found is not None and (found.name, found.options, found.machine) == ("rmd", {"store": "all"}, {})
    assert found.why == "fast enough"


def test_a_machine_s_memory_has_a_column_of_its_own_only_where_no_common_one_is_near() -> None:
    assert memories_with([25.0]) == [1, 8, 24, 80] and memories_with([16.0]) == [1, 8, 16, 24, 80]
