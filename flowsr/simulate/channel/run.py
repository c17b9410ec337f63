"""The channel's simulate job: one direct numerical simulation into one store, resumable after a kill at any moment."""

from __future__ import annotations

import logging
import math
import time as clock
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

import flowsr
from flowsr.devices import resolve_device
from flowsr.errors import FlowsrError
from flowsr.files import write_text_atomic
from flowsr.grid import Grid
from flowsr.progress import SILENT, Progress
from flowsr.simulate.channel.chebyshev import gauss_points
from flowsr.simulate.channel.solver import ChannelSolver, MeanDrive
from flowsr.simulate.channel.space import FEWEST_CELLS, HALF_HEIGHT, HEIGHT, ChannelSpace
from flowsr.simulate.channel.start import PROFILES, bulk_velocity, disturbed
from flowsr.simulate.channel.statistics import COLUMNS, ChannelStatistics, ProfileSums, profile_table
from flowsr.simulate.restart import load_restart, save_restart
from flowsr.simulate.table import table_text

log = logging.getLogger(__name__)

DIAGNOSTIC_STEPS = 10  # a row of diagnostics and a sample of the profiles every so many steps, and at every snapshot
RESTART_SECONDS = 15.0  # between restart files, besides one at every output time
DRIVES = ("pressure", "flux")
FRAME_SHARE = 0.65  # of the bulk velocity: half of the fastest, and near the speed of the eddies at the walls
LOWEST_RE_TAU = 60.0  # below it a channel is laminar (turbulence is sustained from about 80 on)
ARRAYS = ("state", "rows", "sums")


@dataclass(frozen=True)
class ChannelSettings:
    """What decides every bit of a run on a given device: see :func:`simulate_channel`."""

    flow: str
    re_tau: float
    cells: tuple[int, int, int]
    lengths: tuple[float, float, float]
    drive: str
    cfl: float
    time_step: float | None
    start: str
    wall_dealiasing: bool
    seed: int
    spin_up_time: float
    duration: float
    snapshot_interval: float

    def __post_init__(self):
        PROFILES[self.start]
        self._require("flow", self.flow == "channel", "channel")
        self._require("drive", self.drive in DRIVES, " or ".join(DRIVES))
        for name in ("duration", "snapshot_interval", "cfl"):
            self._require(name, 0 < getattr(self, name) < math.inf, "a positive number")
        self._require("time_step", self.time_step is None or 0 < self.time_step < math.inf, "a positive number")
        self._require("spin_up_time", 0 <= self.spin_up_time < math.inf, "a number of zero or more")
        self._require("re_tau", LOWEST_RE_TAU <= self.re_tau < math.inf, f"{LOWEST_RE_TAU:g} or more")
        self._require("snapshot_interval", self.snapshot_interval <= self.duration, "at most the duration")
        even = len(self.cells) == 3 and all(n >= FEWEST_CELLS and n % 2 == 0 for n in self.cells)
        self._require("cells", even, f"three even numbers, {FEWEST_CELLS} or more")
        positive = len(self.lengths) == 3 and all(0 < length < math.inf for length in self.lengths)
        self._require("lengths", positive and self.lengths[1] == HEIGHT, f"three positive numbers, {HEIGHT:g} along y")

    def _require(self, name: str, condition: bool, expected: str) -> None:
        if not condition:
            found = getattr(self, name)
            raise FlowsrError("this cannot be simulated", variable=name, expected=expected, found=found)

    def stated(self) -> dict:
        """The settings as JSON has them."""
        return {**asdict(self), "cells": list(self.cells), "lengths": list(self.lengths)}

    @property
    def viscosity(self) -> float:
        """nu, with half height and friction velocity 1."""
        return HALF_HEIGHT / self.re_tau

    @property
    def mean_drive(self) -> MeanDrive:
        """The pressure gradient that balances a wall shear of 1, or the bulk velocity that goes with it."""
        if self.drive == "pressure":
            return MeanDrive(pressure_gradient=1.0 / HALF_HEIGHT)
        return MeanDrive(bulk_velocity=bulk_velocity(self.re_tau))

    @property
    def snapshot_times(self) -> list[float]:
        """Times of the snapshots, counted from the start of the run."""
        count = math.floor(self.duration / self.snapshot_interval * (1 + 1e-12)) + 1
        return [self.spin_up_time + i * self.snapshot_interval for i in range(count)]

    @property
    def grid(self) -> Grid:
        """The cells of the store: uniform along x and z, centred on the Chebyshev-Gauss points along y."""
        spacing = tuple(length / n for length, n in zip(self.lengths, self.cells))
        return Grid(
            self.cells,
            spacing,
            boundary=("periodic", "wall", "periodic"),
            origin=(0.0, -HALF_HEIGHT, 0.0),
            centers=(None, tuple(gauss_points(self.cells[1])), None),
        )


