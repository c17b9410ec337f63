"""The simulate job: one direct numerical simulation into one store, resumable after a kill at any moment."""

from __future__ import annotations

import logging
import math
import time as clock
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import flowsr
from flowsr.errors import FlowsrError
from flowsr.files import write_text_atomic
from flowsr.progress import SILENT, Progress
from flowsr.simulate.diagnostics import COLUMNS, diagnose
from flowsr.simulate.flows import NONE
from flowsr.simulate.restart import load_restart, save_restart
from flowsr.simulate.settings import PRECISIONS, SIDE, Settings
from flowsr.simulate.solver import BoxSolver
from flowsr.simulate.spectral import PeriodicBox, resample
from flowsr.simulate.table import table_text

log = logging.getLogger(__name__)

STEP_COLUMN = COLUMNS.index("step")
DIAGNOSTIC_STEPS = 10  # a row of diagnostics every so many steps, and at every snapshot
RESTART_SECONDS = 15.0  # between restart files, besides one at every output time

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
    progress: Progress = SILENT,
) -> Path:
    """Simulate a flow in a periodic box and store snapshots of its velocity and of the scalars it carries.

    A statistically steady flow is spun up on half the grid, zero-padded to the whole one and left to settle; a
    decaying flow begins with its first snapshot, whatever ``spin_up_time`` and ``settle_time`` say. Times in the store
    count from the start of the run. Beside the store lies its table of diagnostics, ``<name>.csv``, with the columns of
    :func:`flowsr.simulate.diagnostics.diagnose` and how well the budget closes up to there
    (:func:`flowsr.simulate.table.budget_residual`); a run that blows up leaves it, too.

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
    settings = Settings(
        flow,
        cells,
        viscosity,
        power,
        forcing_cutoff,
        seed,
        spin_up_time,
        settle_time,
        duration,
        snapshot_interval,
        cfl,
        precision,
        lengths,
        dealiasing,
        forcing_mode,
        rotation,
        stratification,
        prandtl,
        mean_flow,
        passive_scalar,
        scalar_gradient,
        schmidt,
        spectrum,
    )
    _simulate([Path(output)], [settings], device, progress)
    return Path(output)


def simulate_batch(
    outputs: Sequence[Path], *, seeds: Sequence[int], device: str = "auto", progress: Progress = SILENT, **settings
) -> list[Path]:
    """Simulate several seeds of one flow together: for a GPU that one small box leaves idle.

    All members take the time step of the fastest, so a member's later digits depend on its company; statistics do not.
    Otherwise as :func:`simulate_run`, of which the members are runs: one store and one table each.

    Args:
        outputs: the Zarr stores to write, one a seed.
        seeds: of the random starts.
        device: ``cpu``, ``cuda`` or ``auto``.
        progress: called with the fraction done and a short message about the first member.
        settings: the other arguments of :func:`simulate_run`, the same for all.

    Returns:
        ``outputs``.

    Raises:
        FlowsrError: as :func:`simulate_run`, or seeds that are not as many as the outputs, or not all different.
    """
    outputs = [Path(output) for output in outputs]
    if not seeds or len(seeds) != len(outputs) or len(set(seeds)) != len(seeds):
        raise FlowsrError(
            "a batch has one seed a store, all different",
            variable="seeds",
            expected=f"{len(outputs)} seeds",
            found=list(seeds),
        )
    _simulate(outputs, [Settings(seed=seed, **settings) for seed in seeds], device, progress)
    return outputs


def _simulate(outputs: list[Path], members: list[Settings], device: str, progress: Progress) -> None:
    from flowsr.data.store import create_store

    company = [member.seed for member in members] if len(members) > 1 else None
    with ExitStack() as opened:
        stores = [
            opened.enter_context(create_store(output, _template(member, company)))
            for output, member in zip(outputs, members)
        ]
        if not all(store.published for store in stores):
            _Run(members, stores, _torch_device(device), progress).complete()


class _Run:
    """One run on its way, of one member or of several: solver, output times, diagnostics, restart file."""

    def __init__(self, members: list[Settings], stores: list, device: torch.device, progress: Progress):
        from flowsr.files import partial_path

        self.members, self.settings = members, members[0]
        self.stores, self.device, self.progress = stores, device, progress
        self.case = self.settings.case
        self.targets = _targets(self.settings)
        self.restart_file = partial_path(stores[-1].target) / "restart.npz"  # the last store to be published
        self.columns: tuple[str, ...] = ()
        self.rows: list[list[list[float]]] = [[] for _ in members]
        self.saved_at = clock.monotonic()

    def complete(self) -> None:
        """Go on from the restart file, or from the start, to the published stores."""
        first = self._resume()
        try:
            for index in range(first, len(self.targets)):
                self._reach(index)
                if self.targets[index].snapshot is not None:
                    self._record()
                    self._write_snapshot(self.targets[index].snapshot)
                self._save(index + 1)
        except FlowsrError:
            self._write_tables()  # they show how it went wrong
            raise
        self._write_tables()
        for store in self.stores:
            if not store.published:
                store.publish()
        self.progress(1.0, f"{len(self.settings.snapshot_times)} snapshots")

    def _resume(self) -> int:
        """Set the solver up, from the restart file where it is good; the index of the output time to go for."""
        found = load_restart(self.restart_file, self._stated(), ("state", "rows"))
        if found is None or not self._has_snapshots_before(found[0]["target"]):
            box = self._box(self.targets[0].shape)
            self.solver = self._solver(box, self._start(box))
            return 0
        header, arrays = found
        log.info("%s: goes on from step %d, time %.4g", self.stores[0].target.name, header["step"], header["time"])
        box = self._box(tuple(header["shape"]))
        state = torch.from_numpy(arrays["state"])
        self.solver = self._solver(box, state, time=header["time"], step=header["step"])
        self.solver.courant = header["courant"]
        self.columns, self.rows = tuple(header["columns"]), arrays["rows"].tolist()
        return header["target"]

    def _stated(self) -> dict:
        """What the run was asked for, as its restart file has it."""
        stated = self.settings.stated()
        return stated if len(self.members) == 1 else {**stated, "seed": [member.seed for member in self.members]}

    def _start(self, box: PeriodicBox) -> torch.Tensor:
        starts = [member.case.start(box) for member in self.members]
        return starts[0] if len(starts) == 1 else torch.stack(starts, dim=1)

    def _has_snapshots_before(self, index: int) -> bool:
        wanted = [target.snapshot for target in self.targets[:index] if target.snapshot is not None]
        names = ["velocity", *(scalar.name for scalar in self.case.scalars)]
        return all(
            store.published or store.is_written(name, snapshot)
            for store in self.stores
            for snapshot in wanted
            for name in names
        )

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
            box,
            state,
            self.settings.viscosity,
            forces=self.case.forces(box),
            scalars=self.case.scalars,
            cfl=self.settings.cfl,
            **clock_state,
        )

    def _each_member(self) -> list[BoxSolver]:
        solver = self.solver
        return [solver] if len(self.members) == 1 else [solver.member(i) for i in range(len(self.members))]

    def _record(self) -> None:
        """A row of diagnostics for each member, and word to whoever watches."""
        for solver, rows in zip(self._each_member(), self.rows):
            row = diagnose(solver)
            if not all(math.isfinite(value) for name, value in row.items() if name.endswith("energy")):
                raise self.solver.blow_up("a field is not finite")
            self.columns = tuple(row)
            if not rows or rows[-1][STEP_COLUMN] != row["step"]:
                rows.append(list(row.values()))
            if rows is self.rows[0]:
                phase = "spin-up" if solver.box.grid.shape != self.settings.shape else "run"
                self.progress(_fraction_done(self.targets, row["time"]), f"{phase} {_told(row)}")

    def _write_snapshot(self, snapshot: int) -> None:
        for store, solver in zip(self.stores, self._each_member()):
            fields = {"velocity": solver.field()}
            for index, scalar in enumerate(self.case.scalars):
                fields[scalar.name] = solver.scalar_field(index)
            for name, field in fields.items() if not store.published else ():
                store.write(name, field.to("cpu", torch.float32).numpy(), time=snapshot)

    def _write_tables(self) -> None:
        for store, rows in zip(self.stores, self.rows):
            if rows:
                write_text_atomic(store.target.with_suffix(".csv"), table_text(self.columns, rows))

    def _save(self, target: int) -> None:
        solver = self.solver
        header = {
            "settings": self._stated(),
            "target": target,
            "time": solver.time,
            "step": solver.step,
            "courant": solver.courant,
            "shape": solver.box.grid.shape,
            "columns": self.columns,
        }
        rows = np.array(self.rows, dtype=np.float64)
        save_restart(self.restart_file, header, {"state": solver.state.cpu().numpy(), "rows": rows})
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


def _template(settings: Settings, company: list[int] | None):
    """The store to be, without its data; ``company``: the seeds of the batch it is made in, if any."""
    from flowsr.data.field import field_template

    provenance = {
        "source": f"flowsr simulate, direct numerical simulation, {settings.flow}",
        "flowsr_version": flowsr.__version__,
        "config": settings.stated() if company is None else {**settings.stated(), "batch": company},
    }
    attrs = {"viscosity": settings.viscosity, "length_units": "1", "provenance": provenance}
    grid, times = settings.grid(settings.shape), settings.snapshot_times
    template = field_template(grid, times, long_name="velocity", attrs=attrs)
    for scalar in settings.case.scalars:
        template[scalar.name] = field_template(
            grid,
            times,
            variable=scalar.name,
            irreps="0e",
            components=None,
            units=scalar.units,
            long_name=scalar.long_name,
        )[scalar.name]
    return template


def _torch_device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise FlowsrError("no CUDA device here", variable="device", expected="cpu or auto", found=device)
    return torch.device(device)
