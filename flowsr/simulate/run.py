"""The simulate job: one direct numerical simulation into one store, resumable after a kill at any moment."""

from __future__ import annotations

import logging
import math
import time as clock
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

import flowsr
from flowsr.errors import FlowsrError
from flowsr.files import write_text_atomic
from flowsr.grid import Grid
from flowsr.simulate.diagnostics import COLUMNS, diagnose
from flowsr.simulate.flows import FLOWS, Drive
from flowsr.simulate.restart import Restart, load_restart, save_restart
from flowsr.simulate.solver import BoxSolver
from flowsr.simulate.spectral import PeriodicBox, resample

log = logging.getLogger(__name__)

SIDE = 2 * math.pi
DIAGNOSTIC_STEPS = 10  # a row of diagnostics every so many steps, and at every snapshot
RESTART_SECONDS = 15.0  # between restart files, besides one at every output time
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
FEWEST_CELLS = 4

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Settings:
    """What decides every bit of a run on a given device: see :func:`simulate_run`."""

    flow: str
    cells: int
    viscosity: float
    power: float
    forcing_cutoff: float
    seed: int
    spin_up_time: float
    settle_time: float
    duration: float
    snapshot_interval: float
    cfl: float
    precision: str

    def __post_init__(self):
        FLOWS[self.flow]
        if self.precision not in PRECISIONS:
            raise FlowsrError(
                "unknown precision", variable="precision", expected=" or ".join(PRECISIONS), found=self.precision
            )
        for name in ("viscosity", "power", "forcing_cutoff", "duration", "snapshot_interval", "cfl"):
            self._require(name, 0 < getattr(self, name) < math.inf, "a positive number")
        for name in ("spin_up_time", "settle_time"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "a number of zero or more")
        lowest = 2 * math.pi / SIDE
        self._require("forcing_cutoff", self.forcing_cutoff > lowest, f"above {lowest:g}, the box's lowest wavenumber")
        self._require("snapshot_interval", self.snapshot_interval <= self.duration, "at most the duration")
        self._require("cells", self.cells >= FEWEST_CELLS, f"{FEWEST_CELLS} or more")
        if self.spin_up > 0:
            self._require(
                "cells", self.cells >= 2 * FEWEST_CELLS, f"{2 * FEWEST_CELLS} or more to spin up on half the grid"
            )

    def _require(self, name: str, condition: bool, expected: str) -> None:
        if not condition:
            raise FlowsrError("this cannot be simulated", variable=name, expected=expected, found=getattr(self, name))

    @property
    def spin_up(self) -> float:
        """Time on half the grid: none for a flow that has no steady state to reach."""
        return self.spin_up_time if FLOWS[self.flow].steady else 0.0

    @property
    def snapshot_times(self) -> list[float]:
        """Times of the snapshots, counted from the start of the run."""
        first = self.spin_up + self.settle_time if FLOWS[self.flow].steady else 0.0
        count = math.floor(self.duration / self.snapshot_interval * (1 + 1e-12)) + 1
        return [first + i * self.snapshot_interval for i in range(count)]


@dataclass(frozen=True)
class Target:
    """A time the run must hit: on ``cells`` cells a side, to write snapshot number ``snapshot`` if that is not None."""

    time: float
    cells: int
    snapshot: int | None


