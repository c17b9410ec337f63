"""What counts as independent: blocks of time, splits with gaps, and how long the large eddies of a run live.

Snapshots that follow one another closely are the same flow. One number says after how many eddy turnover times they
count as another one, ``decorrelation_turnovers``: so far apart lie training, validation and test, and so long is a
block of held-out snapshots that counts once in a confidence interval or a test of significance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import xarray as xr
from scipy import fft

from flowsr.errors import FlowsrError
from flowsr.grid import Grid

#: Field type of a velocity, as it may be written.
VELOCITY = ("1o", "1x1o")

SPLITS = ("train", "validation", "test")

#: Lengths and distances in time that are short of what is asked by less than this share are long enough.
ROUNDING = 1e-9


def independent_blocks(times: Sequence[np.ndarray], lengths: Sequence[float]) -> np.ndarray:
    """Number every snapshot's block of time; snapshots of one block are one independent sample.

    A block starts with a run's first snapshot, and again with every snapshot that is at least ``length`` after the
    start of the block before. Different runs never share a block.

    Args:
        times: increasing times of each run's snapshots.
        lengths: least length of a block in each run, in the unit of its times: ``decorrelation_turnovers`` times the
            run's eddy turnover time (:func:`turnover_time`). 0 makes every snapshot a block of its own.

    Returns:
        (snapshots,) int64, all runs in order; blocks are numbered from 0 without gaps.
    """
    numbers, block = [], -1
    for instants, length in zip(times, lengths, strict=True):
        start = -np.inf
        for time in np.asarray(instants, dtype=np.float64):
            if time - start >= length * (1 - ROUNDING):
                start, block = time, block + 1
            numbers.append(block)
    return np.array(numbers, dtype=np.int64)


def block_sums(values: np.ndarray, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the finite values of each block, and how many there are.

    Args:
        values: (..., snapshots); NaN where there is none.
        blocks: (snapshots,) from :func:`independent_blocks`.

    Returns:
        sums and counts, both (..., blocks) float64.
    """
    member = blocks[:, None] == np.arange(blocks.max() + 1)[None]
    finite = np.isfinite(values)
    return np.where(finite, values, 0.0) @ member, finite.astype(np.float64) @ member


@dataclass(frozen=True)
class Split:
    """How a run is divided in time, with gaps in which nothing is used.

    Raises:
        ValueError: shares that leave nothing for one of the three, a negative gap, or a turnover time that is not
            positive.
    """

    __pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}

    train: float = 0.6
    """Share of the usable time (total less the two gaps) for training."""
    validation: float = 0.2
    """Share for validation; the rest is for the test."""
    decorrelation_turnovers: float = 2.0
    """Least distance in time between two splits, in eddy turnover times."""
    turnover_time: float | None = None
    """Eddy turnover time, in the data's unit; default: measured from the spectrum, which needs a periodic box."""

    def __post_init__(self):
        if not (self.train > 0 and self.validation > 0 and self.train + self.validation < 1):
            raise ValueError(
                "train > 0, validation > 0 and train + validation < 1, or nothing is left for one of train, validation "
                f"and test; got {self.train} and {self.validation}"
            )
        if not self.decorrelation_turnovers >= 0:
            raise ValueError(f"decorrelation_turnovers is not negative, got {self.decorrelation_turnovers}")
        if self.turnover_time is not None and not self.turnover_time > 0:
            raise ValueError(f"turnover_time is positive, got {self.turnover_time}")


def split_times(times, turnover_time: float, rule: Split, file=None) -> dict[str, range]:
    """Indices of the snapshots of each split.

    Of all divisions into three stretches that are at least ``decorrelation_turnovers * turnover_time`` apart, the one whose
    counts come nearest to the shares.

    Args:
        times: (n,) increasing times, not necessarily equidistant.
        turnover_time: in the unit of ``times``.
        rule: shares and gap.
        file: what to name in an error.

    Returns:
        Split name to a range of indices, in the order of time, none empty.

    Raises:
        FlowsrError: the run is too short; the line says how long it would have to be.
    """
    times = np.asarray(times, dtype=float)
    gap = rule.decorrelation_turnovers * turnover_time
    count = len(times)
    # after[i]: the first snapshot that may follow when the first i snapshots are taken
    after = np.array([0, *np.searchsorted(times, times + gap * (1 - ROUNDING))])
    after[1:] = np.maximum(after[1:], np.arange(1, count + 1))
    shares = np.array([rule.train, rule.validation, 1 - rule.train - rule.validation])
    best, best_distance = None, np.inf
    for first in range(1, count - 1):
        start = after[first]
        stops = np.arange(start + 1, count)
        stops = stops[after[stops] < count]
        if len(stops) == 0:
            break
        counts = np.stack([np.full(len(stops), first), stops - start, count - after[stops]])
        distance = ((counts / counts.sum(axis=0) - shares[:, None]) ** 2).sum(axis=0)
        nearest = int(np.argmin(distance))
        if distance[nearest] < best_distance - 1e-12:
            best, best_distance = (first, int(start), int(stops[nearest])), distance[nearest]
    if best is None:
        raise _too_short(times, gap, turnover_time, rule, file)
    first, start, stop = best
    return dict(zip(SPLITS, (range(first), range(start, stop), range(int(after[stop]), count))))


