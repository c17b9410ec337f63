"""The simulate job: a direct numerical simulation into one store a seed, resumable after a kill at any moment."""

from __future__ import annotations

import io
import json
import logging
import math
import time as clock
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

import flowsr
from flowsr.devices import resolve_device
from flowsr.errors import FlowsrError
from flowsr.files import partial_path, write_bytes_atomic, write_text_atomic
from flowsr.progress import SILENT, Progress
from flowsr.simulate.channel.solver import ChannelSolver
from flowsr.simulate.channel.space import ChannelSpace
from flowsr.simulate.channel.start import bulk_velocity, disturbed
from flowsr.simulate.channel.statistics import ChannelStatistics, ProfileSums, profile_table
from flowsr.simulate.diagnostics import diagnose, table_text
from flowsr.simulate.flows import scalars_of, solver_of
from flowsr.simulate.settings import Simulation
from flowsr.simulate.solver import BoxSolver
from flowsr.simulate.spectral import PeriodicBox, resample

if TYPE_CHECKING:
    import xarray as xr

log = logging.getLogger(__name__)

DIAGNOSTIC_STEPS = 10  # a row of diagnostics every so many steps, and at every snapshot
RESTART_SECONDS = 15.0  # between restart files, besides one at every output time
ROUNDING = 1e-9
FRAME_SHARE = 0.65  # of the bulk velocity: half of the fastest, and near the speed of the eddies at the walls


def simulate(
    outputs: Path | Sequence[Path],
    settings: Simulation,
    *,
    seeds: int | Sequence[int] = 0,
    device: str = "auto",
    progress: Progress = SILENT,
) -> list[Path]:
    """Simulate a flow and store snapshots of its velocity and of the scalars it carries.

    In a periodic box a statistically steady flow is spun up on half the grid, zero-padded to the whole one and left to
    settle; a decaying flow begins with its first snapshot, whatever the times before it say. Times in the store count
    from the start of the run. Beside the store ``<name>.zarr`` lies its table of diagnostics, ``<name>.csv``, with the
    columns of :func:`flowsr.simulate.diagnostics.diagnose` or of
    :meth:`flowsr.simulate.channel.statistics.ChannelStatistics.diagnose` and how well the budget closes up to there
    (:func:`flowsr.simulate.diagnostics.budget_residual`); a run that blows up leaves it, too. Beside a channel lies
    also ``<name>.profiles.csv``, the profiles averaged from the first snapshot to the last
    (:func:`flowsr.simulate.channel.statistics.profile_table`).

    Several seeds in one box are stepped together, for a GPU that one small box leaves idle. They take the time step of
    the fastest, so a seed's later digits depend on its company; statistics do not.

    A run may be killed at any moment. Called again with the same settings it resumes from its last restart file and,
    on the same device and number of threads, ends with the same bits; a finished store is returned at once.

    Args:
        outputs: the Zarr stores to write, one a seed: variable ``velocity`` (time, component, x, y, z), float32; with
            stratification also ``buoyancy``, with a passive scalar ``scalar``, both (time, x, y, z). A channel's cells
            are uniform along x and z and centred on Chebyshev-Gauss points along y.
        settings: the flow, its box or channel, and how it is run; its own seeds are not used.
        seeds: of the random starts.
        device: ``cpu``, ``cuda`` or ``auto`` (CUDA where there is a device).
        progress: called with the fraction done and a short message about the first seed.

    Returns:
        the stores, in the order of the seeds.

    Raises:
        FlowsrError: seeds that are not as many as the outputs or not all different, several of them for a channel, a
            store made with other settings, or a flow that blew up.
    """
    from flowsr.data.store import create_store

    outputs = [Path(outputs)] if isinstance(outputs, (str, Path)) else [Path(output) for output in outputs]
    seeds = [seeds] if isinstance(seeds, int) else [int(seed) for seed in seeds]
    if not seeds or len(seeds) != len(outputs) or len(set(seeds)) != len(seeds):
        wanted = f"{len(outputs)} seeds, all different"
        raise FlowsrError("a simulation has one seed a store", variable="seeds", expected=wanted, found=seeds)
    if settings.channel is not None and len(seeds) > 1:
        raise FlowsrError("channels are not stepped together", variable="seeds", expected="one seed", found=seeds)
    company = seeds if len(seeds) > 1 else None
    templates = [template_of(settings, seed, company) for seed in seeds]
    with ExitStack() as opened:
        stores = [opened.enter_context(create_store(*each)) for each in zip(outputs, templates)]
        if not all(store.published for store in stores):
            kind = _BoxRun if settings.channel is None else _ChannelRun
            kind(settings, seeds, stores, list(templates[0].data_vars), resolve_device(device), progress).complete()
    return outputs


