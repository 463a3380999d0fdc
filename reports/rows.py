"""A table's rows, one at a time."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

Row = Mapping[str, Any]


def rows_of(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The rows of ``frame`` in order, each by the names of its columns."""
    for record in frame.to_dict("records"):
        yield {str(key): value for key, value in record.items()}
