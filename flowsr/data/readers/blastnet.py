"""BLASTNet's super-resolution boxes: a folder of raw little-endian float32 cubes, a CSV with their spacings.

``RHO_kgm-3_id<hash>.dat``, ``UX_ms-1_id<hash>.dat``, ``UY_...`` and ``UZ_...`` are one box, in C order over x, y, z.
The CSV, in the folder or above it, has a column ``hash`` (or ``hash_id``) and the spacings ``dx``, ``dy``, ``dz``; an
empty one is dx. The boxes are cut out of larger simulations, so their sides are open. Chung et al., arXiv 2309.13457.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import xarray as xr

from flowsr.data.field import SPACE
from flowsr.data.readers.base import READERS, Reader, Request
from flowsr.data.readers.described import RawArray
from flowsr.data.readers.lazy import Stack
from flowsr.errors import FlowsrError

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
        stored = [
            *velocity,
            *([_cube(folder / f"{DENSITY}{run}.dat")] if (folder / f"{DENSITY}{run}.dat").exists() else []),
        ]
        for cube in stored:
            if cube.shape != velocity[0].shape:
                raise FlowsrError(
                    "cubes of one box differ", file=cube.file, expected=velocity[0].shape, found=cube.shape
                )
        spacing = _spacing(folder, run)
        axes = {name: (name, (np.arange(n) + 0.5) * d) for name, n, d in zip(SPACE, velocity[0].shape, spacing)}
        dataset = xr.Dataset(coords={"time": ("time", [0.0]), "component": ["u", "v", "w"], **axes})
        dataset["velocity"] = Stack([Stack(velocity, 0)], 0).as_variable(
            ("time", "component", *SPACE), {"irreps": "1o", "units": "m/s", "long_name": "velocity"}
        )
        if len(stored) > len(velocity):
            dataset["density"] = Stack(stored[-1:], 0).as_variable(
                ("time", *SPACE), {"irreps": "0e", "units": "kg/m^3", "long_name": "density"}
            )
        dataset.attrs = {"boundary": ["open"] * 3, "length_units": "m", "blastnet": {"hash": run}}
        return dataset


def _run(path: Path, folder: Path, run: str | None) -> str:
    if path != folder:
        named = path.stem.partition("_id")[2]
        if run not in (None, named):
            raise FlowsrError("this file is one run", file=path, variable="run", expected=named, found=run)
        return named
    runs = _hashes(folder)
    if run is None and len(runs) > 1:
        shown = ", ".join(runs[:3]) + (", ..." if len(runs) > 3 else "")
        raise FlowsrError("which run?", file=folder, variable="run", expected=f"one of {len(runs)}: {shown}")
    if run is not None and run not in runs:
        raise FlowsrError("no such run", file=folder, variable="run", expected=f"one of {len(runs)} hashes", found=run)
    return runs[0] if run is None else run


def _hashes(folder: Path) -> list[str]:
    return sorted(file.stem.removeprefix(VELOCITY[0]) for file in folder.glob(f"{VELOCITY[0]}*.dat"))


def _cube(file: Path) -> RawArray:
    if not file.is_file():
        raise FlowsrError("no such file", file=file, expected="density and three velocities of one hash together")
    size = file.stat().st_size
    side = round((size / DTYPE.itemsize) ** (1 / 3))
    if side < 2 or side**3 * DTYPE.itemsize != size:
        raise FlowsrError(
            "not a cube", file=file, expected="n^3 float32 numbers, 4 n^3 bytes (n = 128: 8388608)", found=size
        )
    return RawArray(file, (side,) * 3, DTYPE)


def _spacing(folder: Path, run: str) -> tuple[float, float, float]:
    """dx, dy, dz of a box from the first CSV that lists it, in the folder or up to three folders above."""
    for level in [folder, *folder.resolve().parents][: LEVELS_UP + 1]:
        for file in sorted(level.glob("*.csv")):
            row = _row(file, run)
            if row is not None:
                return _numbers(row, file, run)
    raise FlowsrError(
        "no CSV lists this box",
        file=folder,
        variable=run,
        expected="a CSV with columns hash, dx, dy, dz",
        hint="keep the data set's CSV beside its folders",
    )


def _row(file: Path, run: str) -> dict | None:
    if file.stat().st_size > LARGEST_CSV:
        return None
    try:
        with open(file, newline="", encoding="utf-8") as text:
            for row in csv.DictReader(text):
                if run in (row.get("hash"), row.get("hash_id")) and "dx" in row:
                    return row
    except (csv.Error, UnicodeDecodeError):
        return None
    return None


def _numbers(row: dict, file: Path, run: str) -> tuple[float, float, float]:
    spacing = []
    for name in ("dx", "dy", "dz"):
        try:
            value = float((row.get(name) or "").strip() or row["dx"])
        except ValueError:
            value = np.nan
        if not (np.isfinite(value) and value > 0):
            raise FlowsrError(
                "not a spacing", file=file, variable=f"{name} of {run}", expected="a length", found=repr(row.get(name))
            )
        spacing.append(value)
    return tuple(spacing)