def simulate_channel(
    output: Path,
    *,
    flow: str = "channel",
    re_tau: float = 180.0,
    cells: tuple[int, int, int] = (32, 64, 32),
    lengths: tuple[float, float, float] = (math.pi, HEIGHT, 0.4 * math.pi),
    drive: str = "pressure",
    cfl: float = 0.5,
    time_step: float | None = None,
    start: str = "turbulent",
    wall_dealiasing: bool = False,
    seed: int = 0,
    spin_up_time: float = 3.0,
    duration: float = 12.0,
    snapshot_interval: float = 0.25,
    device: str = "auto",
    progress: Progress = SILENT,
) -> Path:
    """Simulate a plane channel and store snapshots of its velocity.

    Units are the half height h and the friction velocity u_tau that the drive is meant to give; nu = 1 / Re_tau. The
    walls are at y = -1 and y = 1, the flow is along x. The defaults are the minimal flow unit of Jimenez and Moin (J.
    Fluid Mech. 225, 213, 1991) at Re_tau 180. Times in the store count from the start of the run. Beside the store
    ``<name>.zarr`` lie its table of diagnostics, ``<name>.csv``, with the columns of
    :meth:`flowsr.simulate.channel.statistics.ChannelStatistics.diagnose` and the budget's residual
    (:func:`flowsr.simulate.table.budget_residual`), and ``<name>.profiles.csv``, the profiles averaged from the first snapshot to the last (:func:`flowsr.simulate.channel.statistics.profile_table`).

    The run may be killed at any moment. Called again with the same settings it goes on from its last restart file and,
    on the same device and number of threads, ends with the same bits; a finished store is returned at once.

    The flow has the symmetries C2v, four elements: identity, the mirrors of y and of z, and the half turn about x; with
    any shift along x and z.

    Args:
        output: the Zarr store to write: variable ``velocity`` (time, component, x, y, z), float32, on cell centres:
            uniform along x and z, Chebyshev-Gauss points along y, which lie between the solver's Ny + 1 Lobatto points.
        flow: ``channel``, the one flow there is between walls.
        re_tau: friction Reynolds number u_tau h / nu.
        cells: along x, y, z, even.
        lengths: sides of the box along x, y, z; 2 along y.
        drive: ``pressure``: constant pressure gradient, which fixes u_tau; ``flux``: constant bulk velocity, that of
            turbulence at this Re_tau (:func:`flowsr.simulate.channel.start.bulk_velocity`).
        cfl: Courant number of the time step; stable up to 0.55.
        time_step: a largest time step to use instead.
        start: ``turbulent`` or ``laminar`` mean profile under the disturbance.
        wall_dealiasing: 3/2 as many points along y for products, too.
        seed: of the disturbance.
        spin_up_time: before the first snapshot.
        duration, snapshot_interval: from the first snapshot to the last, and between two.
        device: ``cpu``, ``cuda`` or ``auto`` (CUDA where there is a device).
        progress: called with the fraction done and a short message.

    Returns:
        ``output``.

    Raises:
        FlowsrError: settings that cannot be simulated, a store made with other settings, or a flow that blew up.
    """
    from flowsr.data.store import create_store

    settings = ChannelSettings(
        str(flow),
        float(re_tau),
        tuple(int(n) for n in cells),
        tuple(float(length) for length in lengths),
        str(drive),
        float(cfl),
        None if time_step is None else float(time_step),
        str(start),
        bool(wall_dealiasing),
        int(seed),
        float(spin_up_time),
        float(duration),
        float(snapshot_interval),
    )
    with create_store(output, _template(settings)) as store:
        if not store.published:
            _Run(settings, store, resolve_device(device), progress).complete()
    return Path(output)


