"""What decides every bit of a simulation: declared once, checked when it is stated."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import ClassVar, Literal

import numpy as np

from flowsr.errors import BadValue
from flowsr.grid import Grid
from flowsr.simulate.channel.chebyshev import gauss_points
from flowsr.simulate.channel.solver import MeanDrive
from flowsr.simulate.channel.space import FEWEST_CELLS, HALF_HEIGHT, HEIGHT
from flowsr.simulate.channel.start import PROFILES, bulk_velocity
from flowsr.simulate.flows import FLOWS
from flowsr.simulate.resolution import Target, resolve

SIDE = 2 * math.pi
NONE = (0.0, 0.0, 0.0)
LOWEST_RE_TAU = 60.0  # below it a channel is laminar (turbulence is sustained from about 80 on)
OF_A_CHANNEL = ("flow", "channel", "seeds")  # all that the flow `channel` shares with those in a box
NOT_OF_A_RUN = ("seeds", "batch", "target", "channel")  # they decide nothing about a seed's result

Triple = tuple[float, float, float]
FlowName = Literal[
    "forced_isotropic",
    "fixed_energy",
    "linear_forcing",
    "helical",
    "kolmogorov",
    "kolmogorov_fourfold",
    "abc_forced",
    "decaying",
    "taylor_green",
    "abc",
    "channel",
]


def _floats(values) -> tuple[float, ...]:
    return tuple(map(float, values))


# By annotation: numbers as plain ints, floats and tuples, so that equal settings read the same.
PLAIN = {
    "int": int,
    "float": float,
    "float | None": lambda value: None if value is None else float(value),
    "bool": bool,
    "Triple": _floats,
    "tuple[int, int, int]": lambda values: tuple(map(int, values)),
    "tuple[int, ...]": lambda values: tuple(map(int, values)),
    "tuple[tuple[float, float], ...]": lambda rows: tuple(map(_floats, rows)),
}


def _run_time(description: str):
    # pydantic reads the docstrings of a class's own fields alone, and metadata of inherited ones
    return field(default=None, metadata={"description": description})


@dataclass(frozen=True, kw_only=True)
class Run:
    """What runs in a box and between walls have in common."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}
    DEFAULTS: ClassVar[dict[str, float]] = {"duration": 20.0, "snapshot_interval": 1.0}

    duration: float | None = _run_time("Time from the first snapshot to the last; default: 20, of a channel 12.")
    snapshot_interval: float | None = _run_time("Time between snapshots; default: 1, of a channel 0.25.")

    def _set(self, name: str, value) -> None:
        object.__setattr__(self, name, value)

    def _require(self, name: str, condition: bool, expected: str) -> None:
        if not condition:
            raise BadValue("this cannot be simulated", variable=name, expected=expected, found=getattr(self, name))

    def _check(self, *positive: str) -> None:
        """Defaults, plain numbers, and the rules that hold for a box and for a channel."""
        for name, kind in ((own.name, own.type) for own in fields(self)):
            if name in self.DEFAULTS and getattr(self, name) is None:
                self._set(name, self.DEFAULTS[name])
            if kind in PLAIN:
                self._set(name, PLAIN[kind](getattr(self, name)))
            if kind == "Triple":
                values = getattr(self, name)
                finite = len(values) == 3 and all(map(math.isfinite, values))
                self._require(name, finite, "three numbers along x, y, z")
        for name in (*positive, "duration", "snapshot_interval", "cfl"):
            self._require(name, 0 < getattr(self, name) < math.inf, "a positive number")
        self._require("spin_up_time", 0 <= self.spin_up_time < math.inf, "a number of zero or more")
        self._require("lengths", min(self.lengths) > 0, "three positive sides")
        self._require("snapshot_interval", self.snapshot_interval <= self.duration, "at most the duration")

    def _times(self, first: float) -> list[float]:
        count = math.floor(self.duration / self.snapshot_interval * (1 + 1e-12)) + 1
        return [first + i * self.snapshot_interval for i in range(count)]


