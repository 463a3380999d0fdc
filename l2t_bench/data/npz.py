"""Arrays of a ``.npz`` file, nothing in it being unpickled."""

import zipfile
import zlib
from pathlib import Path

import numpy as np


class NotNpz(Exception):
    """The file is none, or is damaged; the message says how it shows."""


def read_npz(file: Path) -> dict[str, np.ndarray]:
    """All arrays of ``file`` by name. Raises ``NotNpz`` where it cannot be read, is damaged, or holds objects."""
    try:
        with file.open("rb") as content:  # NumPy leaves a file open that it has opened and cannot read
            held = np.load(content, allow_pickle=False)
            if not isinstance(held, np.lib.npyio.NpzFile):
                raise NotNpz("it holds one array without a name")
            return {name: held[name] for name in held.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise NotNpz(str(error)) from error
