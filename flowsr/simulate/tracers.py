"""Particles that a simulated flow carries, as a tracking experiment sees them: tracks whose truth is known.

A run is taken up again from one of its snapshots; the solver steps on, and the particles with it. Their paths are
integrated by the classical Runge-Kutta method of fourth order, with the velocity half way between two steps of the
solver from both and from their tendencies (Hermite, fourth order too) and between cells from splines of order 5.
Accelerations are du/dt + u . grad u of the solver's own right-hand side. Between walls, where viscosity is implicit,
one step of the particles is two of the solver's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import map_coordinates, spline_filter
from torch import Tensor

from flowsr.data.between import BetweenWalls
from flowsr.errors import BadValue, FlowsrError
from flowsr.files import write_bytes_atomic, write_text_atomic
from flowsr.grid import Grid
from flowsr.progress import SILENT, Progress
from flowsr.simulate.channel.solver import ChannelSolver
from flowsr.simulate.channel.space import HALF_HEIGHT, HEIGHT, ChannelSpace
from flowsr.simulate.flows import scalars_of, solver_of
from flowsr.simulate.settings import Channel, Simulation
from flowsr.simulate.solver import BoxSolver
from flowsr.simulate.spectral import PeriodicBox

ORDER = 5
#: A velocity at places, both (places, 3).
Velocity = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Tracers:
    """A tracking experiment in a simulated flow."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    count: int = 1000
    """Particles at random places."""
    steps: int = 1
    """Instants of each track, the first at the snapshot."""
    interval: float = 0.05
    """Time between them."""
    noise: float = 0.0
    """Standard deviation of a measured position about the true one, per axis, in cells."""
    dropped: float = 0.0
    """Share of the particles that is not seen, at each instant anew."""
    seed: int = 0
    """Of places, noise and what is dropped."""

    def __post_init__(self) -> None:
        for name, fits in (
            ("count", self.count >= 1),
            ("steps", self.steps >= 1),
            ("interval", self.interval > 0),
            ("noise", self.noise >= 0),
            ("dropped", 0 <= self.dropped < 1),
        ):
            if not fits:
                raise BadValue("no tracks can be made with this", variable=name, found=getattr(self, name))


def material_acceleration(solver: BoxSolver) -> Tensor:
    """du/dt + u . grad u of a solver's present state, (3, x, y, z) at cell centres."""
    box, velocity = solver.box, solver.velocity
    found, u = box.backward(solver.tendency(solver.state)[:3]), box.backward(velocity)
    for axis, wavenumber in enumerate(box.wavenumber):
        found += u[axis] * box.backward(1j * wavenumber * velocity)
    return found


def acceleration_of(settings: Simulation, velocity: np.ndarray) -> np.ndarray:
    """:func:`material_acceleration` of a snapshot (3, x, y, z) that a run with these settings left, float64.

    Raises:
        BadValue: a flow in a mean stream, or with scalars, of which the velocity alone does not decide.
    """
    if settings.channel is not None:
        carried = _CarriedBetweenWalls(channel_from(settings.channel, velocity))
        cells = np.stack(np.meshgrid(*carried.grid.coordinates(), indexing="ij"), -1)
        return np.moveaxis(carried.felt(cells.reshape(-1, 3)).reshape(cells.shape), -1, 0)
    return material_acceleration(solver_from(settings, velocity)).numpy()


def solver_from(settings: Simulation, velocity: np.ndarray) -> BoxSolver:
    """The solver of a run, in double precision, at one of its snapshots; raises as :func:`acceleration_of`."""
    if scalars_of(settings) or any(settings.mean_flow):
        expected = "a velocity without scalars or a mean stream"
        raise BadValue(
            "tracers are carried by such flows only", variable="flow", expected=expected, found=settings.flow
        )
    box = PeriodicBox(settings.grid(velocity.shape[1:]), dealiasing=settings.dealiasing, dtype=torch.float64)
    return solver_of(settings, box, state=box.forward(torch.from_numpy(np.asarray(velocity, dtype=np.float64))))


