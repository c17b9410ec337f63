"""From particles to a field on a grid, in a store of the one layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.spatial import QhullError

from flowsr.data.field import SCALAR_DIMS, SPACE, VECTOR_DIMS, field_template, tensor_irreps
from flowsr.data.readers.units import conversion
from flowsr.data.store import create_store
from flowsr.errors import FlowsrError
from flowsr.files import file_checksum, write_text_atomic
from flowsr.grid import Grid
from flowsr.progress import SILENT, Progress
from flowsr.tracks.classical import METHODS, Estimate, joined, left_out, vorticity
from flowsr.tracks.cloud import Cloud
from flowsr.tracks.files import clouds
from flowsr.tracks.learned import WEIGHTS, prepared
from flowsr.tracks.particles import grid_points, pressure_of
from flowsr.workers import Job, Pool, worker_pool

#: Points of the grid that are done between two reports of progress.
BATCH = 8192
#: Particles on which a method is tried first: what it gives, and whether it can be called so.
FEW = 100
#: What decides a field, of a dataset of points.
MEASURED = ("time", "position", "velocity", "acceleration", "uncertainty")
#: Methods that look at a point's neighbours alone; the others fit all particles first, which is done once.
LOCAL = ("solenoidal", "network", "local_fit", "gaussian")
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
    uncertainty: bool = False,
    workers: int = 1,
    fresh: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Write the field that particles are carried by, on a grid; on walls it is known to be at rest.

    Args:
        points: of :func:`flowsr.tracks.open_tracks`; every instant becomes a snapshot.
        target: Zarr store to write: ``velocity`` (1o), and where the method has it ``velocity_gradient``
            (0e + 1e + 2e, d_j u_i by e3nn's components) and ``vorticity`` (1e).
        method: one of :data:`flowsr.tracks.METHODS`.
        options: of the method: ``neighbours``, ``noise`` ...
        cells: along x, y, z; default: cubes, eight a particle.
        pressure: write ``pressure`` (0e, over the density, without mean) too: the solution of Poisson's equation for
            the gradient that the method gives, in periodic boxes, or what ``navier_stokes`` fits to accelerations.
        uncertainty: write ``uncertainty`` (0e), the standard deviation of a component of the velocity, too;
            ``solenoidal`` knows it.
        workers: processes that share the points; several of them start the caller's main module afresh.
        fresh: replace a store that was made of something else.
        progress: told the fraction of the points done.

    Returns:
        ``target``; it appears whole or not at all, and a run that was killed resumes with the next snapshot.

    Raises:
        FlowsrError: an unknown method or option, too few particles for the method, a pressure without a gradient
            or a periodic box, or an uncertainty that the method does not know.
    """
    call, options, target = METHODS[method], dict(options or {}), Path(target)
    if workers < 1:
        raise FlowsrError("work needs someone to do it", variable="workers", expected="1 or more", found=workers)
    known = [name for name in signature(call).parameters if name not in ("cloud", "points")]
    for name in options:
        if name not in known:
            expected = "one of " + ", ".join(known) if known else "no options"
            raise FlowsrError(f"method '{method}' has no such option", variable=name, expected=expected)
    if uncertainty:
        if "uncertainty" not in known:
            expected = "a method that knows it: solenoidal"
            raise FlowsrError("no uncertainty can be had", variable="method", expected=expected, found=method)
        options["uncertainty"] = True
    instants = [(time, cloud.with_walls()) for time, cloud in clouds(points)]
    fewest = min(len(cloud) for _, cloud in instants)
    if fewest < 8:
        raise FlowsrError("too few particles", variable="point", expected="8 or more an instant", found=fewest)
    grid = grid_for(instants[0][1], cells)
    places = grid_points(grid)
    with _telling(method):
        few = np.random.default_rng(0).permutation(len(instants[0][1]))[:FEW]  # a file may go plane by plane
        tried = call(instants[0][1].of(few), places[:1], **options)
    has_gradient = tried.gradient is not None
    if pressure and tried.pressure is None and not (has_gradient and grid.periodic):
        expected = "a periodic box and a method with a gradient, or accelerations and navier_stokes"
        raise FlowsrError("no pressure can be had", variable="pressure", expected=expected, found=method)
    template = _template(points, grid, [time for time, _ in instants], has_gradient, method, options)
    scalars = {"pressure": ("pressure over density", 2)} if pressure else {}
    scalars |= {"uncertainty": ("standard deviation of a component of the velocity", 1)} if uncertainty else {}
    for name, (long_name, power) in scalars.items():
        unit = template.velocity.attrs["units"]
        kind = {"irreps": "0e", "units": unit if power == 1 else _squared(unit), "long_name": long_name}
        template[name] = (SCALAR_DIMS, np.broadcast_to(np.float32(np.nan), (len(instants), *grid.shape)), kind)
    to_irreps = tensor_irreps("none")[1]
    measured = (np.ascontiguousarray(points[name].values).tobytes() for name in MEASURED if name in points)
    content = sha256(b"".join(measured)).hexdigest()
    with create_store(target, template, content=content, fresh=fresh) as store, worker_pool(workers, 1) as pool:
        if store.published:
            return target
        for number, (_, cloud) in enumerate(instants):
            names = list(template.data_vars)
            part = progress.share(number / len(instants), (number + 1) / len(instants))
            if all(store.is_written(name, number) for name in names):
                part(1.0, "reused")
                continue
            found = estimate(cloud, places, method, options, pool, part)
            fields = {"velocity": found.velocity}
            if has_gradient:
                fields["velocity_gradient"] = found.gradient.reshape(-1, 9) @ to_irreps.T
                fields["vorticity"] = vorticity(found.gradient)
            if uncertainty:
                fields["uncertainty"] = found.uncertainty
            if pressure:
                known_pressure = found.pressure
                if known_pressure is None:
                    known_pressure = pressure_of(found.gradient, grid).ravel()
                fields["pressure"] = known_pressure
            for name, values in fields.items():
                values = values.T.reshape(*values.shape[1:], *grid.shape)  # components first
                store.write(name, values.astype("float32"), time=number)
        return store.publish()


