"""A report says which data its figures are of: those of a copy are not those of the data set."""

import json
from pathlib import Path
from typing import Any

import pytest

from l2t_bench.reports import provenance, text
from l2t_bench.reports.load import load_run

COPY = "CIFAR-10 (JPEG copy)"


@pytest.fixture
def on_a_copy(writer: Any) -> Path:
    """A run of two losses on the packed copy."""
    for method in ("rmd", "cross-entropy"):
        file = writer.teaching("cifar10/resnet8", method, [0.5, 0.6, 0.7, 0.5, 0.6])
        record = json.loads(file.read_text())
        record["data"] = {"data set": COPY, "train.npz": "sha256:0"}
        file.write_text(json.dumps(record))
    folder: Path = writer.finish()
    return folder


def test_the_table_and_the_page_name_a_copy_for_what_it_is(on_a_copy: Path) -> None:
    run = load_run(on_a_copy)
    taught = [table for table in text.summary_tables(run) if table.title.startswith("Students taught")]
    assert len(taught) == 1 and taught[0].note.endswith(f"Data: {COPY}.")
    assert dict(provenance.provenance(run))["data"] == COPY


def test_results_that_name_no_data_are_reported_as_before(kept_run: Path) -> None:
    run = load_run(kept_run)
    assert not any("Data:" in table.note for table in text.summary_tables(run))
    assert "data" not in dict(provenance.provenance(run))