@dataclass(frozen=True)
class Channel(Run):
    """Direct numerical simulation between walls at y = -1 and 1; in half heights and friction velocities.

    The defaults are the minimal flow unit of Jimenez and Moin (J. Fluid Mech. 225, 213, 1991) at Re_tau 180. The flow
    has the symmetries C2v, four elements: identity, the mirrors of y and of z, and the half turn about x; with any
    shift along x and z.

    Raises:
        BadValue: settings that cannot be simulated.
    """

    DEFAULTS: ClassVar = {"duration": 12.0, "snapshot_interval": 0.25}

    re_tau: float = 180.0
    """Reynolds number u_tau h / nu; decides the viscosity."""
    cells: tuple[int, int, int] = (32, 64, 32)
    """Grid cells along x, y, z, even; stretched along y."""
    lengths: Triple = (math.pi, HEIGHT, 0.4 * math.pi)
    """Sides of the box along x, y, z; 2 along y."""
    drive: Literal["pressure", "flux"] = "pressure"
    """pressure: constant pressure gradient, which fixes u_tau; flux: constant bulk velocity, that of turbulence at this
    Reynolds number."""
    cfl: float = 0.5
    """Courant number that sets the time step, stable up to 0.55."""
    time_step: float | None = None
    """A largest time step instead of the Courant number."""
    start: Literal["turbulent", "laminar"] = "turbulent"
    """Mean profile, randomly disturbed."""
    wall_dealiasing: bool = False
    """De-alias products along y too, on 3/2 as many points."""
    spin_up_time: float = 3.0
    """Time before the first snapshot."""

    def __post_init__(self):
        self._check()
        PROFILES[self.start]
        self._require("drive", self.drive in ("pressure", "flux"), "pressure or flux")
        self._require("time_step", self.time_step is None or 0 < self.time_step < math.inf, "a positive number")
        self._require("re_tau", LOWEST_RE_TAU <= self.re_tau < math.inf, f"{LOWEST_RE_TAU:g} or more")
        even = len(self.cells) == 3 and all(n >= FEWEST_CELLS and n % 2 == 0 for n in self.cells)
        self._require("cells", even, f"three even numbers, {FEWEST_CELLS} or more")
        self._require("lengths", self.lengths[1] == HEIGHT, f"three positive numbers, {HEIGHT:g} along y")

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
        return self._times(self.spin_up_time)

    @property
    def grid(self) -> Grid:
        """The cells of the store: uniform along x and z, centred on the Chebyshev-Gauss points along y."""
        return Grid(
            self.cells,
            tuple(length / n for length, n in zip(self.lengths, self.cells)),
            boundary=("periodic", "wall", "periodic"),
            origin=(0.0, -HALF_HEIGHT, 0.0),
            centers=(None, tuple(gauss_points(self.cells[1])), None),
        )