@dataclass(frozen=True)
class OutputTime:
    """A time the run must hit: on a grid of ``shape``, to write snapshot number ``snapshot`` if that is not None."""

    time: float
    shape: tuple[int, int, int]
    snapshot: int | None


class _Run(ABC):
    """One run on its way, of one seed or of several: solver, output times, diagnostics, restart file."""

    def __init__(self, settings: Simulation, seeds: list[int], stores: list, variables: list[str], device, progress):
        self.settings, self.seeds, self.stores, self.variables = settings, seeds, stores, variables
        self.device, self.progress = torch.device(device), progress
        self.times = _output_times(settings)
        self.shape = self.times[0].shape
        self.first_snapshot = settings.snapshot_times[0]
        self.restart_file = partial_path(stores[-1].target) / "restart.npz"  # the last store to be published
        self.columns: tuple[str, ...] = ()
        self.rows: list[list[list[float]]] = [[] for _ in seeds]
        self.saved_at = clock.monotonic()

    @abstractmethod
    def _solver(self, shape: tuple[int, int, int], state: Tensor | None, **clock_state):
        """A solver on a grid of this shape, of a state or, without one, of the run's start."""

    @abstractmethod
    def _diagnoses(self) -> list[dict[str, float]]:
        """A row of diagnostics for each seed."""

    @abstractmethod
    def _fields(self) -> list[dict[str, Tensor]]:
        """What is stored of the present state of each seed, by variable."""

    @abstractmethod
    def _described(self, row: dict[str, float]) -> str:
        """A row of diagnostics in a few words."""

    def _remark(self, rows: np.ndarray) -> str:
        """What a user of the fields has to know of how they were resolved; nothing where all is well."""
        return ""

    def _change_grid(self, shape: tuple[int, int, int]) -> None:
        raise NotImplementedError("one grid from the start to the end")

    def _sample(self) -> None:
        """Add the present state to averages over time, where there are any."""
        return None

    def _averages(self) -> dict[str, np.ndarray]:
        """Averages over time, as the restart file keeps them."""
        return {}

    def _set_averages(self, arrays: dict[str, np.ndarray]) -> None:
        """Take the averages of a restart file up again."""
        return None

    def complete(self) -> None:
        """Resume from the restart file, or begin, and go on to the published stores."""
        first = self._resume()
        try:
            for index in range(first, len(self.times)):
                self._reach(index)
                if self.times[index].snapshot is not None:
                    self._record()
                    self._write_snapshot(self.times[index].snapshot)
                self._save(index + 1)
        except FlowsrError:
            self._write_tables()  # they show how it went wrong
            raise
        self._write_tables()
        remarks = [self._remark(np.array(rows)) for rows in self.rows]
        for store, remark in zip(self.stores, remarks):
            if not store.published:
                store.publish({"resolution": remark} if remark else None)
        said = [f"{len(self.settings.snapshot_times)} snapshots", *dict.fromkeys(filter(None, remarks))]
        self.progress(1.0, ", ".join(said))

    def _resume(self) -> int:
        """Set the solver up, from the restart file where it is good; the index of the output time to go for."""
        found = load_restart(self.restart_file, self._declared(), ("state", "rows", *self._averages()))
        passed = [] if found is None else [each.snapshot for each in self.times[: found[0]["target"]]]
        wanted = product(self.stores, (snapshot for snapshot in passed if snapshot is not None), self.variables)
        there = (store.published or store.is_written(name, snapshot) for store, snapshot, name in wanted)
        if found is None or not all(there):
            self.solver = self._solver(self.shape, None)
            return 0
        header, arrays = found
        log.info("%s: resumes from step %d, time %.4g", self.stores[0].target.name, header["step"], header["time"])
        self.shape = tuple(header["shape"])
        state = torch.from_numpy(arrays["state"])
        self.solver = self._solver(self.shape, state, time=header["time"], step=header["step"])
        self.solver.courant = header["courant"]
        self.columns, self.rows = tuple(header["columns"]), arrays["rows"].tolist()
        self._set_averages(arrays)
        return header["target"]

    def _declared(self) -> dict:
        """What the run was asked for, as its restart file has it."""
        return {**self.settings.declared(), "seeds": self.seeds}

    def _reach(self, index: int) -> None:
        """Step to an output time, on the grid it asks for."""
        target = self.times[index]
        if target.shape != self.shape:
            self._change_grid(target.shape)
            self.shape = target.shape
        while self.solver.time < target.time:
            self.solver.advance(target.time)
            if self.solver.step % DIAGNOSTIC_STEPS == 0:
                self._record()
            if clock.monotonic() - self.saved_at > RESTART_SECONDS:
                self._save(index)

    def _record(self) -> None:
        """A row of diagnostics for each seed, and word to whoever watches."""
        diagnoses = self._diagnoses()
        for row, rows in zip(diagnoses, self.rows):
            if not all(math.isfinite(value) for name, value in row.items() if name.endswith("energy")):
                raise self.solver.blow_up("a field is not finite")
            self.columns = tuple(row)
            if not rows or rows[-1][self.columns.index("step")] != row["step"]:
                rows.append(list(row.values()))
        self._sample()
        first = diagnoses[0]
        phase = "spin-up" if first["time"] < self.first_snapshot else "run"
        poor = " (below 1: under-resolved)" if phase == "run" and first.get("kmax_eta", 1.0) < 1 else ""
        message = f"{phase} t={first['time']:.2f} {self._described(first)}{poor}"
        self.progress(_fraction_done(self.times, first["time"]), message)

    def _write_snapshot(self, snapshot: int) -> None:
        for store, fields in zip(self.stores, self._fields()):
            for name, field in fields.items() if not store.published else ():
                store.write(name, field.to("cpu", torch.float32).numpy(), time=snapshot)

    def _write_tables(self) -> None:
        for store, rows in zip(self.stores, self.rows):
            if rows:
                write_text_atomic(store.target.with_suffix(".csv"), table_text(self.columns, rows))

    def _save(self, target: int) -> None:
        solver = self.solver
        header = {"settings": self._declared(), "target": target, "shape": self.shape, "columns": self.columns}
        header |= {name: getattr(solver, name) for name in ("time", "step", "courant")}
        rows = np.array(self.rows, dtype=np.float64)
        save_restart(self.restart_file, header, {"state": solver.state.cpu().numpy(), "rows": rows, **self._averages()})
        self.saved_at = clock.monotonic()


