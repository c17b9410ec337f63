"""
Turbulence of one's own
=======================

Kolmogorov flow is driven by a force that varies as a sine across the box: the simplest flow that is turbulent and has a
direction. Half a minute of one core makes the small one below.
"""

# %%
# A simulation is declared, then made; what is there already is not made again.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from flowsr.data import grid_of, open_field
from flowsr.metrics import energy_spectrum, vorticity
from flowsr.simulate import Simulation, simulate

declared = Simulation(flow="kolmogorov", cells=48, viscosity=0.01, spin_up_time=10.0, settle_time=2.0, duration=1.0)
(store,) = simulate([Path(tempfile.mkdtemp()) / "kolmogorov.zarr"], declared)
field = open_field(store)
print(field)

# %%
# The last snapshot: the velocity along the force, the vorticity across the picture, and the energy at each scale.

grid = grid_of(field)
velocity = torch.from_numpy(field["velocity"].isel(time=[-1]).values).double()
wavenumber, energy = energy_spectrum(velocity, grid)

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
for axes, values, title in (
    (left, velocity[0, 0, :, :, 0], "velocity along x"),
    (middle, vorticity(velocity, grid)[0, 2, :, :, 0], "vorticity along z"),
):
    largest = float(values.abs().max())
    picture = axes.imshow(values.T, origin="lower", cmap="RdBu_r", vmin=-largest, vmax=largest)
    axes.set(title=title, xlabel="x", ylabel="y", xticks=[], yticks=[])
    figure.colorbar(picture, ax=axes, shrink=0.85)
right.loglog(wavenumber[1:], energy[0, 1:])
right.set(title="energy spectrum", xlabel="k", ylabel="E(k)", ylim=(1e-6, None))
plt.show()
