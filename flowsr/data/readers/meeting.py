"""A foreign file is first met in a disposable process: one that crashes the library of its format ends only that.

HDF5, NetCDF and Zarr are met here, before a reader sees them; VTK, XDMF and OpenFOAM are read in such processes whole.
A file that passed is read in this process from then on. It is known by its name, size, time and number, to this user's
other processes too, so that each content is met once.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path

from flowsr import __version__
from flowsr.errors import FlowsrError
from flowsr.files import check_ours, open_regular
from flowsr.quarantine import first_look

# Seconds, on the clock and of the processor, and bytes that the first look at a file may take; it looks for 0.2 s.
PATIENCE, PROCESSOR = 300, 1
MEMORY = 2 << 30
MOST_KNOWN = 4096
NETCDF3 = (b"CDF\x01", b"CDF\x02")
HDF5 = b"\x89HDF\r\n\x1a\n"
#: Where HDF5 may begin, behind what others have put before it.
STARTS = (0, *(512 << power for power in range(16)))
ZARR = ("zarr.json", ".zgroup", ".zarray", ".zmetadata", ".zattrs")

_met: set[str] = set()


def meet(path: Path) -> None:
    """Have a file looked at in a disposable process, unless one with this name, size, time and number was.

    Raises:
        FlowsrError: it crashed its library, came to no end, took too much memory, or is no file.
    """
    kind = _kind(path)
    if kind is None:
        return
    key = _identity(path)
    if key in _met:
        return
    if not _known(key):
        limits = {"seconds": PATIENCE, "processor": PROCESSOR, "memory": MEMORY}
        first_look(path, f"flowsr.quarantine.{kind}:meet", **limits, needed_here=True)
        _remember(key)
    _met.add(key)


def _kind(path: Path) -> str | None:
    """The module of the quarantine that meets a file, by its first bytes or names; None where there is no such."""
    if path.is_dir():
        return "zarr" if any((path / name).is_file() for name in ZARR) else None
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(4) in NETCDF3:
            return "netcdf3"
        for start in STARTS:
            if start + len(HDF5) > size:
                break
            file.seek(start)
            if file.read(len(HDF5)) == HDF5:
                return "hdf5"
    return None


def _identity(path: Path) -> str:
    """What stands for the content: of a folder, that of the metadata in it and in the folders in it."""
    path = path.resolve()
    files = [path]
    if path.is_dir():
        places = (path, *sorted(p for p in path.iterdir() if p.is_dir()))
        files += [place / name for place in places for name in ZARR if (place / name).exists()]
    states = [os.stat(file) for file in files]
    lines = [f"{f}\0{s.st_size} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_ino} {s.st_dev}" for f, s in zip(files, states)]
    return hashlib.sha256("\n".join([__version__, *lines]).encode("utf-8", "surrogateescape")).hexdigest()


@cache
def _folder() -> Path | None:
    """Where this user's processes note what they have met; None where there is no place of the user's own."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(os.environ.get("FLOWSR_CACHE") or Path(base) / "flowsr") / "met"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_ours(folder)
        if stat.S_IMODE(folder.stat().st_mode) & 0o022:
            return None
        notes = sorted(folder.iterdir(), key=lambda note: note.stat().st_mtime)
        for note in notes[:-MOST_KNOWN]:
            note.unlink(missing_ok=True)
        return folder
    except (OSError, FlowsrError):
        return None


def _known(key: str) -> bool:
    folder = _folder()
    return folder is not None and (folder / key).is_file()


def _remember(key: str) -> None:
    folder = _folder()
    if folder is not None:
        with suppress(OSError):
            (folder / key).touch(mode=0o600)