class _BoxRun(_Run):
    """A run in a periodic box."""

    def _box(self, shape) -> PeriodicBox:
        settings, dtype = self.settings, getattr(torch, self.settings.precision)
        return PeriodicBox(settings.grid(shape), dealiasing=settings.dealiasing, dtype=dtype, device=self.device)

    def _solver(self, shape, state, **clock_state) -> BoxSolver:
        return solver_of(self.settings, self._box(shape), self.seeds, state, **clock_state)

    def _change_grid(self, shape) -> None:
        old = self.solver
        state = resample(old.state, old.box, self._box(shape))
        self.solver = self._solver(shape, state, time=old.time, step=old.step)

    def _members(self) -> list[BoxSolver]:
        count = len(self.seeds)
        return [self.solver] if count == 1 else [self.solver.member(i) for i in range(count)]

    def _diagnoses(self) -> list[dict[str, float]]:
        return [diagnose(solver) for solver in self._members()]

    def _fields(self) -> list[dict[str, Tensor]]:
        names = self.variables[1:]
        return [
            {"velocity": solver.field(), **{name: solver.scalar_field(i) for i, name in enumerate(names)}}
            for solver in self._members()
        ]

    def _remark(self, rows) -> str:
        late = rows[:, self.columns.index("time")] >= self.first_snapshot * (1 - ROUNDING)
        reached = float(rows[late, self.columns.index("kmax_eta")].mean())
        return f"under-resolved: kmax*eta={reached:.2f}, below 1" if reached < 1 else ""

    def _described(self, row) -> str:
        words = [f"Re_lambda={row['reynolds_lambda']:.0f}", f"kmax*eta={row['kmax_eta']:.2f}"]
        words += [f"{label}={row[name]:.2g}" for name, label in (("rossby", "Ro"), ("froude", "Fr")) if name in row]
        return " ".join(words)


