"""What a run was like, from its tables and its snapshots: `python -m flowsr.simulate.summary STORE...`.

Prints a row of time averages for every run in a box, as a Markdown table; for a channel a table of centre-line and bulk
velocity, the peaks of the stresses and how well the energy balance closes. With ``--picture FILE`` draws the first one
(needs matplotlib).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from flowsr.grid import Grid
from flowsr.simulate.diagnostics import closing, read_table
from flowsr.simulate.spectral import PeriodicBox

AVERAGED = ("reynolds_lambda", "kmax_eta", "energy", "dissipation", "injected_power", "turnover_time", "skewness")
ODD = ("y", "uv_plus", "viscous_plus")  # profiles that change their sign from one half of a channel to the other
STRESSES = (("uu_plus", "u'"), ("vv_plus", "v'"), ("ww_plus", "w'"))
LOG_LAW = "2.5 ln y+ + 5.5"
BUFFER_LAYER = 15.0  # y+ of the plane that is drawn
CLOCK_ERROR = 1e-9


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
    energy = box.shell_energies(box.forward(field))
    return box.lowest * np.arange(1, len(energy)), (energy[1:] / box.lowest).numpy()


def read_heads(path: Path) -> dict[str, float]:
    """The numbers in the '#' lines of a table of profiles, by name."""
    with open(path) as file:
        heads = (line[2:].split(" = ") for line in file if line.startswith("#"))
        return {name: float(value) for name, value in heads}


def folded(profiles: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Both halves of the channel averaged, from the wall to the middle; y turns into -|y|, -<u'v'> is positive."""
    half = len(profiles["y"]) // 2
    sign = {name: -1 if name in ODD else 1 for name in profiles}
    found = {name: (values[:half] + sign[name] * values[::-1][:half]) / 2 for name, values in profiles.items()}
    return {**found, "uv_plus": -found["uv_plus"]}


def peak(profiles: dict[str, np.ndarray], name: str) -> tuple[float, float]:
    """Largest value of a folded profile, and its y+."""
    at = int(np.argmax(profiles[name]))
    return float(profiles[name][at]), float(profiles["y_plus"][at])


def channel_summary(store: Path) -> list[tuple[str, str]]:
    """Names and values of what characterizes a channel."""
    profiles, table = folded(read_table(store.with_suffix(".profiles.csv"))), read_table(store.with_suffix(".csv"))
    heads = read_heads(store.with_suffix(".profiles.csv"))
    start = table["time"][-1] - heads["averaged_over"] - CLOCK_ERROR
    late = table["time"] >= start
    weight = np.gradient(table["time"][late])
    rows = [("U_c+", f"{profiles['u_plus'][-1]:.2f}"), ("U_b+", f"{heads['bulk_velocity'] / heads['u_tau']:.2f}")]
    rows.append(("Re_tau, of the walls' shear", f"{np.average(table['reynolds_tau'][late], weights=weight):.1f}"))
    for name, label in STRESSES:
        size, place = peak(profiles, name)
        rows.append((label, f"{np.sqrt(size):.2f} at y+ {place:.1f}"))
    rows.append(("-u'v'", "{:.2f} at y+ {:.1f}".format(*peak(profiles, "uv_plus"))))
    total = profiles["viscous_plus"] + profiles["uv_plus"]
    rows.append(("total stress off its line by at most", f"{np.abs(total - np.abs(profiles['y'])).max():.3f}"))
    rows.append(("balance of energy open by", f"{100 * closing(table, start):.2f} %"))
    steps = table["step"][late]
    rows.append(("time step", f"{(table['time'][-1] - start) / (steps[-1] - steps[0]):.2e}"))
    return rows