def estimate(
    cloud: Cloud, places: np.ndarray, method: str, options: Mapping[str, Any], pool: Pool, progress: Progress = SILENT
) -> Estimate:
    """A method's estimate at many places, shared among the workers of a pool where it looks at neighbours alone."""
    if pool.workers == 1 or method not in LOCAL:
        return _estimates(cloud, slice(0, len(places)), places, method, options, None, progress=progress)
    left = None
    if method == "network":  # whose particles are told of the classical estimate, which takes as long as places do
        parts = pool.run(_jobs(_left_out, cloud, len(cloud), pool), progress.share(0.0, 0.2))
        left, progress = tuple(np.concatenate(each) for each in zip(*parts)), progress.share(0.2, 1.0)
    return joined(pool.run(_jobs(_estimates, cloud, len(places), pool, places, method, options, left), progress))


@contextmanager
def _telling(method: str) -> Iterator[None]:
    """Particles that a method cannot take a field from, as one line."""
    try:
        yield
    except (np.linalg.LinAlgError, QhullError) as error:
        message, expected = f"method '{method}' cannot tell a field from these particles", "particles all over the box"
        hint = "particles in one plane say nothing of what is beside it; nearest and gaussian take any"
        found = str(error).splitlines()[0]
        raise FlowsrError(message, variable="point", expected=expected, found=found, hint=hint) from None


def _jobs(call: Callable[..., Any], cloud: Cloud, count: int, pool: Pool, *more: Any) -> list[Job]:
    """Of each worker an equal share of particles or places."""
    edges = np.linspace(0, count, pool.workers + 1).astype(int).tolist()
    parts = [slice(low, high) for low, high in pairwise(edges)]
    return [Job(f"part {number + 1}", call, (cloud, part, *more)) for number, part in enumerate(parts)]


def _left_out(cloud: Cloud, part: slice, *, progress: Progress) -> tuple[np.ndarray, ...]:
    found, starts = [], range(part.start, part.stop, BATCH)
    for number, start in enumerate(starts):
        found.append(left_out(cloud, particles=slice(start, min(start + BATCH, part.stop))))
        progress((number + 1) / len(starts), "particles")
    return tuple(np.concatenate(each) for each in zip(*found))


