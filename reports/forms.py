"""The form of what the tasks of our suites measure, key by key."""

from collections.abc import Mapping
from typing import Any

from l2t_bench.engine.records import (
    DamagedError,
    Form,
    first_misfit,
    is_count,
    is_duration,
    is_number,
    is_plain_name,
    is_text,
    is_whole,
    list_of,
    or_null,
    some_of,
)


def check_measurements(kind: str, measurements: Mapping[str, Any]) -> None:
    """Raise ``DamagedError`` where a cell's measurements are not of its kind's form; a kind of a plug-in has none."""
    translates = kind == "teaching" and "signature" in measurements
    misfit = first_misfit(measurements, _TRANSLATION if translates else _MEASUREMENTS.get(kind, {}))
    if misfit is not None:
        raise DamagedError(f"has {misfit!r} missing or of another form")
    if kind == "phi":
        _check_pairs(measurements)
    if kind == "gradient":
        horizons = [run["horizon"] for run in measurements["runs"]]
        if len(set(horizons)) < len(horizons):
            raise DamagedError("has one horizon twice")


def _check_pairs(measurements: Mapping[str, Any]) -> None:
    """Every class that is named has a name, and a value at every part of the run."""
    classes, parts = len(measurements["names"]), len(measurements["parts"])
    for pair in measurements["pairs"]:
        named = [pair["anchor"], *pair["similar"], *pair["dissimilar"]]
        if max(named) >= classes or len(pair["rows"]) != parts or any(len(row) != classes for row in pair["rows"]):
            raise DamagedError("has 'pairs' of another form")


def _are_durations(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(is_duration, value))


def _are_numbers_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(value_ is None or is_number(value_) for value_ in value.values())


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_text, value))


JUDGED_BY = ("accuracy", "bleu", "objective")  # what held-out students are measured by


def _are_judgements(value: Any) -> bool:
    """Of a teacher's selection, by one measure."""
    forms = [
        {"outer_step": is_count, f"dev_{measure}_mean": is_number, f"dev_{measure}_std": is_duration}
        for measure in JUDGED_BY
    ]
    return any(list_of(form)(value) for form in forms)


def _is_adjoint(value: Any) -> bool:
    """|w_bar_t| at steps, and where it exploded or died."""
    if not isinstance(value, dict):
        return False
    steps, norms = value.get("steps"), value.get("norms")
    places = (value.get("exploded_at"), value.get("died_at"))
    return (
        isinstance(steps, list)
        and isinstance(norms, list)
        and len(steps) == len(norms)
        and all(map(is_count, steps))
        and all(map(is_duration, norms))
        and all(place is None or is_count(place) for place in places)
    )


_GRADIENT_RUN: Form = {
    "horizon": is_count,
    "exactness?": is_text,
    "seconds": _are_durations,
    "seconds_forward?": _are_durations,
    "seconds_reverse?": _are_durations,
    "seconds_dev?": _are_durations,
    "host_start_bytes?": or_null(is_count),
    "host_peak_bytes?": or_null(is_count),
    "device_start_bytes?": or_null(is_count),
    "device_peak_bytes?": or_null(is_count),
    "value": is_number,
    "gradients?": is_count,
    "vector_products?": is_count,
    "recomputed_steps?": is_count,
    "diagnostics?": _are_numbers_by_name,
    "hyper_gradients?": _are_numbers_by_name,
    "warnings?": _are_texts,
    "engine?": is_text,
    "adjoint?": or_null(_is_adjoint),
    "adjoint_said?": is_text,
    "gradient_file": is_plain_name,
    "hyper_gradient_file?": is_plain_name,
}
_TRAINING: Form = {
    "exactness?": is_text,
    "outer_steps?": is_count,
    "horizon?": is_count,
    "train?": is_count,
    "dev?": is_count,
    "test?": is_count,
    "curve?": list_of(
        {
            "outer_step": is_count,
            "value": is_number,
            "gradient_norm?": or_null(is_number),
            "noise?": or_null(is_duration),
            "moved?": or_null(is_duration),
            "diverged?": is_count,
            "seconds?": or_null(is_duration),
            "adjoint_growth?": or_null(is_duration),
            "exploded?": is_count,
            "died?": is_count,
            "adjoint_said?": is_text,
            "warnings?": _are_texts,
        }
    ),
    "selection?": _are_judgements,
    "selected_outer_step?": or_null(is_count),
    "travelled?": or_null(is_duration),
    "largest_change?": _are_numbers_by_name,
    "peak_bytes?": or_null(is_count),
    "seconds_training?": or_null(is_duration),
    "engine?": is_text,
}


def _are_names(value: Any) -> bool:
    return _are_texts(value) and bool(value)


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, list) and all(map(is_number, row)) for row in value)


def _are_indices(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_count, value))


_PAIR: Form = {
    "anchor": is_count,
    "similar": _are_indices,
    "dissimilar": _are_indices,
    "rule": is_text,
    "rows": _are_rows,
}


def _is_bleu(value: Any) -> bool:
    return is_duration(value) and value <= _MOST_BLEU


_MOST_BLEU = 100 + 1e-6  # sacrebleu's sums are rounded
_TRANSLATION: Form = {
    "loss": is_text,
    "lr": is_number,
    "lr_grid": list_of({"lr": is_number, "dev_bleu": _is_bleu}),
    "students": some_of(
        {
            "seed": is_whole,
            "dev_bleu": _is_bleu,
            "test_greedy_bleu": _is_bleu,
            "test_bleu": _is_bleu,
            "test_detokenised_bleu": _is_bleu,
        }
    ),
    "signature": is_text,
    "detokenised_signature": is_text,
    "beam": is_count,
    **_TRAINING,
    "seconds_students?": or_null(is_duration),
}
"""Of students whose results are translations: BLEU from 0 to 100."""
_MEASUREMENTS: Mapping[str, Form] = {
    "gradient": {
        "exactness": is_text,
        "parameters?": is_count,
        "memory_law?": is_text,
        "seconds_compile?": is_duration,
        "runs": some_of(_GRADIENT_RUN),
    },
    "phi": {
        "names": _are_names,
        "parts": lambda value: isinstance(value, list) and all(map(is_number, value)),
        "pairs": some_of(_PAIR),
        "matrix_file?": is_plain_name,
    },
    "teacher": {"loss": is_text, **_TRAINING},
    "teaching": {
        "loss": is_text,
        "lr": is_number,
        "lr_grid?": list_of({"lr": is_number, "dev_accuracy": is_number}),
        "students": some_of({"seed": is_whole, "dev_accuracy": is_number, "test_accuracy": is_number}),
        "cross_entropy_as_long?": list_of({"seed": is_whole, "test_accuracy": is_number}),
        **_TRAINING,
        "schedule?": is_text,
        "seconds_students?": or_null(is_duration),
        "effective_lr?": list_of(
            {"step": is_count, "lr": is_number, "gradient_norm": is_number, "effective": or_null(is_number)}
        ),
    },
}
