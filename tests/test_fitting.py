"""A run that will not fit is refused before it starts, with the prediction, the limit and what would fit."""

import re
from pathlib import Path

import pytest
import torch

import l2t_bench as l2t
from l2t_bench.engine.cell import Cell
from l2t_bench.engine.gradient_cell import measure
from l2t_bench.engine.recorder import Recorder
from l2t_bench.fitting import bytes_left, check_fits, would_fit
from l2t_bench.gradient import Exactness
from l2t_bench.problem import TeachingProblem
from l2t_bench.resident import available_bytes, resident_bytes
from l2t_bench.verification.samples import random_problem

WIDE = "digits/mlp[hidden=2000,features=none,dev=50]"
STATE_BYTES = 4 * (2000 * (64 + 1) + 10 * (2000 + 1))


@pytest.fixture(scope="module")
def wide() -> TeachingProblem:
    if resident_bytes() is None:
        pytest.skip("this platform does not tell a process's memory")
    return l2t.build_problem(WIDE)


@pytest.fixture(scope="module")
def tiny() -> TeachingProblem:
    if resident_bytes() is None:
        pytest.skip("this platform does not tell a process's memory")
    return random_problem()


def test_a_run_that_fits_is_let_through(wide: TeachingProblem) -> None:
    check_fits(l2t.load_backend("rmd"), wide, 20, 10**9)
    check_fits(l2t.load_backend("higher"), wide, 20, 10**9)


def test_a_run_that_does_not_fit_is_refused_with_prediction_limit_and_what_would_fit(wide: TeachingProblem) -> None:
    with pytest.raises(l2t.Refused) as caught:
        check_fits(l2t.load_backend("rmd"), wide, 2000, 300 * 10**6)
    predicted = re.match(r"rmd would take ([\d.]+) GB at horizon 2000, and 300 MB are left", caught.value.reason)
    assert predicted is not None and float(predicted[1]) == pytest.approx(2000 * STATE_BYTES / 1e9, rel=0.1)
    assert "rmd[store=sqrt] (exact, " in caught.value.instead
    assert len(re.findall(r"truncated\S* \(truncated, ", caught.value.instead)) == 1, "one of its many variants"
    assert "higher" not in caught.value.instead


@pytest.mark.slow
def test_a_limit_may_be_written_as_people_write_it_and_is_the_memory_there_is_where_left_out(
    tiny: TeachingProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    rmd = l2t.load_backend("rmd")
    l2t.check_fits(rmd, tiny, 20, "1GB")
    l2t.check_fits(rmd, tiny, 20)
    with pytest.raises(l2t.Refused, match=r"rmd would take .* at horizon 100000, and 50 MB are left; "):
        l2t.check_fits(rmd, tiny, 100_000, "50MB")
    monkeypatch.setattr("l2t_bench.fitting.available_bytes", lambda: 10**7)
    with pytest.raises(l2t.Refused, match=r"rmd would take .* at horizon 100000, and 10 MB are left; "):
        l2t.check_fits(rmd, tiny, 100_000)


def test_where_a_platform_does_not_tell_its_memory_nothing_is_refused(
    wide: TeachingProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l2t_bench.fitting.available_bytes", lambda: None)
    l2t.check_fits(l2t.load_backend("rmd"), wide, 10**9)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "8 apples", "0GB", ""])
def test_a_limit_that_is_none_is_an_error(wide: TeachingProblem, limit: int | str) -> None:
    with pytest.raises(l2t.UserError, match="a size is "):
        l2t.check_fits(l2t.load_backend("rmd"), wide, 20, limit)


@pytest.mark.parametrize("horizon", [0, -3, True, 2.5, None])
def test_a_horizon_that_is_none_is_an_error(wide: TeachingProblem, horizon: int) -> None:
    with pytest.raises(l2t.UserError, match="horizon"):
        l2t.check_fits(l2t.load_backend("rmd"), wide, horizon, "1GB")


@pytest.mark.slow
def test_a_method_without_a_law_is_measured_and_refused_too(wide: TeachingProblem) -> None:
    with pytest.raises(l2t.Refused, match=r"higher would take .* GB at horizon 2000"):
        check_fits(l2t.load_backend("higher"), wide, 2000, 300 * 10**6)


@pytest.mark.slow
def test_what_would_fit_is_named_exact_ones_first_and_below_the_limit(wide: TeachingProblem) -> None:
    fitting = would_fit(wide, 2000, 300 * 10**6)
    kinds = [fit.exactness for fit in fitting]
    assert kinds[0] is Exactness.EXACT and kinds == sorted(kinds, key=[*dict.fromkeys(kinds)].index)
    assert all(fit.bytes <= 300 * 10**6 for fit in fitting)


@pytest.mark.slow
def test_what_would_fit_has_room_for_the_records_of_its_steps(tiny: TeachingProblem) -> None:
    horizon, limit = 100_000, 100 * 10**6  # some 250 MB of records, whatever the store
    with pytest.raises(l2t.Refused) as caught:
        check_fits(l2t.load_backend("rmd[store=sqrt]"), tiny, horizon, limit)
    assert "rmd" not in caught.value.instead


@pytest.mark.slow
def test_a_gradient_cell_is_refused_before_it_runs_into_its_limit(tmp_path: Path, wide: TeachingProblem) -> None:
    cell = Cell(
        suite="own",
        suite_version=1,
        profile="own",
        kind="gradient",
        problem=WIDE,
        method="rmd",
        seed=0,
        task="l2t_bench.engine.gradient_cell:measure",
        settings={"horizons": [1000], "repeats": [1]},
    )
    limit = (resident_bytes() or 0) + 100 * 10**6
    with pytest.raises(l2t.Refused, match=r"rmd would take .* these would fit: "):
        measure(cell, Recorder(tmp_path, memory_limit=limit))


def test_what_is_left_is_the_rest_of_the_limit_and_never_more_than_the_machine_has(wide: TeachingProblem) -> None:
    assert bytes_left(1000, wide, held=300, available=5000) == 700
    assert bytes_left(1000, wide, held=300, available=200) == 200
    assert bytes_left(None, wide, held=300, available=200) == 200
    assert bytes_left(None, wide, held=300, available=None) is None


def test_the_machine_has_memory_left() -> None:
    available = available_bytes()
    if available is None:
        pytest.skip("this platform does not tell")
    held = torch.ones(64 << 20, dtype=torch.uint8)
    assert 10**8 < available < 10**14 and held.sum() > 0