def _estimates(
    cloud: Cloud,
    part: slice,
    places: np.ndarray,
    method: str,
    options: Mapping[str, Any],
    left: tuple[np.ndarray, np.ndarray] | None,
    *,
    progress: Progress,
) -> Estimate:
    call = partial(METHODS[method], cloud, **options) if left is None else prepared(cloud, options["model"], left)
    found, places = [], places[part]
    for start in range(0, len(places), BATCH):
        with _telling(method):
            found.append(call(places[start : start + BATCH]))
        progress(min(1.0, (start + BATCH) / len(places)), "places")
    return joined(found)


def write_columns(store: str | Path, target: str | Path) -> Path:
    """A field as the challenges of particle tracking ask for it: a line a cell, x fastest.

    Args:
        store: of :func:`tracks_to_field`.
        target: ``.csv`` has one line of names; any other suffix three, which Tecplot reads too (title, variables, and
            the zone of each snapshot): position, velocity, its nine gradients (dUdX, dUdY, ... dWdZ), the pressure over
            density and the velocity's uncertainty where the store has them.

    Returns:
        ``target``; it appears whole or not at all.
    """
    # as it was written: lengths stay in the unit of the tracks
    field, target, columns = xr.open_zarr(store, consolidated=False), Path(target), {}
    length, speed = field.attrs.get("length_units", "1"), field.velocity.attrs["units"]
    rate, scale = _rate(speed, length), 1.0
    if factor := conversion(rate, "1/s"):
        rate, scale = "1/s", factor[0]
    shape, axes = field.velocity.shape[2:], [field[axis].values for axis in SPACE]
    for name, values in zip("XYZ", np.meshgrid(*axes, indexing="ij")):
        columns[f"{name} [{length}]"] = np.broadcast_to(values, (field.sizes["time"], *shape))
    columns |= {f"{name} [{speed}]": field.velocity.values[:, i] for i, name in enumerate("UVW")}
    if "velocity_gradient" in field:
        gradient = np.einsum("tcxyz,ck->tkxyz", field.velocity_gradient.values, tensor_irreps("none")[1]) * scale
        names = [f"d{of}d{along} [{rate}]" for of in "UVW" for along in "XYZ"]
        columns |= {name: gradient[:, number] for number, name in enumerate(names)}
    for name, of in (("P", "pressure"), ("sigma", "uncertainty")):
        if of in field:
            columns[f"{name} [{field[of].attrs['units']}]"] = field[of].values
    table = np.stack([np.swapaxes(values, 1, 3).reshape(len(values), -1) for values in columns.values()], -1)
    if target.suffix == ".csv":
        times = np.repeat(field.time.values, table.shape[1])[:, None]
        return write_text_atomic(
            target, _lines(np.hstack([table.reshape(-1, len(columns)), times]), [*columns, "time"])
        )
    text = f'TITLE = "{target.stem}"\nVARIABLES = ' + " ".join(f'"{name}"' for name in columns) + "\n"
    for time, rows in zip(field.time.values, table):
        text += f'ZONE T="t = {time:g}", I={shape[0]}, J={shape[1]}, K={shape[2]}, F=POINT\n' + _lines(rows)
    return write_text_atomic(target, text)


def _lines(rows: np.ndarray, names: Sequence[str] | None = None) -> str:
    frame, how = pd.DataFrame(rows, columns=names), {"index": False, "float_format": "%.9g", "lineterminator": "\n"}
    return frame.to_csv(**how) if names else frame.to_csv(sep=" ", header=False, **how)


def _squared(unit: str) -> str:
    return "1" if unit == "1" else f"({unit})^2"


def _rate(speed: str, length: str) -> str:
    return "1" if speed == length == "1" else f"({speed})/({length})"


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
        rate = _rate(speed, length)
        shape = (len(times), 9, *grid.shape)
        blank = np.broadcast_to(np.float32(np.nan), shape)
        kind = {"irreps": tensor_irreps("none")[0], "units": rate, "long_name": "velocity gradient"}
        template["velocity_gradient"] = (("time", "component_9", *SPACE), blank, kind)
        kind = {"irreps": "1e", "units": rate, "long_name": "vorticity"}
        template["vorticity"] = (VECTOR_DIMS, blank[:, :3], kind)
    return template
