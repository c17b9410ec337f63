"""BLASTNet's super-resolution boxes: a folder of raw little-endian float32 cubes, a CSV with their spacings.

``RHO_kgm-3_id<hash>.dat``, ``UX_ms-1_id<hash>.dat``, ``UY_...`` and ``UZ_...`` are one box, in C order over x, y, z.
The CSV, in the folder or above it, has a column ``hash`` (or ``hash_id``) and the spacings ``dx``, ``dy``, ``dz``; an
empty one is dx. The boxes are cut out of larger simulations, so their sides are open. Chung et al., arXiv 2309.13457.
"""

from __future__ import annotations

import csv
from contextlib import suppress
from pathlib import Path

import numpy as np
import xarray as xr

from flowsr.data.field import SPACE
from flowsr.data.readers.base import READERS, Reader, Request
from flowsr.data.readers.described import RawArray
from flowsr.data.readers.lazy import Stack
from flowsr.errors import FlowsrError, missing_file, require

DTYPE = np.dtype("<f4")
VELOCITY = ("UX_ms-1_id", "UY_ms-1_id", "UZ_ms-1_id")
DENSITY = "RHO_kgm-3_id"
LEVELS_UP = 3
LARGEST_CSV = 1 << 26


@READERS.register("blastnet")
class BlastnetReader(Reader):
    """A folder of BLASTNet's cubes, or one of its velocity files; each hash is a run."""

    signs = "raw cubes named UX_ms-1_id<hash>.dat"
    holds_runs = True

    def recognizes(self, path: Path) -> bool:
        if path.is_dir():
            return next(path.glob(f"{VELOCITY[0]}*.dat"), None) is not None
        return path.suffix == ".dat" and path.name.startswith((*VELOCITY, DENSITY))

    def runs(self, path: Path) -> list[str]:
        return _hashes(path) if path.is_dir() else []

    def open(self, path: Path, request: Request) -> xr.Dataset:
        folder = path if path.is_dir() else path.parent
        run = _run(path, folder, request.run)
        velocity = [_cube(folder / f"{name}{run}.dat") for name in VELOCITY]
        density = [_cube(file) for file in [folder / f"{DENSITY}{run}.dat"] if file.exists()]
        for cube in velocity + density:
            shape, expected = cube.shape, velocity[0].shape
            require(shape == expected, "cubes of one box differ", file=cube.file, expected=expected, found=shape)
        spacing = _spacing(folder, run)
        axes = {name: (name, (np.arange(n) + 0.5) * d) for name, n, d in zip(SPACE, velocity[0].shape, spacing)}
        dataset = xr.Dataset(coords={"time": ("time", [0.0]), "component": ["u", "v", "w"], **axes})
        dataset["velocity"] = Stack([Stack(velocity, 0)], 0).as_variable(
            ("time", "component", *SPACE), {"irreps": "1o", "units": "m/s", "long_name": "velocity"}
        )
        if density:
            dataset["density"] = Stack(density, 0).as_variable(
                ("time", *SPACE), {"irreps": "0e", "units": "kg/m^3", "long_name": "density"}
            )
        dataset.attrs = {"boundary": ["open"] * 3, "length_units": "m", "blastnet": {"hash": run}}
        return dataset


def _run(path: Path, folder: Path, run: str | None) -> str:
    where = {"variable": "run", "found": run}
    if path != folder:
        named = path.stem.partition("_id")[2]
        require(run in (None, named), "this file is one run", file=path, **where, expected=named)
        return named
    runs = _hashes(folder)
    shown = ", ".join(runs[:3]) + (", ..." if len(runs) > 3 else "")
    expected = f"one of {len(runs)}: {shown}"
    require(run is not None or len(runs) == 1, "which run?", file=folder, variable="run", expected=expected)
    require(run in (None, *runs), "no such run", file=folder, **where, expected=expected)
    return runs[0] if run is None else run


def _hashes(folder: Path) -> list[str]:
    return sorted(file.stem.removeprefix(VELOCITY[0]) for file in folder.glob(f"{VELOCITY[0]}*.dat"))


def _cube(file: Path) -> RawArray:
    if not file.is_file():
        raise missing_file(file, hint="density and three velocities of one hash lie together")
    size = file.stat().st_size
    side = round((size / DTYPE.itemsize) ** (1 / 3))
    expected = "n^3 float32 numbers, 4 n^3 bytes (n = 128: 8388608)"
    cube = side > 1 and side**3 * DTYPE.itemsize == size
    require(cube, "not a cube", file=file, expected=expected, found=size)
    return RawArray(file, (side,) * 3, DTYPE)


def _spacing(folder: Path, run: str) -> list[float]:
    """dx, dy, dz of a box from the first CSV that lists it, in the folder or up to three folders above."""
    for level in [folder, *folder.resolve().parents][: LEVELS_UP + 1]:
        for file in sorted(level.glob("*.csv")):
            row = _row(file, run)
            if row is not None:
                return [_number(row, name, file, run) for name in ("dx", "dy", "dz")]
    expected, hint = "a CSV with columns hash, dx, dy, dz", "keep the data set's CSV beside its folders"
    raise FlowsrError("no CSV lists this box", file=folder, variable=run, expected=expected, hint=hint)


def _row(file: Path, run: str) -> dict | None:
    if file.stat().st_size <= LARGEST_CSV:
        with suppress(csv.Error, UnicodeDecodeError), open(file, newline="", encoding="utf-8") as text:
            for row in csv.DictReader(text):
                if run in (row.get("hash"), row.get("hash_id")) and "dx" in row:
                    return row
    return None


def _number(row: dict, name: str, file: Path, run: str) -> float:
    value = np.nan
    with suppress(ValueError):
        value = float((row.get(name) or "").strip() or row["dx"])
    good, found = np.isfinite(value) and value > 0, repr(row.get(name))
    require(good, "not a spacing", file=file, variable=f"{name} of {run}", expected="a length", found=found)
    return value
