"""Particles, the field of them on a plane, and its error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from flowsr.report.html import Picture, data_address, png_bytes
from flowsr.report.style import SIGNED_MAP, plain, styled

BYTES = 900_000


@dataclass(frozen=True, eq=False)
class ParticlePlane:
    """A plane through a cloud.

    Args:
        label: of the condition that the cloud was seen in.
        extent: low and high side of the plane along x, then along y.
        positions, velocities: (particles, 2) of those near the plane, along x and y.
        panels: magnitude of vorticity (x, y), by method; ``truth`` among them.
    """

    label: str
    extent: tuple[float, float, float, float]
    positions: np.ndarray
    velocities: np.ndarray
    panels: Mapping[str, np.ndarray]

    @property
    def others(self) -> list[str]:
        """Methods, in order."""
        return [name for name in self.panels if name != "truth"]

    def error(self, name: str) -> float:
        """RMS error on the plane over the truth's RMS."""
        truth = self.panels["truth"]
        return float(np.sqrt(np.mean((self.panels[name] - truth) ** 2) / np.mean(truth**2)))


def particles_picture(plane: ParticlePlane) -> Picture:
    """The figure with its words."""
    errors = "; ".join(f"{name} {100 * plane.error(name):.0f} %" for name in plane.others)
    caption = (
        f"{plane.label}: particles near a plane of a test cloud with their velocities, the magnitude of vorticity "
        "there in truth and as each method makes it of them, on one colour scale; below, method minus truth."
    )
    alt = f"Particles, true vorticity and that of {', '.join(plane.others)}; r.m.s. errors on the plane: {errors}."
    return Picture(alt, caption, photo=data_address(png_bytes(particles_figure(plane), 110, BYTES)))


@styled
def particles_figure(plane: ParticlePlane) -> Figure:
    """Above particles, truth and methods, below what methods have wrong."""
    names, truth = plane.others, plane.panels["truth"]
    figure = Figure(figsize=(3.1 * (len(names) + 2), 6.4), layout="constrained")
    panels = figure.subplots(2, len(names) + 2, squeeze=False)
    high = float(np.percentile(truth, 99.5))
    quiver = {"angles": "xy", "width": 0.004, "color": "#0072B2"}
    panels[0, 0].quiver(*plane.positions.T, *plane.velocities.T, **quiver)
    panels[0, 0].set(xlim=plane.extent[:2], ylim=plane.extent[2:], aspect="equal", title="particles")
    look = {"extent": plane.extent, "origin": "lower", "aspect": "equal"}
    for axes, name in zip(panels[0, 1:], ["truth", *names]):
        above = axes.imshow(plane.panels[name].T, cmap="magma", vmin=0, vmax=high, **look)
        axes.set_title(plain(name))
    for axes, name in zip(panels[1, 2:], names):
        below = axes.imshow((plane.panels[name] - truth).T, cmap=SIGNED_MAP, vmin=-high / 2, vmax=high / 2, **look)
        axes.set_title(f"{100 * plane.error(name):.0f} %")
    for axes in panels[1, :2]:
        axes.set_axis_off()
    for axes in panels.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    figure.colorbar(above, ax=list(panels[0]), label=r"$|\omega|$", shrink=0.8)
    figure.colorbar(below, ax=list(panels[1]), label="error", shrink=0.8)
    return figure
