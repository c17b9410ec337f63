"""From particles to a field on a grid, in a store of the one layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from flowsr.data.field import SCALAR_DIMS, SPACE, VECTOR_DIMS, field_template, tensor_irreps
from flowsr.data.store import create_store
from flowsr.errors import FlowsrError
from flowsr.files import file_checksum
from flowsr.grid import Grid
from flowsr.progress import SILENT, Progress
from flowsr.tracks.classical import METHODS, vorticity
from flowsr.tracks.cloud import Cloud
from flowsr.tracks.files import clouds
from flowsr.tracks.learned import WEIGHTS
from flowsr.tracks.particles import grid_points

#: Points of the grid that are done between two reports of progress.
BATCH = 8192
#: Cells that a particle has, where the grid is not said: the finest that particles at random places say anything about.
CELLS_PER_PARTICLE = 8.0


def grid_for(cloud: Cloud, cells: Sequence[int] | None = None) -> Grid:
    """A grid over the box of a cloud; default: cubes, eight a particle."""
    if cells is None:
        side = cloud.spacing / CELLS_PER_PARTICLE ** (1 / 3)
        cells = [max(2, round(length / side)) for length in cloud.lengths]
    if len(cells) != 3 or min(cells) < 2:
        raise FlowsrError("a grid has 2 cells or more along x, y, z", variable="cells", found=list(cells))
    return Grid(tuple(cells), tuple(cloud.lengths / cells), cloud.boundary, cloud.lower)


def tracks_to_field(
    points: xr.Dataset,
    target: str | Path,
    *,
    method: str = "solenoidal",
    options: Mapping[str, Any] | None = None,
    cells: Sequence[int] | None = None,
    pressure: bool = False,
    fresh: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Write the field that particles are carried by, on a grid.

    Args:
        points: of :func:`flowsr.tracks.open_tracks`; every instant becomes a snapshot.
        target: Zarr store to write: ``velocity`` (1o), and where the method has it ``velocity_gradient``
            (0e + 1e + 2e, d_j u_i by e3nn's components) and ``vorticity`` (1e).
        method: one of :data:`flowsr.tracks.METHODS`.
        options: of the method: ``neighbours``, ``noise`` ...
        cells: along x, y, z; default: cubes, eight a particle.
        pressure: write ``pressure`` (0e, over the density, without mean) too: the solution of Poisson's equation for
            the gradient that the method gives. Periodic boxes only.
        fresh: replace a store that was made of something else.
        progress: told the fraction of the points done.

    Returns:
        ``target``; it appears whole or not at all, and a run that was killed resumes with the next snapshot.

    Raises:
        FlowsrError: an unknown method or option, too few particles for the method, or a pressure without a gradient
            or a periodic box.
    """
    call, options, target = METHODS[method], dict(options or {}), Path(target)
    known = [name for name in signature(call).parameters if name not in ("cloud", "points")]
    for name in options:
        if name not in known:
            expected = "one of " + ", ".join(known) if known else "no options"
            raise FlowsrError(f"method '{method}' has no such option", variable=name, expected=expected)
    instants = list(clouds(points))
    fewest = min(len(cloud) for _, cloud in instants)
    if fewest < 8:
        raise FlowsrError("too few particles", variable="point", expected="8 or more an instant", found=fewest)
    grid = grid_for(instants[0][1], cells)
    places = grid_points(grid)
    has_gradient = call(instants[0][1], places[:1], **options).gradient is not None
    if pressure and not (has_gradient and grid.periodic):
        expected = "a periodic box, and a method with a gradient"
        raise FlowsrError("no pressure can be had", variable="pressure", expected=expected, found=method)
    template = _template(points, grid, [time for time, _ in instants], has_gradient, method, options)
    if pressure:
        kind = {
            "irreps": "0e",
            "units": _squared(template.velocity.attrs["units"]),
            "long_name": "pressure over density",
        }
        template["pressure"] = (SCALAR_DIMS, np.broadcast_to(np.float32(np.nan), (len(instants), *grid.shape)), kind)
    to_irreps = tensor_irreps("none")[1]
    content = points.attrs.get("provenance", {}).get("source_sha256", "")
    with create_store(target, template, content=content, fresh=fresh) as store:
        if store.published:
            return target
        for number, (_, cloud) in enumerate(instants):
            names = list(template.data_vars)
            part = progress.share(number / len(instants), (number + 1) / len(instants))
            if all(store.is_written(name, number) for name in names):
                part(1.0, "reused")
                continue
            estimates = []
            for start in range(0, len(places), BATCH):
                estimates.append(call(cloud, places[start : start + BATCH], **options))
                part(min(1.0, (start + BATCH) / len(places)), f"snapshot {number + 1} of {len(instants)}")
            velocity = np.concatenate([each.velocity for each in estimates])
            fields = {"velocity": velocity}
            if has_gradient:
                gradient = np.concatenate([each.gradient for each in estimates])
                fields["velocity_gradient"] = gradient.reshape(-1, 9) @ to_irreps.T
                fields["vorticity"] = vorticity(gradient)
            if pressure:
                store.write("pressure", pressure_of(gradient, grid).astype("float32"), time=number)
            for name, values in fields.items():
                store.write(name, np.moveaxis(values.reshape(*grid.shape, -1), -1, 0).astype("float32"), time=number)
        return store.publish()


def pressure_of(gradient: np.ndarray, grid: Grid) -> np.ndarray:
    """Pressure over density, without mean, of a velocity gradient (cells, 3, 3) on a periodic grid: (x, y, z).

    Source: laplacian p = -d_i u_j d_j u_i (Pope, Turbulent Flows, 2000, equation 2.42), solved in Fourier space.
    """
    source = -np.einsum("pij,pji->p", gradient, gradient).reshape(grid.shape)
    waves = [2 * np.pi * np.fft.fftfreq(n, d) for n, d in zip(grid.shape, grid.spacing)]
    squared = sum(k**2 for k in np.meshgrid(*waves, indexing="ij", sparse=True))
    modes = np.fft.fftn(source)
    modes[0, 0, 0] = 0.0
    squared[0, 0, 0] = 1.0
    return np.fft.ifftn(-modes / squared).real


def _squared(unit: str) -> str:
    return "1" if unit == "1" else f"({unit})^2"


def _template(
    points: xr.Dataset, grid: Grid, times: Sequence[float], has_gradient: bool, method: str, options: Mapping[str, Any]
) -> xr.Dataset:
    speed, length = points.velocity.attrs.get("units", "1"), points.attrs.get("length_units", "1")
    options = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    made = {**points.attrs.get("provenance", {}), "method": method, "options": options}
    if "model" in options:
        made["model_sha256"] = file_checksum(Path(options["model"]) / WEIGHTS)
    attrs = {"length_units": length, "provenance": made}
    template = field_template(grid, times, units=speed, attrs=attrs)
    if has_gradient:
        rate = "1" if speed == length == "1" else f"({speed})/({length})"
        shape = (len(times), 9, *grid.shape)
        blank = np.broadcast_to(np.float32(np.nan), shape)
        kind = {"irreps": tensor_irreps("none")[0], "units": rate, "long_name": "velocity gradient"}
        template["velocity_gradient"] = (("time", "component_9", *SPACE), blank, kind)
        kind = {"irreps": "1e", "units": rate, "long_name": "vorticity"}
        template["vorticity"] = (VECTOR_DIMS, blank[:, :3], kind)
    return template
