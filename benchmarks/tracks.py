"""Errors and times of the methods that make a field of particles, on a simulated flow whose truth is known.

    python benchmarks/tracks.py runs/demo/simulate/seed_000.zarr

prints a line per number of particles and method: errors of velocity and vorticity over their RMS at random places, and
the CPU seconds of 2,000 places on one thread. ``own:80`` is kriging from 80 neighbours with the flow's own covariance,
which no experiment knows: the best linear estimate from them. ``navier_stokes`` takes the accelerations and the
viscosity of a run of ``flowsr simulate``.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import CubicSpline

from flowsr.data import grid_of, open_field
from flowsr.simulate.tracers import acceleration_of, settings_of
from flowsr.tracks import METHODS, Cloud, Estimate, Truth, seed_particles, vorticity

COUNTS, PLACES, NOISE = (1000, 3000, 10_000, 30_000), 2000, 0.0


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("field", help="a periodic field, such as a simulated run")
    parser.add_argument("--particles", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--methods", nargs="+", default=["linear", "bspline", "solenoidal"])
    parser.add_argument("--noise", type=float, default=NOISE, help="of the positions, in cells")
    parser.add_argument("--snapshot", type=int, default=-1)
    parser.add_argument("--places", type=int, default=PLACES)
    given = parser.parse_args()
    torch.set_num_threads(1)
    dataset = open_field(given.field)
    grid = grid_of(dataset)
    truth, felt = Truth(dataset["velocity"].isel(time=given.snapshot).values, grid), None
    if "navier_stokes" in given.methods:
        felt = Truth(acceleration_of(settings_of(Path(given.field)), truth.velocity), grid)
    places = np.random.default_rng(0).uniform(grid.origin, np.add(grid.origin, grid.lengths), (given.places, 3))
    velocity, gradient = truth.velocity_at(places), truth.gradient_at(places)
    rotation = vorticity(gradient)
    symmetric = (gradient + np.swapaxes(gradient, 1, 2)) / 2
    viscosity = dataset.attrs["viscosity"]
    eta = (viscosity**3 / (2 * viscosity * np.mean((symmetric**2).sum((1, 2))))) ** 0.25
    own = partial(own_covariance, OwnCovariance.of(truth))
    print("| particles | spacing / η | method | velocity | vorticity | s |\n|---:|---:|---|---:|---:|---:|")
    for count in given.particles:
        cloud = seed_particles(truth, count, np.random.default_rng(1), noise=given.noise, acceleration=felt)
        for name in given.methods:
            begun = time.process_time()
            kind, _, neighbours = name.partition(":")
            method = own if kind == "own" else METHODS[kind]
            options = {"neighbours": int(neighbours)} if neighbours else {}
            options |= {"viscosity": viscosity} if name == "navier_stokes" else {}
            found = method(cloud, places, **options)
            seconds = time.process_time() - begun
            errors = [rms(found.velocity - velocity) / rms(velocity)]
            errors.append(np.nan if found.gradient is None else rms(found.vorticity - rotation) / rms(rotation))
            print(
                f"| {count} | {cloud.spacing / eta:.1f} | {name} | {errors[0]:.3f} | {errors[1]:.3f} | {seconds:.1f} |"
            )


@dataclass(frozen=True)
class OwnCovariance:
    """<u_i(x) u_j(x + r)> of an isotropic flow from its energy spectrum (Batchelor 1953, section 3.4): longitudinal and
    transverse functions of the distance, and the variance of a component."""

    along: CubicSpline
    across: CubicSpline
    variance: float

    @classmethod
    def of(cls, truth: Truth) -> OwnCovariance:
        """Of one snapshot."""
        n = truth.grid.shape
        modes = np.fft.fftn(truth.velocity.astype(float), axes=(1, 2, 3)) / np.prod(n)
        waves = [2 * np.pi * np.fft.fftfreq(m, 1 / m) / length for m, length in zip(n, truth.grid.lengths)]
        size = np.sqrt(sum(k**2 for k in np.meshgrid(*waves, indexing="ij", sparse=True)))
        unit = 2 * np.pi / max(truth.grid.lengths)
        energy = np.bincount(np.rint(size / unit).astype(int).ravel(), (abs(modes) ** 2).sum(0).ravel() / 2)[1:]
        r = np.linspace(1e-6, max(truth.grid.lengths), 4000)
        x = unit * np.arange(1, len(energy) + 1)[:, None] * r
        near = x < 0.01
        ratio = np.where(near, 1 / 3 - x**2 / 30, (np.sin(x) - x * np.cos(x)) / np.where(near, 1.0, x) ** 3)
        along, trace = 2 * energy @ ratio, 2 * energy @ np.sinc(x / np.pi)
        return cls(CubicSpline(r, along), CubicSpline(r, (trace - along) / 2), float(along[0]))

    def __call__(self, offsets: np.ndarray) -> np.ndarray:
        """(..., 3, 3) of offsets (..., 3)."""
        r = np.maximum(np.sqrt((offsets**2).sum(-1)), 1e-6)
        way, along, across = offsets / r[..., None], self.along(r)[..., None, None], self.across(r)[..., None, None]
        return across * np.eye(3) + (along - across) * way[..., :, None] * way[..., None, :]


def own_covariance(covariance: OwnCovariance, cloud: Cloud, points: np.ndarray, neighbours: int = 40) -> Estimate:
    """Simple kriging about the mean of the cloud; its gradient from differences."""
    parts = []
    for start in range(0, len(points), 200):
        at = points[start : start + 200]
        indices = cloud.nearest(at, neighbours)[1]
        near, mean = cloud.positions[indices], cloud.velocities.mean(0)
        between = covariance(cloud.displacement(near[:, :, None] - near[:, None]))
        matrix = np.moveaxis(between, 2, 3).reshape(len(at), 3 * neighbours, -1)
        matrix = matrix + 1e-7 * covariance.variance * np.eye(3 * neighbours)
        right = (cloud.velocities[indices] - mean).reshape(len(at), -1, 1)
        amplitudes = np.linalg.solve(matrix, right).reshape(len(at), neighbours, 3)
        away, step = cloud.displacement(at[:, None] - near), 1e-3 * cloud.spacing
        shifts = [np.zeros(3), *(sign * step * unit for unit in np.eye(3) for sign in (1, -1))]
        found = [np.einsum("pnij,pnj->pi", covariance(away + shift), amplitudes) for shift in shifts]
        slopes = [(found[2 * a + 1] - found[2 * a + 2]) / (2 * step) for a in range(3)]
        parts.append((found[0] + mean, np.stack(slopes, -1)))
    return Estimate(*(np.concatenate(each) for each in zip(*parts)))


def rms(values: np.ndarray) -> float:
    """Root mean square of vectors."""
    return float(np.sqrt(np.mean(values**2)))


if __name__ == "__main__":
    main()
