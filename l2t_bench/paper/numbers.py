"""The paper's numbers by table, student and loss, read from ``numbers.toml``: the one place where they stand."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper: ``values`` in ``unit``, by (student, loss); in ``rows`` what it calls each student."""

    name: str
    measure: str
    unit: str
    values: Mapping[tuple[str, str], float]
    rows: Mapping[str, str]


@cache
def paper_tables() -> Mapping[str, PaperTable]:
    """The tables of section 4 by the suite that repeats each: ``table1``, ``table2``, ``table3``."""
    content = tomllib.loads(files(__package__).joinpath("numbers.toml").read_text(encoding="utf-8"))
    return MappingProxyType({table["suite"]: _table(table) for table in content["tables"]})


def _table(table: Mapping[str, object]) -> PaperTable:
    entries = table["entries"]
    assert isinstance(entries, list)
    return PaperTable(
        str(table["name"]),
        str(table["measure"]),
        str(table["unit"]),
        MappingProxyType({(entry["student"], entry["loss"]): float(entry["value"]) for entry in entries}),
        MappingProxyType({entry["student"]: entry["row"] for entry in entries}),
    )