class _ChannelRun(_Run):
    """A run between walls, with profiles averaged from the first snapshot on."""

    def __init__(self, settings: Simulation, *rest):
        super().__init__(settings, *rest)
        channel = self.channel = settings.channel
        lengths = channel.lengths[0], channel.lengths[2]
        self.space = ChannelSpace(channel.cells, lengths, wall_dealiasing=channel.wall_dealiasing, device=self.device)
        self.statistics, self.profiles = ChannelStatistics(self.space), ProfileSums(channel.cells[1])

    def _solver(self, shape, state, **clock_state) -> ChannelSolver:
        channel = self.channel
        if state is None:
            state = disturbed(self.space, channel.start, channel.re_tau, self.seeds[0])
        pace = {"cfl": channel.cfl, "time_step": channel.time_step, **clock_state}
        frame = FRAME_SHARE * bulk_velocity(channel.re_tau)
        drive = channel.mean_drive
        return ChannelSolver(self.space, state, channel.viscosity, drive, frame_velocity=frame, **pace)

    def _diagnoses(self) -> list[dict[str, float]]:
        return [self.statistics.diagnose(self.solver)]

    def _fields(self) -> list[dict[str, Tensor]]:
        return [{"velocity": self.solver.field()}]

    def _described(self, row) -> str:
        return f"Re_tau={row['reynolds_tau']:.0f} U_b={row['bulk_velocity']:.2f}"

    def _sample(self) -> None:
        sampled = self.solver.time - self.first_snapshot - self.profiles.time
        if sampled > 0:
            self.profiles.add(self.statistics.moments(self.solver.state), sampled)

    def _averages(self) -> dict[str, np.ndarray]:
        return {"sums": self.profiles.sums, "averaged_over": np.array(self.profiles.time)}

    def _set_averages(self, arrays) -> None:
        self.profiles.sums, self.profiles.time = arrays["sums"], float(arrays["averaged_over"])

    def _write_tables(self) -> None:
        super()._write_tables()
        if self.profiles.time > 0:
            text = profile_table(self.profiles, self.channel.viscosity)
            write_text_atomic(self.stores[0].target.with_suffix(".profiles.csv"), text)


def _output_times(settings: Simulation) -> list[OutputTime]:
    """In order: the end of the spin-up on half the grid, if there is any, then the snapshots."""
    snapshots = [OutputTime(t, settings.shape, i) for i, t in enumerate(settings.snapshot_times)]
    if settings.spin_up > 0:
        return [OutputTime(settings.spin_up, tuple(n // 2 for n in settings.shape), None), *snapshots]
    return snapshots


def _fraction_done(times: list[OutputTime], time: float) -> float:
    """Share of the work that lies behind ``time``; a unit of time costs as many cells times as many steps."""
    done = total = start = 0.0
    for each in times:
        cost = math.prod(each.shape) ** (4 / 3)
        total += cost * (each.time - start)
        done += cost * max(0.0, min(time, each.time) - start)
        start = each.time
    return done / total if total else 1.0


def template_of(settings: Simulation, seed: int, company: list[int] | None = None) -> xr.Dataset:
    """The store to be, without its data; ``company``: the seeds it is stepped together with, if any."""
    from flowsr.data.field import field_template

    channel = settings.channel
    provenance = {
        "source": f"flowsr simulate, direct numerical simulation, {settings.flow}",
        "flowsr_version": flowsr.__version__,
        "config": {**settings.declared(), "seed": seed, **({"batch": company} if company else {})},
    }
    grid, times = settings.grid(settings.shape), settings.snapshot_times
    length_units, units = ("1", "1") if channel is None else ("h", "u_tau")
    viscosity = (channel or settings).viscosity
    attrs = {"viscosity": viscosity, "length_units": length_units, "provenance": provenance}
    template = field_template(grid, times, units=units, long_name="velocity", attrs=attrs)
    for scalar in scalars_of(settings):
        kind = {"irreps": "0e", "components": None, "units": scalar.units, "long_name": scalar.long_name}
        template[scalar.name] = field_template(grid, times, variable=scalar.name, **kind)[scalar.name]
    return template


def save_restart(path: Path, header: dict, arrays: dict[str, np.ndarray]) -> None:
    """Replace the restart file at ``path`` in one step; a kill leaves the old one or the new one.

    The file is an npz that holds the whole state of a run bit by bit and is never unpickled.

    Args:
        header: JSON-able; ``settings`` says what the run was asked for.
        arrays: by name, kept bit by bit.
    """
    buffer = io.BytesIO()
    np.savez(buffer, header=np.array(json.dumps(header)), **arrays)
    write_bytes_atomic(path, buffer.getvalue())


def load_restart(path: Path, settings: dict, names: Sequence[str]) -> tuple[dict, dict[str, np.ndarray]] | None:
    """Header and arrays of the restart file, or None where there is none that is whole and of these settings."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(str(file["header"]))
            arrays = {name: file[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("the restart file %s is damaged (%s): the run starts again", path.name, error)
        return None
    if header.get("settings") != settings:
        log.warning("the restart file %s is of other settings: the run starts again", path.name)
        return None
    return header, arrays
