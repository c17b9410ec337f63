"""Errors and times of the methods that make a field of particles, on a simulated flow whose truth is known.

    python benchmarks/tracks.py runs/demo/simulate/seed_000.zarr

prints a line per number of particles and method: errors of velocity and vorticity over their RMS at random places, and
the CPU seconds of 2,000 places on one thread.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from flowsr.data import grid_of, open_field
from flowsr.tracks import METHODS, Truth, seed_particles, vorticity

COUNTS, PLACES, NOISE = (1000, 3000, 10_000, 30_000), 2000, 0.0


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("field", help="a periodic field, such as a simulated run")
    parser.add_argument("--particles", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--methods", nargs="+", default=["linear", "bspline", "solenoidal"])
    parser.add_argument("--noise", type=float, default=NOISE, help="of the positions, in cells")
    parser.add_argument("--snapshot", type=int, default=-1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    dataset = open_field(given.field)
    grid = grid_of(dataset)
    truth = Truth(dataset["velocity"].isel(time=given.snapshot).values, grid)
    places = np.random.default_rng(0).uniform(grid.origin, np.add(grid.origin, grid.lengths), (PLACES, 3))
    velocity, gradient = truth.velocity_at(places), truth.gradient_at(places)
    rotation = vorticity(gradient)
    symmetric = (gradient + np.swapaxes(gradient, 1, 2)) / 2
    viscosity = dataset.attrs["viscosity"]
    eta = (viscosity**3 / (2 * viscosity * np.mean((symmetric**2).sum((1, 2))))) ** 0.25
    print("| particles | spacing / η | method | velocity | vorticity | s |\n|---:|---:|---|---:|---:|---:|")
    for count in given.particles:
        cloud = seed_particles(truth, count, np.random.default_rng(1), noise=given.noise)
        for name in given.methods:
            begun = time.process_time()
            found = METHODS[name](cloud, places)
            seconds = time.process_time() - begun
            errors = [rms(found.velocity - velocity) / rms(velocity)]
            errors.append(np.nan if found.gradient is None else rms(found.vorticity - rotation) / rms(rotation))
            print(
                f"| {count} | {cloud.spacing / eta:.1f} | {name} | {errors[0]:.3f} | {errors[1]:.3f} | {seconds:.1f} |"
            )


def rms(values: np.ndarray) -> float:
    """Root mean square of vectors."""
    return float(np.sqrt(np.mean(values**2)))


if __name__ == "__main__":
    main()
