"""Where a user's own arrays are. Needs no torch."""

from pathlib import Path

from l2t_bench.data.root import data_root


def arrays_file(path: str) -> Path:
    """The file that the option ``path`` names: from here, else in the data root; ``~`` is the home directory.

    A name in the data root keeps folders of one machine out of a result.
    """
    given = Path(path).expanduser()
    in_root = data_root() / given
    return in_root if in_root.is_file() and not given.is_file() else given