def simulate_run(
    output: Path,
    *,
    flow: str,
    cells: int,
    viscosity: float,
    power: float,
    forcing_cutoff: float,
    seed: int,
    spin_up_time: float,
    settle_time: float,
    duration: float,
    snapshot_interval: float,
    cfl: float,
    precision: str = "float32",
    device: str = "auto",
    progress: Progress | None = None,
) -> Path:
    """Simulate a flow in a periodic cube of side 2 pi and store snapshots of its velocity.

    A statistically steady flow is spun up on half the grid, zero-padded to the whole one and left to settle; a
    decaying flow begins with its first snapshot, whatever ``spin_up_time`` and ``settle_time`` say. Times in the store
    count from the start of the run. Beside the store lies its table of diagnostics, ``<name>.csv``, with the columns of
    :func:`flowsr.simulate.diagnostics.diagnose`.

    The run may be killed at any moment. Called again with the same settings it goes on from its last restart file and,
    on the same device and number of threads, ends with the same bits; a finished store is returned at once.

    Args:
        output: the Zarr store to write: variable ``velocity`` (time, component, x, y, z), float32.
        flow: registered name (``forced_isotropic``, ``taylor_green``, ``abc``).
        cells: grid cells along each side.
        viscosity: kinematic viscosity.
        power, forcing_cutoff: power per unit mass of the forcing, spent in 0 < k < forcing_cutoff.
        seed: of the random start.
        spin_up_time, settle_time: time on half the grid and then on the whole one before the first snapshot.
        duration, snapshot_interval: from the first snapshot to the last, and between two.
        cfl: Courant number of the time step.
        precision: ``float32`` or ``float64``.
        device: ``cpu``, ``cuda`` or ``auto`` (CUDA where there is a device).
        progress: called with the fraction done and a short message.

    Returns:
        ``output``.

    Raises:
        FlowsrError: settings that cannot be simulated, a store made with other settings, or a flow that blew up.
    """
    from flowsr.data.store import create_store

    settings = Settings(
        str(flow), int(cells), float(viscosity), float(power), float(forcing_cutoff), int(seed), float(spin_up_time),
        float(settle_time), float(duration), float(snapshot_interval), float(cfl), str(precision),
    )  # fmt: skip
    with create_store(output, _template(settings)) as store:
        if not store.published:
            _Run(settings, store, _torch_device(device), progress or _silent).complete()
    return Path(output)


class _Run:
    """One run on its way: solver, output times, diagnostics, restart file."""

    def __init__(self, settings: Settings, store, device: torch.device, progress: Progress):
        from flowsr.data.store import partial_path

        self.settings, self.store, self.device, self.progress = settings, store, device, progress
        self.flow = FLOWS[settings.flow]
        self.drive = Drive(settings.seed, settings.power, settings.forcing_cutoff)
        self.targets = _targets(settings)
        self.restart_file = partial_path(store.target) / "restart.npz"
        self.table_file = store.target.with_suffix(".csv")
        self.rows: list[list[float]] = []
        self.saved_at = clock.monotonic()

    def complete(self) -> None:
        """Go on from the restart file, or from the start, to the published store."""
        first = self._resume()
        for index in range(first, len(self.targets)):
            self._reach(index)
            if self.targets[index].snapshot is not None:
                self._record()
                self._write_snapshot(self.targets[index].snapshot)
            self._save(index + 1)
        write_text_atomic(self.table_file, _table(self.rows))
        self.store.publish()
        self.progress(1.0, f"{len(self.settings.snapshot_times)} snapshots")

    def _resume(self) -> int:
        """Set the solver up, from the restart file where it is good; the index of the output time to go for."""
        restart = load_restart(self.restart_file, asdict(self.settings))
        if restart is None or not self._has_snapshots_before(restart.target):
            box = self._box(self.targets[0].cells)
            self.solver = self._solver(box, self.flow.start(box, self.drive))
            return 0
        log.info("%s: goes on from step %d, time %.4g", self.store.target.name, restart.step, restart.time)
        box = self._box(restart.velocity.shape[1])
        self.solver = self._solver(box, restart.velocity, time=restart.time, step=restart.step)
        self.solver.courant = restart.courant
        self.rows = restart.rows.tolist()
        return restart.target

    def _has_snapshots_before(self, index: int) -> bool:
        wanted = (target.snapshot for target in self.targets[:index] if target.snapshot is not None)
        return all(self.store.is_written("velocity", snapshot) for snapshot in wanted)

    def _reach(self, index: int) -> None:
        """Step to an output time, on the grid it asks for."""
        target = self.targets[index]
        self._change_grid(target.cells)
        while self.solver.time < target.time:
            self.solver.advance(target.time)
            if self.solver.step % DIAGNOSTIC_STEPS == 0:
                self._record()
            if clock.monotonic() - self.saved_at > RESTART_SECONDS:
                self._save(index)

    def _change_grid(self, cells: int) -> None:
        old = self.solver
        if old.box.grid.shape[0] != cells:
            box = self._box(cells)
            velocity = resample(old.velocity, old.box, box)
            self.solver = self._solver(box, velocity, time=old.time, step=old.step)

    def _box(self, cells: int) -> PeriodicBox:
        return PeriodicBox(_cube(cells), dtype=PRECISIONS[self.settings.precision], device=self.device)

    def _solver(self, box: PeriodicBox, velocity, **clock_state) -> BoxSolver:
        forces = self.flow.forces(box, self.drive)
        return BoxSolver(
            box, velocity, self.settings.viscosity, forces=forces, cfl=self.settings.cfl, **clock_state
        )

    def _record(self) -> None:
        """A row of diagnostics, and word to whoever watches."""
        row = diagnose(self.solver)
        if not math.isfinite(row["energy"]):
            raise self.solver.blow_up("the velocity is not finite")
        if not self.rows or self.rows[-1][COLUMNS.index("step")] != row["step"]:
            self.rows.append([row[name] for name in COLUMNS])
        phase = "spin-up" if self.solver.box.grid.shape[0] < self.settings.cells else "run"
        message = f"{phase} t={row['time']:.2f} Re_lambda={row['reynolds_lambda']:.0f} kmax*eta={row['kmax_eta']:.2f}"
        self.progress(_fraction_done(self.targets, row["time"]), message)

    def _write_snapshot(self, snapshot: int) -> None:
        field = self.solver.field().to("cpu", torch.float32).numpy()
        self.store.write("velocity", field, time=snapshot)

    def _save(self, target: int) -> None:
        solver = self.solver
        state = Restart(
            settings=asdict(self.settings),
            target=target,
            time=solver.time,
            step=solver.step,
            courant=solver.courant,
            velocity=solver.velocity.cpu(),
            rows=np.array(self.rows, dtype=np.float64).reshape(-1, len(COLUMNS)),
        )
        save_restart(self.restart_file, state)
        self.saved_at = clock.monotonic()


