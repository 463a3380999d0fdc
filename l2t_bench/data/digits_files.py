"""Where the digits are: inside scikit-learn's wheel. Needs no torch."""

from importlib.metadata import distribution
from pathlib import Path

from l2t_bench.data.transfer import Prepared
from l2t_bench.errors import UserError


def digits_files() -> list[Path]:
    """The one file, where today's scikit-learn has it; it need not be there."""
    return [Path(str(distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")))]


def prepare_digits(source: Path | None = None) -> Prepared:
    """Nothing is to be done. Raises ``UserError`` for a ``source``, which would not be read."""
    if source is not None:
        raise UserError("digits come with scikit-learn and are read from there alone: leave --from out")
    return Prepared(digits_files()[0], "they come with scikit-learn, nothing needs to be prepared")
