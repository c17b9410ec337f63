"""What is in a stranger's file: layout, variables, grid, ranges, divergence and spectrum, in seconds whatever its size.

Values are seen by sampling: small cubes at fixed random places, and one larger cube for derivatives and the spectrum.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from flowsr.data.field import SPACE, field_variables, grid_of
from flowsr.data.manifest import DataSet, data_set_of, is_manifest
from flowsr.data.open import ReadOptions, open_field, read_options, runs_of
from flowsr.data.quality import BadValues, doubled_axes
from flowsr.data.readers.base import READERS, recognized
from flowsr.grid import Grid

SAMPLES = 12
SAMPLE_SIDE = 32
CUBE_SIDE = 64
ALIGNMENT = 64
SMALLEST_SPECTRUM = 16
# Another assignment of components to axes that is this many times less divergent is worth a word.
SUSPICIOUS = 2.0


@dataclass(frozen=True)
class VariableReport:
    """What was seen of one variable.

    Args:
        dims, shape, dtype, irreps, units: as the dataset has them.
        lowest, highest, rms: over the finite sampled values; None where there are none.
        sampled: number of values looked at.
        bad: NaN, infinite or missing values among them.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    irreps: str
    units: str
    lowest: float | None
    highest: float | None
    rms: float | None
    sampled: int
    bad: int