def channel_from(channel: Channel, velocity: np.ndarray) -> ChannelSolver:
    """The solver of a channel, in the frame of the walls, at one of its snapshots (3, x, y, z)."""
    space = ChannelSpace(
        channel.cells, (channel.lengths[0], channel.lengths[2]), wall_dealiasing=channel.wall_dealiasing
    )
    (nx, ny, nz), between = channel.cells, BetweenWalls(velocity, channel.grid)
    at_faces = torch.from_numpy(between.across(np.arange(ny + 1) * np.pi / ny))
    state = space.state(at_faces.reshape(3, nx, ny + 1, nz))
    return ChannelSolver(space, state, channel.viscosity, channel.mean_drive, cfl=channel.cfl)


def settings_of(store: Path) -> Simulation:
    """What a store was simulated with.

    Raises:
        FlowsrError: a field that flowsr did not simulate.
    """
    from flowsr.data.open import open_field

    config = open_field(store).attrs.get("provenance", {}).get("config", {})
    known = {one.name for one in fields(Simulation)}
    if "flow" not in config or not isinstance(config, dict):
        raise FlowsrError("tracers need a run of flowsr simulate", file=store, found="a field from elsewhere")
    if config["flow"] == "channel":
        known = {one.name for one in fields(Channel)}
        channel = {name: tuple(of) if isinstance(of, list) else of for name, of in config.items() if name in known}
        return Simulation("channel", channel=Channel(**channel))
    return Simulation(**{name: value for name, value in config.items() if name in known})


def carry(
    settings: Simulation, velocity: np.ndarray, tracers: Tracers, *, time: float = 0.0, progress: Progress = SILENT
) -> pd.DataFrame:
    """Tracks from a snapshot on.

    Args:
        settings: of the run.
        velocity: (3, x, y, z), the snapshot.
        tracers: how many, how long, how well seen.
        time: of the snapshot.
        progress: told the fraction done.

    Returns:
        A line for each particle that is seen at each instant: ``time``, ``track``, ``x y z`` as measured and wrapped
        into the box, ``u v w`` and ``ax ay az`` of the flow at the true place.

    Raises:
        BadValue: as :func:`acceleration_of`.
    """
    rng, parts = np.random.default_rng(tracers.seed), []
    carried: _Carried | _CarriedBetweenWalls
    if settings.channel is None:
        carried = _Carried(solver_from(settings, velocity))
    else:
        carried = _CarriedBetweenWalls(channel_from(settings.channel, velocity), tracers.interval)
    solver, grid = carried.solver, carried.grid
    lower, lengths = np.array(grid.origin), np.array(grid.lengths)
    periodic = [kind == "periodic" for kind in grid.boundary]
    places = rng.uniform(lower, lower + lengths, (tracers.count, 3))
    for step in range(tracers.steps):
        while step and solver.time < step * tracers.interval:
            places = carried.advanced(places, step * tracers.interval)
        seen = np.flatnonzero(rng.uniform(size=tracers.count) >= tracers.dropped)
        measured = places[seen] + tracers.noise * np.array(grid.spacing) * rng.normal(size=(len(seen), 3))
        felt = carried.felt(places[seen])
        wrapped = lower + np.mod(measured - lower, lengths)
        wrapped = np.where(periodic, wrapped, np.clip(measured, lower, lower + lengths))
        columns = [*wrapped.T, *carried.now(places[seen]).T, *felt.T]
        named = dict(zip(("x", "y", "z", "u", "v", "w", "ax", "ay", "az"), columns))
        parts.append(pd.DataFrame({"time": time + step * tracers.interval, "track": seen, **named}))
        progress((step + 1) / tracers.steps, f"instant {step + 1} of {tracers.steps}")
    return pd.concat(parts, ignore_index=True)


def write_tracks(
    store: Path, output: Path, tracers: Tracers, *, snapshot: int = -1, progress: Progress = SILENT
) -> Path:
    """Tracks from a snapshot of a stored run on, as a table; the manifest beside it says in which box they are.

    Args:
        store: of ``flowsr simulate``.
        output: ``.csv`` or ``.parquet``.
        tracers, progress: as for :func:`carry`.
        snapshot: number of the snapshot, from the end where negative.

    Returns:
        The manifest, which ``flowsr tracks`` takes.

    Raises:
        FlowsrError: another suffix, a field that flowsr did not simulate, no such snapshot, or as :func:`carry`.
    """
    from flowsr.data.field import grid_of
    from flowsr.data.open import open_field

    if output.suffix not in (".csv", ".parquet"):
        raise BadValue("tracks are written as .csv or .parquet", variable="output", found=output.name)
    settings, dataset = settings_of(store), open_field(store)
    count, grid = dataset.sizes["time"], grid_of(dataset)
    if not -count <= snapshot < count:
        raise BadValue("no such snapshot", file=store, variable="snapshot", expected=f"below {count}", found=snapshot)
    now = dataset.isel(time=snapshot)
    tracks = carry(settings, now["velocity"].values, tracers, time=float(now.time), progress=progress)
    if output.suffix == ".csv":
        write_text_atomic(output, tracks.to_csv(index=False, lineterminator="\n"))
    else:
        write_bytes_atomic(output, tracks.to_parquet(index=False))
    upper = [low + length for low, length in zip(grid.origin, grid.lengths)]
    box = {"lower": list(map(float, grid.origin)), "upper": list(map(float, upper)), "boundary": list(grid.boundary)}
    # JSON is YAML
    return write_text_atomic(output.with_suffix(".yaml"), json.dumps({"file": output.name, **box}) + "\n")


