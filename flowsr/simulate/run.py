"""The simulate job: one direct numerical simulation into one store, resumable after a kill at any moment."""

from __future__ import annotations

import logging
import math
import time as clock
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import flowsr
from flowsr.errors import FlowsrError
from flowsr.files import write_text_atomic
from flowsr.simulate.diagnostics import COLUMNS, columns, diagnose
from flowsr.simulate.flows import NONE
from flowsr.simulate.restart import Restart, load_restart, save_restart
from flowsr.simulate.settings import PRECISIONS, SIDE, Settings
from flowsr.simulate.solver import BoxSolver
from flowsr.simulate.spectral import PeriodicBox, resample

log = logging.getLogger(__name__)

STEP_COLUMN = COLUMNS.index("step")
DIAGNOSTIC_STEPS = 10  # a row of diagnostics every so many steps, and at every snapshot
RESTART_SECONDS = 15.0  # between restart files, besides one at every output time

Progress = Callable[[float, str], None]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Target:
    """A time the run must hit: on a grid of ``shape``, to write snapshot number ``snapshot`` if that is not None."""

    time: float
    shape: tuple[int, int, int]
    snapshot: int | None


def simulate_run(
    output: Path,
    *,
    flow: str,
    cells: int | tuple[int, int, int],
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
    lengths: Triple = (SIDE, SIDE, SIDE),
    dealiasing: str = "sphere",
    forcing_mode: int = 1,
    rotation: Triple = NONE,
    stratification: Triple = NONE,
    prandtl: float = 1.0,
    mean_flow: Triple = NONE,
    passive_scalar: bool = False,
    scalar_gradient: Triple = NONE,
    schmidt: float = 1.0,
    spectrum: tuple[tuple[float, float], ...] = (),
    device: str = "auto",
    progress: Progress | None = None,
) -> Path:
    """Simulate a flow in a periodic box and store snapshots of its velocity and of the scalars it carries.

    A statistically steady flow is spun up on half the grid, zero-padded to the whole one and left to settle; a
    decaying flow begins with its first snapshot, whatever ``spin_up_time`` and ``settle_time`` say. Times in the store
    count from the start of the run. Beside the store lies its table of diagnostics, ``<name>.csv``, with the columns of
    :func:`flowsr.simulate.diagnostics.diagnose`.

    The run may be killed at any moment. Called again with the same settings it goes on from its last restart file and,
    on the same device and number of threads, ends with the same bits; a finished store is returned at once.

    Args:
        output: the Zarr store to write: variable ``velocity`` (time, component, x, y, z), float32; with stratification
            also ``buoyancy``, with a passive scalar ``scalar``, both (time, x, y, z).
        flow: registered name, one of :data:`flowsr.simulate.FLOWS`.
        cells: grid cells along each side, or along x, y, z.
        viscosity: kinematic viscosity.
        power, forcing_cutoff: power per unit mass of the forcing, spent in 0 < k < forcing_cutoff. A flow that is
            forced otherwise takes from the power its amplitude, for about that power.
        seed: of the random start.
        spin_up_time, settle_time: time on half the grid and then on the whole one before the first snapshot.
        duration, snapshot_interval: from the first snapshot to the last, and between two.
        cfl: Courant number of the time step.
        precision: ``float32`` or ``float64``.
        lengths: sides of the box along x, y, z.
        dealiasing: ``sphere`` or ``cube``: see :class:`flowsr.simulate.PeriodicBox`.
        forcing_mode: waves of a Kolmogorov force that fit into the box.
        rotation, stratification, prandtl, mean_flow, passive_scalar, scalar_gradient, schmidt: what fluid and frame add
            to the flow: see :class:`flowsr.simulate.Medium`.
        spectrum: rows of (k, E(k)) that the flow ``decaying`` starts from.
        device: ``cpu``, ``cuda`` or ``auto`` (CUDA where there is a device).
        progress: called with the fraction done and a short message.

    Returns:
        ``output``.

    Raises:
        FlowsrError: settings that cannot be simulated, a store made with other settings, or a flow that blew up.
    """
    from flowsr.data.store import create_store

    settings = Settings(
        str(flow), cells, float(viscosity), float(power), float(forcing_cutoff), int(seed), float(spin_up_time),
        float(settle_time), float(duration), float(snapshot_interval), float(cfl), str(precision), lengths,
        str(dealiasing), int(forcing_mode), rotation, stratification, float(prandtl), mean_flow, bool(passive_scalar), scalar_gradient,
        float(schmidt), spectrum,
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
        self.case = settings.case
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
        write_text_atomic(self.table_file, _table(columns(self.solver), self.rows))
        self.store.publish()
        self.progress(1.0, f"{len(self.settings.snapshot_times)} snapshots")

    def _resume(self) -> int:
        """Set the solver up, from the restart file where it is good; the index of the output time to go for."""
        restart = load_restart(self.restart_file, self.settings.stated())
        if restart is None or not self._has_snapshots_before(restart.target):
            box = self._box(self.targets[0].shape)
            self.solver = self._solver(box, self.case.start(box))
            return 0
        log.info("%s: goes on from step %d, time %.4g", self.store.target.name, restart.step, restart.time)
        box = self._box(restart.shape)
        self.solver = self._solver(box, restart.state, time=restart.time, step=restart.step)
        self.solver.courant = restart.courant
        self.rows = restart.rows.tolist()
        return restart.target

    def _has_snapshots_before(self, index: int) -> bool:
        wanted = (target.snapshot for target in self.targets[:index] if target.snapshot is not None)
        names = ["velocity", *(scalar.name for scalar in self.case.scalars)]
        return all(self.store.is_written(name, snapshot) for snapshot in wanted for name in names)

    def _reach(self, index: int) -> None:
        """Step to an output time, on the grid it asks for."""
        target = self.targets[index]
        self._change_grid(target.shape)
        while self.solver.time < target.time:
            self.solver.advance(target.time)
            if self.solver.step % DIAGNOSTIC_STEPS == 0:
                self._record()
            if clock.monotonic() - self.saved_at > RESTART_SECONDS:
                self._save(index)

    def _change_grid(self, shape: tuple[int, int, int]) -> None:
        old = self.solver
        if old.box.grid.shape != shape:
            box = self._box(shape)
            state = resample(old.state, old.box, box)
            self.solver = self._solver(box, state, time=old.time, step=old.step)

    def _box(self, shape: tuple[int, int, int]) -> PeriodicBox:
        settings = self.settings
        dtype = PRECISIONS[settings.precision]
        return PeriodicBox(settings.grid(shape), dealiasing=settings.dealiasing, dtype=dtype, device=self.device)

    def _solver(self, box: PeriodicBox, state, **clock_state) -> BoxSolver:
        return BoxSolver(
            box, state, self.settings.viscosity, forces=self.case.forces(box), scalars=self.case.scalars,
            cfl=self.settings.cfl, **clock_state,
        )  # fmt: skip

    def _record(self) -> None:
        """A row of diagnostics, and word to whoever watches."""
        row = diagnose(self.solver)
        if not all(math.isfinite(value) for name, value in row.items() if name.endswith("energy")):
            raise self.solver.blow_up("a field is not finite")
        if not self.rows or self.rows[-1][STEP_COLUMN] != row["step"]:
            self.rows.append(list(row.values()))
        phase = "spin-up" if self.solver.box.grid.shape != self.settings.shape else "run"
        self.progress(_fraction_done(self.targets, row["time"]), f"{phase} {_told(row)}")

    def _write_snapshot(self, snapshot: int) -> None:
        fields = {"velocity": self.solver.field()}
        for index, scalar in enumerate(self.case.scalars):
            fields[scalar.name] = self.solver.scalar_field(index)
        for name, field in fields.items():
            self.store.write(name, field.to("cpu", torch.float32).numpy(), time=snapshot)

    def _save(self, target: int) -> None:
        solver = self.solver
        state = Restart(
            settings=self.settings.stated(),
            target=target,
            time=solver.time,
            step=solver.step,
            courant=solver.courant,
            shape=solver.box.grid.shape,
            state=solver.state.cpu(),
            rows=np.array(self.rows, dtype=np.float64),
        )
        save_restart(self.restart_file, state)
        self.saved_at = clock.monotonic()


def _targets(settings: Settings) -> list[Target]:
    """Output times in order: the end of the spin-up, then the snapshots."""
    snapshots = [Target(t, settings.shape, i) for i, t in enumerate(settings.snapshot_times)]
    if settings.spin_up > 0:
        return [Target(settings.spin_up, tuple(n // 2 for n in settings.shape), None), *snapshots]
    return snapshots


def _fraction_done(targets: list[Target], time: float) -> float:
    """Share of the work that lies behind ``time``; a unit of time costs as many cells times as many steps."""
    done = total = start = 0.0
    for target in targets:
        cost = math.prod(target.shape) ** (4 / 3)
        total += cost * (target.time - start)
        done += cost * max(0.0, min(time, target.time) - start)
        start = target.time
    return done / total if total else 1.0


def _told(row: dict[str, float]) -> str:
    """A row of diagnostics in a few words."""
    words = [f"t={row['time']:.2f}", f"Re_lambda={row['reynolds_lambda']:.0f}", f"kmax*eta={row['kmax_eta']:.2f}"]
    words += [f"{label}={row[name]:.2g}" for name, label in (("rossby", "Ro"), ("froude", "Fr")) if name in row]
    return " ".join(words)


def _template(settings: Settings):
    """The store to be, without its data."""
    from flowsr.data.layout import field_template

    provenance = {
        "source": f"flowsr simulate, direct numerical simulation, {settings.flow}",
        "flowsr_version": flowsr.__version__,
        "config": settings.stated(),
    }
    attrs = {"viscosity": settings.viscosity, "length_units": "1", "provenance": provenance}
    grid, times = settings.grid(settings.shape), settings.snapshot_times
    template = field_template(grid, times, long_name="velocity", attrs=attrs)
    for scalar in settings.case.scalars:
        template[scalar.name] = field_template(
            grid, times, variable=scalar.name, irreps="0e", components=None, units=scalar.units,
            long_name=scalar.long_name,
        )[scalar.name]  # fmt: skip
    return template


def _table(names: tuple[str, ...], rows: list[list[float]]) -> str:
    """The diagnostics as CSV, numbers written so that they read back exactly."""
    lines = [",".join(names)]
    for row in rows:
        lines.append(",".join(str(int(v)) if name == "step" else repr(v) for name, v in zip(names, row)))
    return "\n".join(lines) + "\n"


def _torch_device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise FlowsrError("no CUDA device here", variable="device", expected="cpu or auto", found=device)
    return torch.device(device)


def _silent(fraction: float, message: str) -> None:
    pass