def draw(store: Path, path: Path) -> None:
    """What a run was like, as a PNG file.

    Of a box a slice through the last snapshot and the spectra averaged over all of them; of a channel slices of the
    last snapshot, mean velocity and stresses in wall units.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    if _is_channel(store):
        figure, axes = pyplot.subplots(2, 2, figsize=(8.4, 5.2), layout="constrained")
        _draw_channel_slices(store, figure, axes[0])
        _draw_profiles(folded(read_table(store.with_suffix(".profiles.csv"))), axes[1])
    else:
        figure, axes = pyplot.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
        _draw_box(store, figure, *axes)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def _draw_box(store: Path, figure, left, right) -> None:
    from flowsr.data import grid_of, open_field

    dataset = open_field(store)
    grid: Grid = grid_of(dataset)
    box = PeriodicBox(grid)
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


def _draw_channel_slices(store: Path, figure, axes) -> None:
    from flowsr.data import grid_of, open_field

    field = open_field(store)
    velocity, grid = field["velocity"].isel(time=-1).values, grid_of(field)
    x, y, z = grid.faces()
    viscosity = float(field.attrs["viscosity"])
    near_wall = int(np.argmin(np.abs((grid.coordinates()[1] + 1) / viscosity - BUFFER_LAYER)))
    cross, plane = velocity[0, 0].T, velocity[0, :, near_wall]
    for axis, values, across, up, names in (
        (axes[0], cross.T, z, y, ("z / h", "y / h")),
        (axes[1], plane.T, x, z, ("x / h", "z / h")),
    ):
        image = axis.pcolormesh(across, up, values, cmap="magma", rasterized=True)
        axis.set(xlabel=names[0], ylabel=names[1], aspect="equal")
        figure.colorbar(image, ax=axis, label="u+", shrink=0.8)
    axes[0].set_title("across the flow", fontsize=9)
    axes[1].set_title(f"streaks at y+ = {BUFFER_LAYER:g}", fontsize=9)


def _draw_profiles(profiles: dict[str, np.ndarray], axes) -> None:
    height = profiles["y_plus"]
    mean, stresses = axes
    mean.semilogx(height, profiles["u_plus"], "k.-", label="DNS", markersize=4)
    near, far = height[height < 12], height[height > 10]
    mean.semilogx(near, near, "C0--", label="y+")
    mean.semilogx(far, 2.5 * np.log(far) + 5.5, "C1--", label=LOG_LAW)
    mean.set(xlabel="y+", ylabel="U+", xlim=(0.4, None))
    for name, label in STRESSES:
        stresses.plot(height, np.sqrt(profiles[name]), label=label)
    stresses.plot(height, profiles["uv_plus"], label="-u'v'")
    stresses.plot(height, profiles["uv_plus"] + profiles["viscous_plus"], "k:", label="total stress")
    stresses.set(xlabel="y+", ylabel="wall units", ylim=(0, None))
    for axis in axes:
        axis.legend(fontsize=8, frameon=False)


def _is_channel(store: Path) -> bool:
    return store.with_suffix(".profiles.csv").exists()


def _box_row(store: Path) -> str:
    from flowsr.data import open_field

    dataset, table = open_field(store), read_table(store.with_suffix(".csv"))
    start = float(dataset.time[0])
    means = " | ".join(f"{mean:.3g} ± {spread:.2g}" for mean, spread in time_averages(table, start).values())
    cells = " x ".join(str(dataset.sizes[axis]) for axis in "xyz")
    return f"| {store.parent.parent.name}/{store.stem} | {cells} | {means} | {100 * closing(table, start):.2f} % |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flowsr.simulate.summary", description=__doc__.splitlines()[0])
    parser.add_argument("stores", type=Path, nargs="+", help="stores that `flowsr simulate` wrote")
    parser.add_argument("--picture", type=Path, help="PNG file to draw the first one to")
    options = parser.parse_args()
    boxes = [store for store in options.stores if not _is_channel(store)]
    if boxes:
        print("| run | cells | " + " | ".join(AVERAGED) + " | budget closes to |")
        print("|---|---|" + "---|" * (len(AVERAGED) + 1))
        print(*map(_box_row, boxes), sep="\n")
    for store in filter(_is_channel, options.stores):
        rows = [f"| {name} | {value} |" for name, value in channel_summary(store)]
        print("", f"| {store.stem} | |", "|---|---|", *rows, sep="\n")
    if options.picture:
        draw(options.stores[0], options.picture)


if __name__ == "__main__":
    main()