def _too_short(times, gap, turnover_time, rule, file) -> FlowsrError:
    duration = times[-1] - times[0] if len(times) else 0.0
    interval = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    step = max(np.ceil(gap / interval - 1e-9) * interval, interval) if interval else gap
    return FlowsrError(
        f"the run is too short for two gaps of {rule.decorrelation_turnovers:g} eddy turnover times of {turnover_time:.4g}",
        file=file,
        variable="time",
        expected=f"a run of {2 * step:.4g} at the least, and {2 * step / 0.6:.4g} for a split worth having",
        found=f"{len(times)} snapshots over {duration:.4g}",
        hint="simulate for longer, add snapshots, or set a smaller split.decorrelation_turnovers",
    )


@dataclass(frozen=True)
class SpectralMoments:
    """Integrals over the energy spectrum E(k) of one snapshot, about the box's mean velocity.

    Attributes:
        energy: int E dk, kinetic energy per unit mass.
        energy_over_wavenumber: int E / k dk.
        wavenumber_squared_energy: int k^2 E dk.
    """

    energy: float
    energy_over_wavenumber: float
    wavenumber_squared_energy: float


@dataclass(frozen=True)
class FlowScales:
    """Scales of a statistically steady run, from moments averaged over its snapshots.

    Attributes:
        energy: kinetic energy of the fluctuations per unit mass.
        rms_velocity: u' = (2 energy / 3)^(1/2), one component's.
        integral_length: L = pi / (2 u'^2) int E / k dk (Pope, Turbulent Flows, 2000, section 6.5).
        turnover_time: L / u', the large eddies' lifetime.
        dissipation: 2 nu int k^2 E dk (the same section), or None where the viscosity is not known.
    """

    energy: float
    rms_velocity: float
    integral_length: float
    turnover_time: float
    dissipation: float | None

    def as_dict(self) -> dict[str, float | None]:
        return asdict(self)


def spectral_moments(velocity: np.ndarray, grid: Grid) -> SpectralMoments:
    """Moments of the spectrum of a periodic box, summed mode by mode: no shells, so any sides and spacings.

    Args:
        velocity: (3, x, y, z).
        grid: its grid; must be periodic.

    Raises:
        ValueError: an axis that is not periodic.
    """
    if not grid.periodic:
        raise ValueError(f"the spectrum needs a periodic box, not {grid.boundary}")
    waves = [2 * np.pi * fft.fftfreq(n, d) for n, d in zip(grid.shape[:2], grid.spacing[:2])]
    waves.append(2 * np.pi * fft.rfftfreq(grid.shape[2], grid.spacing[2]))
    squared = waves[0][:, None, None] ** 2 + waves[1][None, :, None] ** 2 + waves[2][None, None, :] ** 2
    density = sum(np.abs(fft.rfftn(component.astype(np.float64))) ** 2 for component in velocity)
    density *= 0.5 / float(np.prod(grid.shape)) ** 2
    density[..., 1 : (grid.shape[2] + 1) // 2] *= 2  # the modes that the real transform leaves out
    density[0, 0, 0] = 0.0
    squared[0, 0, 0] = 1.0
    return SpectralMoments(
        energy=float(density.sum()),
        energy_over_wavenumber=float((density / np.sqrt(squared)).sum()),
        wavenumber_squared_energy=float((density * squared).sum()),
    )


def flow_scales(moments: Sequence[SpectralMoments], viscosity: float | None) -> FlowScales:
    """Scales from the moments of several snapshots.

    Raises:
        ValueError: a fluid at rest, which has no scales.
    """
    energy = float(np.mean([m.energy for m in moments]))
    if not energy > 0:
        raise ValueError("a fluid at rest has no turnover time")
    u_squared = 2 * energy / 3
    length = np.pi / (2 * u_squared) * float(np.mean([m.energy_over_wavenumber for m in moments]))
    gradient = float(np.mean([m.wavenumber_squared_energy for m in moments]))
    return FlowScales(
        energy=energy,
        rms_velocity=float(np.sqrt(u_squared)),
        integral_length=float(length),
        turnover_time=float(length / np.sqrt(u_squared)),
        dissipation=None if viscosity is None else 2 * float(viscosity) * gradient,
    )


def turnover_time(velocity: xr.DataArray, grid: Grid, file=None, variable: str = "turnover_time") -> float:
    """The eddy turnover time of a run, measured from all of its snapshots.

    Args:
        velocity: (time, component, x, y, z), irreps ``1o``; read one snapshot at a time.
        grid: its grid.
        file: what to name in an error.
        variable: the setting that states the time where it cannot be measured, to name in an error.

    Returns:
        Integral length over rms velocity, in the unit of the data's time.

    Raises:
        FlowsrError: a box that is not periodic, a variable that is no velocity, or a fluid at rest.
    """
    if not grid.periodic or velocity.attrs.get("irreps") not in VELOCITY:
        raise FlowsrError(
            "the eddy turnover time cannot be measured here",
            file=file,
            variable=variable,
            expected="a number, where the box is not periodic or there is no velocity",
            found="nothing",
        )
    return run_scales([spectral_moments(snapshot.values, grid) for snapshot in velocity], None, file).turnover_time


def run_scales(moments: Sequence[SpectralMoments], viscosity: float | None, file=None) -> FlowScales:
    """:func:`flow_scales` of a run from a file.

    Raises:
        FlowsrError: a fluid at rest.
    """
    try:
        return flow_scales(moments, viscosity)
    except ValueError as error:
        raise FlowsrError(str(error), file=file, variable="velocity") from None