@dataclass(frozen=True)
class Simulation(Run):
    """Direct numerical simulation in a periodic box, or between walls.

    Raises:
        BadValue: settings that cannot be simulated.
    """

    flow: FlowName = "forced_isotropic"
    """forced_isotropic: constant power at low wavenumbers; fixed_energy: their energy held; linear_forcing: at all
    wavenumbers; helical: into right-handed waves; kolmogorov: sin(k y) e_x; kolmogorov_fourfold: + sin(k x) e_y;
    abc_forced; decaying: unforced, from a random start; taylor_green and abc: unforced, from those vortices;
    channel: between walls, all but the seeds under `channel`."""
    target: Target | None = None
    """Works out viscosity and cells, where they are not given."""
    cells: int | tuple[int, int, int] | None = None
    """Grid cells along each side, or along x, y, z; default: what the target needs, or 64."""
    lengths: Triple = (SIDE, SIDE, SIDE)
    """Sides of the box along x, y, z."""
    viscosity: float | None = None
    """Kinematic viscosity nu; default: what the target needs, or 0.0075."""
    power: float = 0.1
    """Power per unit mass that the forcing spends, or about spends."""
    forcing_cutoff: float = 2.5
    """Wavenumber below which a forcing of the large scales acts."""
    forcing_mode: int = 1
    """Waves of a Kolmogorov force in the box."""
    rotation: Triple = NONE
    """Angular velocity of the frame along x, y, z."""
    stratification: Triple = NONE
    """Buoyancy frequency times upward direction, along x, y, z."""
    prandtl: float = 1.0
    """Viscosity over diffusivity of the buoyancy."""
    mean_flow: Triple = NONE
    """Velocity of a uniform stream along x, y, z."""
    passive_scalar: bool = False
    """Carry a passive scalar, stored as `scalar`."""
    scalar_gradient: Triple = NONE
    """Mean gradient of the passive scalar, along x, y, z."""
    schmidt: float = 1.0
    """Viscosity over diffusivity of the passive scalar."""
    spectrum: tuple[tuple[float, float], ...] = ()
    """Rows of k, E(k) for the start of `decaying`; default: k^4 exp(-2 (k / forcing_cutoff)^2)."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One independent run per seed."""
    batch: int = 1
    """Seeds simulated together, for a GPU that one box leaves idle; they share the time step."""
    spin_up_time: float = 12.0
    """Time run on half the grid first (forced flows)."""
    settle_time: float = 2.0
    """Time on the full grid before the first snapshot (forced flows)."""
    cfl: float = 1.25
    """Courant number that sets the time step, max of sum |u_i| dt / dx_i."""
    precision: Literal["float32", "float64"] = "float32"
    """Of the arithmetic; stores are float32."""
    dealiasing: Literal["sphere", "cube"] = "sphere"
    """sphere: more wavenumbers; cube: alias-free."""
    channel: Channel | None = None
    """The flow `channel`; default: the minimal flow unit."""

    def __post_init__(self):
        self._check("power", "forcing_cutoff", "prandtl", "schmidt")
        self._require("cells", np.shape(self.cells) in ((), (3,)), "one number, or three along x, y, z")
        for name, value in zip(("cells", "viscosity"), resolve(self)):
            self._set(name, value)
        self._require("viscosity", 0 < self.viscosity < math.inf, "a positive number")
        self._require("seeds", len(self.seeds) > 0, "one seed or more")
        self._require("batch", self.batch >= 1, "1 or more")
        if self.flow == "channel":
            self._check_channel()
        elif self.channel is not None:
            expected = "the flow 'channel' beside it"
            raise BadValue("this cannot be simulated", variable="channel", expected=expected, found=self.flow)
        else:
            self._check_box()

    def _check_channel(self) -> None:
        """A channel shares nothing but the seeds with the box, and nothing is silently left unused."""
        blank = Simulation()
        for name in (own.name for own in fields(self) if own.name not in OF_A_CHANNEL):
            unused = getattr(self, name) == getattr(blank, name)
            self._require(name, unused, "nothing: what is set of a channel stands under `channel`")
        self._set("channel", self.channel or Channel())

    def _check_box(self) -> None:
        FLOWS[self.flow]
        for name, known in (("precision", ("float32", "float64")), ("dealiasing", ("sphere", "cube"))):
            self._require(name, getattr(self, name) in known, " or ".join(known))
        self._require("settle_time", 0 <= self.settle_time < math.inf, "a number of zero or more")
        lowest = 2 * math.pi / max(self.lengths)
        self._require("forcing_cutoff", self.forcing_cutoff > lowest, f"above {lowest:g}, the box's lowest wavenumber")
        self._require("forcing_mode", self.forcing_mode >= 1, "1 or more")
        fewest = FEWEST_CELLS * (2 if self.spin_up > 0 else 1)
        purpose = " to spin up on half the grid" if self.spin_up > 0 else ""
        self._require("cells", min(self.shape) >= fewest, f"{fewest} or more{purpose}")
        if any(self.scalar_gradient):
            self._require("scalar_gradient", self.passive_scalar, "passive_scalar: true beside it")
        if self.spectrum:
            self._require("spectrum", self.flow == "decaying", f"the flow 'decaying', not {self.flow!r}")
            pairs = all(len(row) == 2 and min(row) > 0 for row in self.spectrum)
            self._require("spectrum", pairs, "rows of k, E(k), both positive")

    def declared(self) -> dict:
        """What decides the result of each seed, as JSON has it."""
        if self.channel is not None:
            return {"flow": self.flow, **json.loads(json.dumps(asdict(self.channel)))}
        return {name: value for name, value in json.loads(json.dumps(asdict(self))).items() if name not in NOT_OF_A_RUN}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cells along x, y, z."""
        if self.channel is not None:
            return self.channel.cells
        return (self.cells,) * 3 if isinstance(self.cells, int) else self.cells

    @property
    def spin_up(self) -> float:
        """Time on half the grid: none between walls, and none for a flow that has no steady state to reach."""
        return self.spin_up_time if self.channel is None and FLOWS[self.flow].steady else 0.0

    @property
    def snapshot_times(self) -> list[float]:
        """Times of the snapshots, counted from the start of the run."""
        if self.channel is not None:
            return self.channel.snapshot_times
        return self._times(self.spin_up + self.settle_time if FLOWS[self.flow].steady else 0.0)

    def grid(self, shape: tuple[int, int, int]) -> Grid:
        """The box in so many cells; a channel has its own alone."""
        if self.channel is not None:
            return self.channel.grid
        return Grid(shape, tuple(length / n for length, n in zip(self.lengths, shape)))
