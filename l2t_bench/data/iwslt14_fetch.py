"""The download of IWSLT-14's archive. Needs no torch."""

import shutil
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError

from l2t_bench.data.iwslt14_source import ARCHIVE
from l2t_bench.errors import UserError

ADDRESS = "http://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz"
"""A copy that the organisers' own address no longer gives. Its test sets are checked by their sums."""

_PATIENCE = 60  # seconds without a byte


def fetch(folder: Path, address: str = ADDRESS) -> Path:
    """The archive, downloaded into ``folder``.

    Raises ``UserError`` where the network fails, ``OSError`` if the disk does.
    """
    file = folder / ARCHIVE
    try:
        with urllib.request.urlopen(address, timeout=_PATIENCE) as sent, file.open("wb") as kept:
            shutil.copyfileobj(sent, kept)
    except (URLError, HTTPException, ConnectionError, TimeoutError) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        raise UserError(
            f"IWSLT-14 could not be downloaded: {error}; where there is no network, --from takes {ARCHIVE} or the "
            "folder of its files"
        ) from error
    return file
