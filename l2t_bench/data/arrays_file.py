"""Where a user's own arrays are. Needs no torch."""

from pathlib import Path


def arrays_file(path: str) -> Path:
    """The file that the option ``path`` names, ``~`` being the home directory."""
    return Path(path).expanduser()