@dataclass(frozen=True)
class Spectrum:
    """Energy of a sampled cube by wavenumber.

    Args:
        wavenumber: (n,) radians per length.
        energy: (n,) per unit mass and wavenumber.
    """

    wavenumber: np.ndarray
    energy: np.ndarray

    def summary(self) -> str:
        """The spectrum in five numbers and its slope in the middle."""
        k, energy = self.wavenumber, self.energy
        at = np.unique(np.geomspace(1, len(k), 5).round().astype(int)) - 1
        shown = ", ".join(f"E({k[i]:.3g}) {energy[i]:.2g}" for i in at)
        middle = slice(len(k) // 8, max(len(k) // 2, len(k) // 8 + 2))
        if energy[middle].size < 2 or not np.all(energy[middle] > 0):
            return shown
        slope = np.polyfit(np.log(k[middle]), np.log(energy[middle]), 1)[0]
        return f"{shown}; slope {slope:.1f} (Hann window, one cube)"


@dataclass(frozen=True)
class FlowCheck:
    """What a sampled cube of velocity says of the flow.

    Args:
        divergence: root mean square, over the size of the gradient.
        better_order: components in an order that would be far less divergent, such as ``wvu``, or None.
        spectrum: of the cube; None where it is too small.
    """

    divergence: float
    better_order: str | None
    spectrum: Spectrum | None


@dataclass(frozen=True)
class Inspection:
    """What :func:`inspect` found; :meth:`lines` puts it in words.

    Args:
        file: what was opened.
        reader: name of the reader, and ``signs``, what it goes by.
        run, runs: which run was looked at, of which.
        grid: grid of the fields.
        times: first, last and number of snapshots.
        variables: one report a field variable.
        attrs: dataset attributes other than the boundary.
        data_set: where the data come from, where a manifest says so.
        flow: divergence and spectrum of a sampled cube of velocity; None without a velocity.
        notes: what a reader should know.
    """

    file: str
    reader: str
    signs: str
    run: str | None
    runs: tuple[str, ...]
    grid: Grid
    times: tuple[float, float, int]
    variables: tuple[VariableReport, ...]
    attrs: dict
    data_set: DataSet | None
    flow: FlowCheck | None
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The findings for a terminal, one thing a line."""
        lines = [f"layout      {self.reader}: {self.signs}"]
        if len(self.runs) > 1:
            lines.append(f"runs        {len(self.runs)}: {self.runs[0]} .. {self.runs[-1]}; this is {self.run}")
        first, last, count = self.times
        lines.append(f"times       {count}, from {first:.6g} to {last:.6g}")
        for number, name in enumerate(SPACE):
            lines.append(f"{name:<12}{self._axis(number)}")
        for v in self.variables:
            shape = ", ".join(f"{dim} {n}" for dim, n in zip(v.dims, v.shape))
            lines.append(f"{v.name:<12}{v.irreps}, {v.dtype}, [{v.units}], ({shape})")
            if v.rms is not None:
                spread = f"{v.lowest:.4g} to {v.highest:.4g}, rms {v.rms:.4g}"
                lines.append(f"{'':<12}{spread}, in {v.sampled} sampled values")
            if v.bad:
                lines.append(f"{'':<12}{v.bad} of {v.sampled} sampled values are NaN, infinite or missing")
        if self.flow is not None:
            divergence = f"{self.flow.divergence:.2g} of the gradient's size"
            lines.append(f"divergence  {divergence} (central differences, one cube)")
            if self.flow.better_order is not None:
                order = ", ".join(self.flow.better_order)
                lines.append(f"            CHECK THE AXES: as ({order}) it would be far less divergent")
            if self.flow.spectrum is not None:
                lines.append("spectrum    " + self.flow.spectrum.summary())
        lines += [f"{name:<12}{value}" for name, value in self.attrs.items() if isinstance(value, (str, int, float))]
        for name, value in asdict(self.data_set).items() if self.data_set is not None else ():
            if value is not None:
                lines.append(f"{name if name != 'name' else 'data set':<12}{' '.join(value.split())}")
        lines += [f"note        {note}" for note in self.notes]
        return [line.replace("\n", "\\n") for line in lines]

    def _axis(self, axis: int) -> str:
        grid = self.grid
        side = grid.lengths[axis]
        low = 0.0 if abs(grid.origin[axis]) < 1e-9 * side else grid.origin[axis]
        widths = grid.widths()[axis]
        size = f"{widths.min():.4g} to {widths.max():.4g}, stretched" if grid.stretched[axis] else f"{widths[0]:.6g}"
        return f"{grid.shape[axis]} cells of {size}, from {low:.6g} to {low + side:.6g}, {grid.boundary[axis]}"


def inspect(path: str | os.PathLike, options: ReadOptions | None = None, **stated: Any) -> Inspection:
    """Open a file, look at samples of it, and say what it is.

    Args:
        path, options, stated: as :func:`flowsr.data.open_field` takes them; of several runs the first is looked at.

    Raises:
        FlowsrError: a file that cannot be opened; see :func:`flowsr.data.open_field`.
    """
    path, options = Path(path), read_options(options, stated)
    reader, runs = options.reader, tuple(runs_of(path, options.reader))
    run = runs[0] if options.run is None and runs else options.run
    dataset = open_field(path, options, run=run)
    name = "manifest" if is_manifest(path) else reader or recognized(path)
    generator = np.random.default_rng(0)
    times = dataset["time"].values
    return Inspection(
        file=str(path),
        reader=name,
        signs="what the manifest and its file say" if is_manifest(path) else READERS[name].signs,
        run=run,
        runs=runs,
        grid=grid_of(dataset, path),
        times=(float(times[0]), float(times[-1]), len(times)),
        variables=tuple(_look(dataset[v], generator) for v in field_variables(dataset)),
        attrs={k: v for k, v in dataset.attrs.items() if k != "boundary"},
        data_set=data_set_of(dataset),
        flow=_flow(dataset),
        notes=tuple(_notes(dataset)),
    )


def _look(array: xr.DataArray, generator: np.random.Generator) -> VariableReport:
    """Sample one variable; places are aligned so that each sample lies in one chunk of the usual size."""
    bad = BadValues(array)
    lowest, highest, squares, numbers, sampled = np.inf, -np.inf, 0.0, 0, 0
    seen = set()
    for _ in range(SAMPLES):
        time = int(generator.integers(array.sizes["time"]))
        starts = [int(generator.integers(max(1, -(-n // ALIGNMENT)))) * ALIGNMENT for n in array.shape[-3:]]
        starts = [max(0, min(start, n - SAMPLE_SIDE)) for start, n in zip(starts, array.shape[-3:])]
        place = [slice(start, min(start + SAMPLE_SIDE, n)) for start, n in zip(starts, array.shape[-3:])]
        if (time, *starts) in seen:  # a small field has fewer places than that
            continue
        seen.add((time, *starts))
        values = array[(time, ..., *place)].values
        wrong = bad.mask(values)
        bad.count += int(np.count_nonzero(wrong))
        sampled += values.size
        good = values[~wrong].astype(float)
        if good.size:
            lowest, highest = min(lowest, good.min()), max(highest, good.max())
            squares, numbers = squares + float(np.sum(good**2)), numbers + good.size
    return VariableReport(
        name=str(array.name),
        dims=tuple(map(str, array.dims)),
        shape=array.shape,
        dtype=str(array.dtype),
        irreps=str(array.attrs.get("irreps")),
        units=str(array.attrs.get("units", "1")),
        lowest=float(lowest) if numbers else None,
        highest=float(highest) if numbers else None,
        rms=float(np.sqrt(squares / numbers)) if numbers else None,
        sampled=sampled,
        bad=bad.count,
    )


def _flow(dataset: xr.Dataset) -> FlowCheck | None:
    """Divergence, a less divergent order of the components, and the spectrum, of a cube in the middle of the run."""
    velocity = dataset.get("velocity")
    if velocity is None or velocity.attrs.get("irreps") not in ("1o", "1x1o") or min(velocity.shape[-3:]) < 4:
        return None
    starts = [side // 2 // ALIGNMENT * ALIGNMENT if side > CUBE_SIDE else 0 for side in velocity.shape[-3:]]
    place = [slice(start, min(start + CUBE_SIDE, side)) for start, side in zip(starts, velocity.shape[-3:])]
    cube = velocity[(velocity.sizes["time"] // 2, ..., *place)]
    values = cube.values.astype(float)
    if not np.all(np.isfinite(values)):
        return None
    axes = [cube[name].values.astype(float) for name in SPACE]
    inner = (slice(1, -1),) * 3
    gradient = np.array([[np.gradient(u, x, axis=i)[inner] for u in values] for i, x in enumerate(axes)])
    size = float(np.sqrt(np.mean(np.sum(gradient**2, axis=(0, 1)))))
    if size == 0:
        return None
    divergences = {}
    for order in permutations(range(3)):
        divergence = sum(gradient[i, j] for i, j in enumerate(order))
        divergences[order] = float(np.sqrt(np.mean(divergence**2))) / size
    declared, best = divergences[0, 1, 2], min(divergences, key=divergences.get)
    better = "".join("uvw"[j] for j in best) if divergences[best] * SUSPICIOUS < declared else None
    return FlowCheck(declared, better, _spectrum(values, axes) if min(values.shape[-3:]) >= SMALLEST_SPECTRUM else None)


def _spectrum(values: np.ndarray, axes: list[np.ndarray]) -> Spectrum:
    """Energy in shells of wavenumber of a cube under a Hann window, mean taken off."""
    steps = [float(np.mean(np.diff(x))) for x in axes]
    sides = values.shape[-3:]
    window = np.ones(())
    for n in sides:
        window = np.multiply.outer(window, 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n))
    fluctuation = (values - values.mean(axis=(1, 2, 3), keepdims=True)) * window
    energy = 0.5 * np.sum(np.abs(np.fft.fftn(fluctuation, axes=(1, 2, 3)) / np.prod(sides)) ** 2, axis=0)
    energy /= np.mean(window**2)
    ks = np.meshgrid(*(2 * np.pi * np.fft.fftfreq(n, d) for n, d in zip(sides, steps)), indexing="ij")
    k = np.sqrt(sum(component**2 for component in ks))
    width = max(2 * np.pi / (n * d) for n, d in zip(sides, steps))
    shell = np.rint(k / width).astype(int).ravel()
    last = int(min(np.pi / d for d in steps) / width)
    sums = np.bincount(shell, energy.ravel())[1 : last + 1] / width
    return Spectrum(np.arange(1, len(sums) + 1) * width, sums)


def _notes(dataset: xr.Dataset):
    for name in field_variables(dataset):
        if "stored_as" in dataset[name].attrs:
            yield f"{name} is {dataset[name].attrs['stored_as']} in the file"
        if "staggered" in dataset[name].attrs:
            yield f"{name}: {dataset[name].attrs['staggered']}"
    cutout = dataset.attrs.get("jhtdb")
    steps = [cutout.get(f"{axis}_step", 1) for axis in SPACE] if isinstance(cutout, dict) else []
    if any(list(np.ravel(step)[:1]) not in ([1], ["1"]) for step in steps):
        yield f"points were picked in steps of {steps}: strided data do not commute with the octahedral group"
    boundary = grid_of(dataset).boundary
    for axis in doubled_axes(dataset, field_variables(dataset), boundary):
        yield f"the end of {axis}, which is periodic, is stored twice: leave the last plane out"
    if dataset.attrs.get("viscosity") is None:
        yield "no viscosity: a manifest can state it"
