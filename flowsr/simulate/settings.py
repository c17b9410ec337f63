"""What decides every bit of a run, checked when it is stated."""

from __future__ import annotations

import math
from dataclasses import MISSING, asdict, dataclass, fields

import numpy as np
import torch

from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.simulate.flows import FLOWS, NONE, Case, Drive, Medium
from flowsr.simulate.spectral import DEALIASING

SIDE = 2 * math.pi
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
FEWEST_CELLS = 4
POSITIVE = ("viscosity", "power", "forcing_cutoff", "duration", "snapshot_interval", "cfl", "prandtl", "schmidt")
FLOATS = (*POSITIVE, "spin_up_time", "settle_time")
WORDS = ("flow", "precision", "dealiasing")
PLAIN = {
    **dict.fromkeys(FLOATS, float),
    **dict.fromkeys(WORDS, str),
    "seed": int,
    "forcing_mode": int,
    "passive_scalar": bool,
}

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Settings:
    """What decides every bit of a run on a given device: see :func:`flowsr.simulate.simulate_run`."""

    flow: str
    cells: int | tuple[int, int, int]
    viscosity: float
    power: float
    forcing_cutoff: float
    seed: int
    spin_up_time: float
    settle_time: float
    duration: float
    snapshot_interval: float
    cfl: float
    precision: str = "float32"
    lengths: Triple = (SIDE, SIDE, SIDE)
    dealiasing: str = "sphere"
    forcing_mode: int = 1
    rotation: Triple = NONE
    stratification: Triple = NONE
    prandtl: float = 1.0
    mean_flow: Triple = NONE
    passive_scalar: bool = False
    scalar_gradient: Triple = NONE
    schmidt: float = 1.0
    spectrum: tuple[tuple[float, float], ...] = ()

    def __post_init__(self):
        self._plain()
        FLOWS[self.flow]
        for name, known in (("precision", PRECISIONS), ("dealiasing", DEALIASING)):
            if getattr(self, name) not in known:
                raise FlowsrError(
                    f"unknown {name}", variable=name, expected=" or ".join(known), found=getattr(self, name)
                )
        for name in POSITIVE:
            self._require(name, 0 < getattr(self, name) < math.inf, "a positive number")
        for name in ("spin_up_time", "settle_time"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "a number of zero or more")
        for name in ("rotation", "stratification", "mean_flow", "scalar_gradient"):
            self._require(name, all(map(math.isfinite, getattr(self, name))), "three numbers along x, y, z")
        self._require("lengths", all(0 < length < math.inf for length in self.lengths), "three positive sides")
        lowest = 2 * math.pi / max(self.lengths)
        self._require("forcing_cutoff", self.forcing_cutoff > lowest, f"above {lowest:g}, the box's lowest wavenumber")
        self._require("forcing_mode", self.forcing_mode >= 1, "1 or more")
        self._require("snapshot_interval", self.snapshot_interval <= self.duration, "at most the duration")
        self._require("cells", min(self.shape) >= FEWEST_CELLS, f"{FEWEST_CELLS} or more")
        if self.spin_up > 0:
            self._require(
                "cells", min(self.shape) >= 2 * FEWEST_CELLS, f"{2 * FEWEST_CELLS} or more to spin up on half the grid"
            )
        if any(self.scalar_gradient):
            self._require("scalar_gradient", self.passive_scalar, "passive_scalar: true beside it")
        if self.spectrum:
            self._require("spectrum", self.flow == "decaying", f"the flow 'decaying', not {self.flow!r}")

    def _plain(self) -> None:
        """Numbers as plain ints, floats and tuples, so that equal settings read the same."""
        for name, kind in PLAIN.items():
            self._set(name, kind(getattr(self, name)))
        cells = int(self.cells) if np.ndim(self.cells) == 0 else tuple(int(n) for n in self.cells)
        if isinstance(cells, tuple) and len(cells) == 3 and len(set(cells)) == 1:
            cells = cells[0]
        self._set("cells", cells)
        for name in ("lengths", "rotation", "stratification", "mean_flow", "scalar_gradient"):
            self._set(name, tuple(float(x) for x in getattr(self, name)))
            self._require(name, len(getattr(self, name)) == 3, "three numbers along x, y, z")
        self._require("cells", isinstance(cells, int) or len(cells) == 3, "one number, or three along x, y, z")
        self._set("spectrum", tuple((float(k), float(e)) for k, e in self.spectrum))

    def _set(self, name: str, value) -> None:
        object.__setattr__(self, name, value)

    def _require(self, name: str, condition: bool, expected: str) -> None:
        if not condition:
            raise FlowsrError("this cannot be simulated", variable=name, expected=expected, found=getattr(self, name))

    def stated(self) -> dict:
        """The settings as JSON has them; those with a default are left out where they have it, except the precision.

        So a store's provenance, and the restart file of a run, read the same as before a setting was invented.
        """
        defaults = {f.name: f.default for f in fields(self) if f.default is not MISSING and f.name != "precision"}
        kept = {name: value for name, value in asdict(self).items() if value != defaults.get(name, MISSING)}
        return {name: _listed(value) for name, value in kept.items()}

    @property
    def case(self) -> Case:
        """The physics: flow, drive and medium."""
        drive = Drive(self.seed, self.power, self.forcing_cutoff, self.forcing_mode, self.viscosity, self.spectrum)
        medium = Medium(
            self.rotation,
            self.stratification,
            self.prandtl,
            self.mean_flow,
            self.passive_scalar,
            self.scalar_gradient,
            self.schmidt,
        )
        return Case(self.flow, drive, medium)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cells along x, y, z."""
        return (self.cells,) * 3 if isinstance(self.cells, int) else self.cells

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

    def grid(self, shape: tuple[int, int, int]) -> Grid:
        """The box in so many cells."""
        return Grid(shape, tuple(length / n for length, n in zip(self.lengths, shape)))


def _listed(value):
    return [_listed(v) for v in value] if isinstance(value, tuple) else value
