"""How the CIFAR files get into the data root: downloaded by torchvision, or from a folder. Needs no torch to import."""

import tarfile
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError

from l2t_bench.data.cifar_files import Cifar
from l2t_bench.data.transfer import Prepared, check, copy, md5, move_in, staging, why
from l2t_bench.errors import UserError


def prepare_cifar(cifar: Cifar, source: Path | None = None) -> Prepared:
    """Bring a CIFAR data set into the data root; files that are there and sound stay as they are.

    They are downloaded through torchvision, or without network taken from ``source``: a folder that has, or has in
    a folder of the data set's name, the original files in their folder, the original archive, or of CIFAR-10 the packed
    copy. Each file is known by its md5, the original ones by torchvision's. All are found sound before any file of the
    data root is replaced, and a cut leaves no half of one.

    Raises ``UserError`` where ``source`` has none of these or a damaged file, the download fails, or the data root
    cannot be written.
    """
    offered = None if source is None else _look_in(source, cifar)
    packed = offered is not None and offered == cifar.copies(offered[0].parent)
    sums = cifar.packed if packed else original_sums(cifar)
    target = cifar.place if packed else cifar.place / cifar.folder
    if offered is not None and len(offered) > 1:
        for file in offered:
            check(file, sums[file.name])
    try:
        wanted = [name for name in sums if not _sound(target / name, sums[name])]
        damaged = tuple(name for name in wanted if (target / name).exists())
        if wanted:
            with staging(target) as stage:
                files = [file for file in _brought(cifar, offered, stage) if file.name in wanted]
                for file in files:  # the very bytes that get the name
                    check(file, sums[file.name])
                move_in(files, target)
    except OSError as error:
        raise UserError(f"{cifar.title} could not be prepared in {target}: {why(error)}") from error
    added = tuple(name for name in wanted if name not in damaged)
    note = _note(len(wanted), damaged, "downloaded" if source is None else "copied")
    return Prepared(target, f"{note}; results call it {cifar.told}", added, damaged)


def original_sums(cifar: Cifar) -> Mapping[str, str]:
    """File name -> md5 of the original files, as torchvision states them."""
    import torchvision.datasets

    known = getattr(torchvision.datasets, cifar.torchvision)
    return dict((*known.train_list, *known.test_list, (known.meta["filename"], known.meta["md5"])))


def _look_in(source: Path, cifar: Cifar) -> list[Path]:
    """The original's files, its archive alone, or the packed copy's files, in ``source`` or a folder of its name.

    Raises ``UserError`` where there is none of them.
    """
    try:
        if not source.is_dir():
            told = f"{source} is a file" if source.exists() else f"there is no folder {source}"
            raise UserError(f"{told}: name the folder that holds {_wanted(cifar)}")
        places = (source, source / cifar.name)
        inside = (source.parent,) if source.name == cifar.folder else ()
        offers = [cifar.originals(place) for place in (*inside, *places)]
        offers += [[place / cifar.archive] for place in places]
        offers += [cifar.copies(place) for place in places if cifar.packed]
        for offer in offers:
            if all(file.is_file() for file in offer):
                return offer
        begun = [offer for offer in offers if any(file.is_file() for file in offer)]
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error.strerror}") from error
    if begun:
        missing = ", ".join(file.name for file in begun[0] if not file.is_file())
        raise UserError(f"{missing} missing in {begun[0][0].parent}: {cifar.title} needs all of its files")
    raise UserError(f"{cifar.title} is neither in {source} nor in its {cifar.name}: looked for {_wanted(cifar)}")


def _wanted(cifar: Cifar) -> str:
    ways = [f"{cifar.folder} with its {len(cifar.files)} files", cifar.archive]
    ways += [f"the packed copy ({', '.join(cifar.packed)})"] if cifar.packed else []
    return f"{', '.join(ways[:-1])} or {ways[-1]}"


def _brought(cifar: Cifar, offered: list[Path] | None, stage: Path) -> list[Path]:
    """The files in ``stage``, from where they are offered, else by download. Raises ``UserError`` and ``OSError``."""
    if offered is None:
        return _download(cifar, stage)
    if len(offered) > 1:
        return copy(offered, stage)
    import torchvision.datasets

    check(offered[0], getattr(torchvision.datasets, cifar.torchvision).tgz_md5)
    try:
        with tarfile.open(offered[0]) as archive:
            archive.extractall(stage, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{offered[0]} cannot be unpacked: {error}; get it again") from error
    return cifar.originals(stage)


def _download(cifar: Cifar, stage: Path) -> list[Path]:
    """Raises ``UserError`` where the network fails or sends another file, ``OSError`` if the disk does."""
    import torchvision.datasets

    try:
        getattr(torchvision.datasets, cifar.torchvision)(str(stage), download=True)
    except (RuntimeError, URLError, HTTPException, ConnectionError, TimeoutError, tarfile.TarError, EOFError) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        told = " ".join(str(error).split())
        raise UserError(
            f"{cifar.title} could not be prepared in {cifar.place}: {told}; "
            f"where there is no network, --from DIR takes it from a folder: {_wanted(cifar)}"
        ) from error
    return cifar.originals(stage)


def _sound(file: Path, expected: str) -> bool:
    return file.is_file() and md5(file) == expected


def _note(count: int, damaged: tuple[str, ...], verb: str) -> str:
    if not count:
        return f"its files were there and are sound, nothing was {verb}"
    replaced = f", in the place of the damaged {', '.join(damaged)}" if damaged else ""
    return f"{count} {'file' if count == 1 else 'files'} {verb} and found sound{replaced}"