def _cube(cells: int) -> Grid:
    return Grid((cells,) * 3, (SIDE / cells,) * 3)


def _targets(settings: Settings) -> list[Target]:
    """Output times in order: the end of the spin-up, then the snapshots."""
    snapshots = [Target(t, settings.cells, i) for i, t in enumerate(settings.snapshot_times)]
    if settings.spin_up > 0:
        return [Target(settings.spin_up, settings.cells // 2, None), *snapshots]
    return snapshots


def _fraction_done(targets: list[Target], time: float) -> float:
    """Share of the work that lies behind ``time``; a unit of time costs as many cells times as many steps."""
    done = total = start = 0.0
    for target in targets:
        cost = float(target.cells) ** 4
        total += cost * (target.time - start)
        done += cost * max(0.0, min(time, target.time) - start)
        start = target.time
    return done / total if total else 1.0


def _template(settings: Settings):
    """The store to be, without its data."""
    from flowsr.data.layout import field_template

    provenance = {
        "source": f"flowsr simulate, direct numerical simulation, {settings.flow}",
        "flowsr_version": flowsr.__version__,
        "config": asdict(settings),
    }
    attrs = {"viscosity": settings.viscosity, "length_units": "1", "provenance": provenance}
    return field_template(_cube(settings.cells), settings.snapshot_times, long_name="velocity", attrs=attrs)


def _table(rows: list[list[float]]) -> str:
    """The diagnostics as CSV, numbers written so that they read back exactly."""
    lines = [",".join(COLUMNS)]
    for row in rows:
        lines.append(",".join(str(int(v)) if name == "step" else repr(v) for name, v in zip(COLUMNS, row)))
    return "\n".join(lines) + "\n"


def _torch_device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise FlowsrError("no CUDA device here", variable="device", expected="cpu or auto", found=device)
    return torch.device(device)


def _silent(fraction: float, message: str) -> None:
    pass
