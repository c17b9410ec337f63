"""How often a model's home is right: fields that are like those of the training, and fields that are not.

    flowsr simulate configs/pretrained/hit.yaml
    python benchmarks/home.py

Each of the six runs is judged by the ranges of the other five, so every field is of a seed that its home never saw.
Fields are block means of 4 cells of 64^3 where nothing else is said. "Without nu" is the same where the file does not
state its viscosity.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from flowsr.data import grid_of, open_field
from flowsr.data.degrade import DEGRADE_OPERATORS
from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.group.fields import transform_field, transform_grid
from flowsr.models.home import Home, compare_with_home, measure_traits, ranges_of

FACTOR = 4
OPERATOR = "block_mean"


def averaged(fine: np.ndarray, grid: Grid, factor: int = FACTOR, operator: str = OPERATOR) -> tuple[np.ndarray, Grid]:
    """A fine field made coarse."""
    return DEGRADE_OPERATORS[operator]()(fine, factor, grid=grid), grid.coarsened(factor)


def turned(coarse: np.ndarray, grid: Grid, random: np.random.Generator) -> tuple[np.ndarray, Grid]:
    """Any of the 48 orientations."""
    group = octahedral_group("Oh")
    element = int(random.integers(48))
    values = transform_field(torch.from_numpy(coarse)[None], element, "1o", group)[0].numpy()
    return values, transform_grid(grid, element, group)


def laminar(grid: Grid, random: np.random.Generator) -> np.ndarray:
    """A shear of one wave, or a vortex of three."""
    x = np.meshgrid(*(2 * np.pi * c / n for c, n in zip(grid.coordinates(), grid.lengths)), indexing="ij")
    waves, phase = int(random.integers(1, 3)), random.uniform(0, 2 * np.pi, 3)
    if random.random() < 0.5:
        return np.stack([np.sin(waves * x[1] + phase[0]), 0 * x[0], 0 * x[0]])
    return np.stack([np.sin(waves * x[(i + 2) % 3] + phase[i]) + np.cos(waves * x[(i + 1) % 3]) for i in range(3)])


#: name -> (fine field, its grid, random) to (coarse field, grid, viscosity times, boundaries as they are)
Case = Callable[[np.ndarray, Grid, np.random.Generator], tuple[np.ndarray, Grid, float]]


def _same(change: Callable) -> Case:
    return lambda fine, grid, random: (*change(*averaged(fine, grid), random), 1.0)


def _units(fine: np.ndarray, grid: Grid, random: np.random.Generator) -> tuple[np.ndarray, Grid, float]:
    coarse, box = averaged(fine, grid)
    speed, length = 10 ** random.uniform(-3, 3, 2)
    return coarse * speed, replace(box, spacing=tuple(length * d for d in box.spacing)), speed * length


def _strided(fine: np.ndarray, grid: Grid, random: np.random.Generator) -> tuple[np.ndarray, Grid, float]:
    return fine[:, ::FACTOR, ::FACTOR, ::FACTOR], grid.coarsened(FACTOR), 1.0


def _noise(fine: np.ndarray, grid: Grid, random: np.random.Generator) -> tuple[np.ndarray, Grid, float]:
    box = grid.coarsened(FACTOR)
    return fine.std() * random.normal(size=(3, *box.shape)), box, 1.0


def _long(fine: np.ndarray, grid: Grid, random: np.random.Generator) -> tuple[np.ndarray, Grid, float]:
    coarse, box = averaged(fine, grid)
    spacing = list(box.spacing)
    spacing[int(random.integers(3))] *= random.uniform(1.5, 40)
    return coarse, replace(box, spacing=tuple(spacing)), 1.0


def _walls(fine: np.ndarray, grid: Grid, random: np.random.Generator) -> tuple[np.ndarray, Grid, float]:
    coarse, box = averaged(fine, grid)
    boundary = list(box.boundary)
    boundary[int(random.integers(3))] = "wall"
    return coarse, replace(box, boundary=tuple(boundary)), 1.0


def _wind(coarse: np.ndarray, grid: Grid, random: np.random.Generator) -> tuple[np.ndarray, Grid]:
    return coarse + 10 * coarse.std() * random.normal(size=(3, 1, 1, 1)), grid


#: Without a viscosity it is the same field as ever.
STATED = "another viscosity stated, x 3"
SILENT: dict[str, Case] = {
    "other seeds": _same(lambda coarse, grid, random: (coarse, grid)),
    "turned": _same(turned),
    "other units": _units,
    "a mean wind": _same(_wind),
}
CAUGHT: dict[str, Case] = {
    "white noise": _noise,
    "strided, not averaged": _strided,
    "already fine": lambda fine, grid, random: (fine, grid, 1.0),
    "laminar": _same(lambda coarse, grid, random: (laminar(grid, random), grid)),
    "zero": _same(lambda coarse, grid, random: (0 * coarse, grid)),
    "cell Reynolds number x 2.5 (cells twice as large)": lambda fine, grid, random: (*averaged(fine, grid, 8), 1.0),
    "cell Reynolds number / 3 (cells half as large)": lambda fine, grid, random: (*averaged(fine, grid, 2), 1.0),
    STATED: lambda fine, grid, random: (*averaged(fine, grid), 3.0),
    "a spectral cut-off": lambda fine, grid, random: (*averaged(fine, grid, operator="spectral_cutoff"), 1.0),
    "walls": _walls,
    "long cells": _long,
}


def fields(store: Path) -> Iterator[tuple[np.ndarray, Grid, float]]:
    """Every snapshot of a run, its grid and viscosity."""
    dataset = open_field(store)
    for snapshot in dataset.velocity:
        yield snapshot.values.astype(np.float64), grid_of(dataset, store), float(dataset.attrs["viscosity"])


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/pretrained/hit/simulate"))
    folder = parser.parse_args().folder
    stores = sorted(folder.glob("seed_*.zarr"))
    names, random = {**SILENT, **CAUGHT}, np.random.default_rng(0)
    measured: dict[str, list[list[tuple]]] = {name: [] for name in names}
    for number, store in enumerate(stores):
        for name in names:
            measured[name].append([])
        for fine, grid, viscosity in fields(store):
            for name, case in names.items():
                coarse, box, times = case(fine, grid, random)
                measured[name][-1].append((measure_traits(coarse, box, "1o", times * viscosity), box))
        print(f"{number + 1} of {len(stores)} runs", file=sys.stderr)
    homes = []
    for left_out in range(len(stores)):
        others = [t for n, run in enumerate(measured["other seeds"]) if n != left_out for t, _ in run]
        homes.append(Home(OPERATOR, ("periodic",) * 3, False, len(others), ranges_of(others)))
    for title, cases in (
        ("Like the training: said to be outside", SILENT),
        ("Not like it: said to be outside", CAUGHT),
    ):
        print(f"| {title} | fields | with nu | without nu |\n|---|---:|---:|---:|")
        totals = np.zeros((2, 2))  # with and without nu: fields, and those said to be outside
        for name in cases:
            found = np.zeros((2, 2))
            for home, run in zip(homes, measured[name]):
                for traits, box in run:
                    unstated = {key: value for key, value in traits.items() if key != "cell_reynolds"}
                    outside = [not compare_with_home(home, [each], box).at_home for each in (traits, unstated)]
                    found += [(1, outside[0]), (name != STATED, outside[1] and name != STATED)]
            totals += found
            print(f"| {name} | {found[0, 0]:.0f} | {_share(found[0])} | {_share(found[1])} |")
        print(f"| **all** | {totals[0, 0]:.0f} | {_share(totals[0])} | {_share(totals[1])} |\n")
    return 0


def _share(counts: np.ndarray) -> str:
    return f"{counts[1] / counts[0]:.1%}" if counts[0] else "-"


if __name__ == "__main__":
    sys.exit(main())
