"""What a run was like, from its table of diagnostics and its snapshots: `python -m flowsr.simulate.summary STORE...`.

Prints a row of time averages for every run, as a Markdown table; with ``--picture FILE`` draws a slice and the spectra
of the first one (needs matplotlib).
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch

from flowsr.grid import Grid
from flowsr.simulate.diagnostics import closing, read_table
from flowsr.simulate.spectral import PeriodicBox

AVERAGED = ("reynolds_lambda", "kmax_eta", "energy", "dissipation", "injected_power", "turnover_time", "skewness")


def time_averages(table: dict[str, np.ndarray], start: float) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation over time, from ``start`` on, of what characterizes the turbulence.

    Rows are weighted by the time they stand for.
    """
    late = table["time"] >= start
    weight = np.gradient(table["time"][late]) if late.sum() > 1 else np.ones(1)
    found = {}
    for name in AVERAGED:
        values = table[name][late]
        mean = float(np.average(values, weights=weight))
        found[name] = mean, float(np.sqrt(np.average((values - mean) ** 2, weights=weight)))
    return found


def shell_spectrum(box: PeriodicBox, field: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """E(k) of a field (component, x, y, z), half the mean square a unit of wavenumber; shells of the lowest wavenumber.

    Returns:
        (n,) centres of the shells, radians per length, and (n,) E(k).
    """
    lowest = 2 * math.pi / max(box.grid.lengths)
    energy = box.forward(field).abs().square().sum(0).mul(box.weight / 2).flatten().double()
    shell = (box.k_squared.sqrt() / lowest).round().long().flatten()
    total = torch.zeros(int(shell.max()) + 1, dtype=torch.float64).index_add_(0, shell, energy)
    return lowest * np.arange(1, len(total)), (total[1:] / lowest).numpy()


def draw(store: Path, path: Path) -> None:
    """A slice through the last snapshot and the spectra averaged over all of them, as a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from flowsr.data import grid_of, open_field

    dataset = open_field(store)
    grid: Grid = grid_of(dataset)
    box = PeriodicBox(grid)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3.4), constrained_layout=True)
    last = dataset.velocity[-1].values
    vertical = bool(np.ptp(np.array(grid.lengths)) > 0) or "buoyancy" in dataset
    plane = last[0, :, 0, :] if vertical else last[0, :, :, 0]
    extent = (0, grid.lengths[0], 0, grid.lengths[2 if vertical else 1])
    limit = float(np.abs(plane).max())
    image = left.imshow(plane.T, origin="lower", extent=extent, cmap="RdBu_r", vmin=-limit, vmax=limit)
    left.set(xlabel="x", ylabel="z" if vertical else "y", title=f"u at t = {float(dataset.time[-1]):g}")
    figure.colorbar(image, ax=left, shrink=0.8)
    for component, name in enumerate("uvw"):
        spectra = [
            shell_spectrum(box, torch.from_numpy(dataset.velocity[t, component : component + 1].values))
            for t in range(dataset.sizes["time"])
        ]
        k = spectra[0][0]
        inside = k <= box.k_max * 1.02
        right.loglog(k[inside], np.mean([e for _, e in spectra], axis=0)[inside], label=f"$E_{{{name}{name}}}/2$")
    right.loglog(k[inside], 0.1 * k[inside] ** (-5 / 3), color="0.6", linestyle=":", label="$k^{-5/3}$")
    right.set(xlabel="k", title="mean over the snapshots", ylim=(1e-8, None))
    right.legend(frameon=False)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flowsr.simulate.summary", description=__doc__.splitlines()[0])
    parser.add_argument("stores", type=Path, nargs="+", help="stores that `flowsr simulate` wrote")
    parser.add_argument("--picture", type=Path, help="PNG file to draw the first one to")
    options = parser.parse_args()
    from flowsr.data import open_field

    print("| run | cells | " + " | ".join(AVERAGED) + " | budget closes to |")
    print("|---|---|" + "---|" * (len(AVERAGED) + 1))
    for store in options.stores:
        dataset = open_field(store)
        table = read_table(store.with_suffix(".csv"))
        start = float(dataset.time[0])
        means = " | ".join(f"{mean:.3g} ± {spread:.2g}" for mean, spread in time_averages(table, start).values())
        cells = " x ".join(str(dataset.sizes[axis]) for axis in "xyz")
        print(f"| {store.parent.parent.name}/{store.stem} | {cells} | {means} | {100 * closing(table, start):.2f} % |")
    if options.picture:
        draw(options.stores[0], options.picture)


if __name__ == "__main__":
    main()