class _Carried:
    """Places along the solver's steps."""

    def __init__(self, solver: BoxSolver):
        self.solver, self.grid = solver, solver.box.grid
        self._read()

    def _read(self) -> None:
        box, solver = self.solver.box, self.solver
        self.velocity, self.tendency = box.backward(solver.velocity), box.backward(solver.tendency(solver.state)[:3])
        self.now = _Interpolated(self.velocity, self.grid)

    def felt(self, places: np.ndarray) -> np.ndarray:
        """Accelerations at places."""
        return _Interpolated(material_acceleration(self.solver), self.grid)(places)

    def advanced(self, places: np.ndarray, until: float) -> np.ndarray:
        """Places after one step of the solver."""
        before, velocity, tendency = self.now, self.velocity, self.tendency
        dt = self.solver.advance(until)
        self._read()
        middle = (velocity + self.velocity) / 2 + dt / 8 * (tendency - self.tendency)
        half_way = _Interpolated(middle, self.grid)
        return _stepped(places, dt, before, half_way, self.now)


class _CarriedBetweenWalls:
    """Places along the steps of a channel."""

    def __init__(self, solver: ChannelSolver, interval: float = 1.0):
        self.solver = solver
        # as many steps of the solver as are stable, and an even number, between two instants
        steps = 2 * math.ceil(interval * solver._speed() / solver.cfl / 2)
        solver.time_step = interval / steps
        cells, (x, z) = solver.space.cells, solver.space.lengths
        self.grid = Channel(cells=cells, lengths=(x, HEIGHT, z)).grid
        self._read()

    def _read(self) -> None:
        self.now = BetweenWalls(self.solver.field().numpy(), self.grid)

    def felt(self, places: np.ndarray) -> np.ndarray:
        """Accelerations at places: the product is taken there, not on the cells, which could not hold it."""
        change = BetweenWalls(self.solver.space.field(self.solver.tendency()).numpy(), self.grid)
        return change(places) + np.einsum("pij,pj->pi", self.now.gradient(places), self.now(places))

    def advanced(self, places: np.ndarray, until: float) -> np.ndarray:
        """Places after two steps of the solver."""
        before, dt = self.now, self.solver.advance(until)
        half_way = BetweenWalls(self.solver.field().numpy(), self.grid)
        dt += self.solver.advance(until)
        self._read()
        moved = _stepped(places, dt, before, half_way, self.now)
        moved[:, 1] = np.clip(moved[:, 1], -HALF_HEIGHT, HALF_HEIGHT)
        return moved


def _stepped(places: np.ndarray, dt: float, before: Velocity, half_way: Velocity, after: Velocity) -> np.ndarray:
    """One step of the classical Runge-Kutta method."""
    first = before(places)
    second = half_way(places + dt / 2 * first)
    third = half_way(places + dt / 2 * second)
    fourth = after(places + dt * third)
    return places + dt / 6 * (first + 2 * second + 2 * third + fourth)


class _Interpolated:
    """A periodic field (3, x, y, z) between its cells."""

    def __init__(self, field: Tensor, grid: Grid):
        self.grid = grid
        self.splines = [spline_filter(component.numpy(), ORDER, mode="grid-wrap") for component in field]

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """(places, 3)."""
        index = ((places - self.grid.origin) / np.array(self.grid.spacing) - 0.5).T
        options = {"order": ORDER, "mode": "grid-wrap", "prefilter": False}
        return np.stack([map_coordinates(each, index, **options) for each in self.splines], 1)
