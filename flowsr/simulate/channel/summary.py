"""What a channel was like, from its tables and its last snapshot: `python -m flowsr.simulate.channel.summary STORE`.

Prints centre-line and bulk velocity, the peaks of the stresses and how well the energy balance closes, as a Markdown
table; with ``--picture FILE`` draws slices and profiles (needs matplotlib).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from flowsr.simulate.diagnostics import closing, read_table

ODD = ("y", "uv_plus", "viscous_plus")
STRESSES = (("uu_plus", "u'"), ("vv_plus", "v'"), ("ww_plus", "w'"))
LOG_LAW = "2.5 ln y+ + 5.5"
BUFFER_LAYER = 15.0  # y+ of the plane that is drawn
CLOCK_ERROR = 1e-9


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


def describe(store: Path) -> list[tuple[str, str]]:
    """Names and values of what characterizes a run."""
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


def draw(store: Path, picture: Path) -> None:
    """Slices of the last snapshot, mean velocity and stresses in wall units, into one PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(8.4, 5.2), dpi=90, layout="constrained")
    _draw_slices(store, figure, axes[0])
    _draw_profiles(folded(read_table(store.with_suffix(".profiles.csv"))), axes[1])
    figure.savefig(picture)
    pyplot.close(figure)


def _draw_slices(store: Path, figure, axes) -> None:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    rows = describe(arguments.store)
    print("\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]))
    if arguments.picture is not None:
        draw(arguments.store, arguments.picture)


if __name__ == "__main__":
    main()