class _Run:
    """One run on its way: solver, output times, diagnostics, profiles, restart file."""

    def __init__(self, settings: ChannelSettings, store, device: str, progress: Progress):
        from flowsr.files import partial_path

        self.settings, self.store, self.progress = settings, store, progress
        lengths = settings.lengths[0], settings.lengths[2]
        self.space = ChannelSpace(settings.cells, lengths, wall_dealiasing=settings.wall_dealiasing, device=device)
        self.statistics = ChannelStatistics(self.space)
        self.times = settings.snapshot_times
        self.restart_file = partial_path(store.target) / "restart.npz"
        self.table_file = store.target.with_suffix(".csv")
        self.profile_file = store.target.with_suffix(".profiles.csv")
        self.rows: list[list[float]] = []
        self.profiles = ProfileSums(settings.cells[1])
        self.saved_at = clock.monotonic()

    def complete(self) -> None:
        """Go on from the restart file, or from the start, to the published store."""
        for snapshot in range(self._resume(), len(self.times)):
            self._reach(snapshot)
            self._record()
            self._write_snapshot(snapshot)
            self._save(snapshot + 1)
        write_text_atomic(self.table_file, table_text(COLUMNS, self.rows))
        write_text_atomic(self.profile_file, profile_table(self.profiles, self.settings.viscosity))
        self.store.publish()
        self.progress(1.0, f"{len(self.times)} snapshots")

    def _resume(self) -> int:
        """Set the solver up, from the restart file where it is good; the index of the snapshot to go for."""
        found = load_restart(self.restart_file, self.settings.stated(), ARRAYS)
        if found is None or not self._has_snapshots_before(found[0]["snapshot"]):
            state = disturbed(self.space, self.settings.start, self.settings.re_tau, self.settings.seed)
            self.solver = self._solver(state)
            return 0
        header, arrays = found
        log.info("%s: goes on from step %d, time %.4g", self.store.target.name, header["step"], header["time"])
        self.solver = self._solver(torch.from_numpy(arrays["state"]), time=header["time"], step=header["step"])
        self.solver.courant = header["courant"]
        self.rows = arrays["rows"].tolist()
        self.profiles.sums, self.profiles.time = arrays["sums"], header["averaged_over"]
        return header["snapshot"]

    def _has_snapshots_before(self, snapshot: int) -> bool:
        return all(self.store.is_written("velocity", i) for i in range(snapshot))

    def _solver(self, state, **clock_state) -> ChannelSolver:
        settings = self.settings
        return ChannelSolver(
            self.space,
            state,
            settings.viscosity,
            settings.mean_drive,
            cfl=settings.cfl,
            time_step=settings.time_step,
            frame_velocity=FRAME_SHARE * bulk_velocity(settings.re_tau),
            **clock_state,
        )

    def _reach(self, snapshot: int) -> None:
        """Step to the time of a snapshot."""
        while self.solver.time < self.times[snapshot]:
            self.solver.advance(self.times[snapshot])
            if self.solver.step % DIAGNOSTIC_STEPS == 0:
                self._record()
            if clock.monotonic() - self.saved_at > RESTART_SECONDS:
                self._save(snapshot)

    def _record(self) -> None:
        """A row of diagnostics, a sample of the profiles, and word to whoever watches."""
        row = self.statistics.diagnose(self.solver)
        if not math.isfinite(row["energy"]):
            raise self.solver.blow_up("the velocity is not finite")
        if not self.rows or self.rows[-1][COLUMNS.index("step")] != row["step"]:
            self.rows.append([row[name] for name in COLUMNS])
        sampled = self.solver.time - self.times[0] - self.profiles.time
        if sampled > 0:
            self.profiles.add(self.statistics.moments(self.solver.state), sampled)
        phase = "spin-up" if row["time"] < self.times[0] else "run"
        message = f"{phase} t={row['time']:.2f} Re_tau={row['reynolds_tau']:.0f} U_b={row['bulk_velocity']:.2f}"
        self.progress(row["time"] / self.times[-1], message)

    def _write_snapshot(self, snapshot: int) -> None:
        field = self.solver.field().to("cpu", torch.float32).numpy()
        self.store.write("velocity", field, time=snapshot)

    def _save(self, snapshot: int) -> None:
        solver = self.solver
        header = {
            "settings": self.settings.stated(),
            "snapshot": snapshot,
            "time": solver.time,
            "step": solver.step,
            "courant": solver.courant,
            "averaged_over": self.profiles.time,
        }
        rows = np.array(self.rows, dtype=np.float64).reshape(-1, len(COLUMNS))
        arrays = {"state": solver.state.cpu().numpy(), "rows": rows, "sums": self.profiles.sums}
        save_restart(self.restart_file, header, arrays)
        self.saved_at = clock.monotonic()


def _template(settings: ChannelSettings):
    """The store to be, without its data."""
    from flowsr.data.field import field_template

    provenance = {
        "source": "flowsr simulate, direct numerical simulation, channel",
        "flowsr_version": flowsr.__version__,
        "config": settings.stated(),
    }
    attrs = {"viscosity": settings.viscosity, "length_units": "h", "provenance": provenance}
    return field_template(settings.grid, settings.snapshot_times, units="u_tau", long_name="velocity", attrs=attrs)
