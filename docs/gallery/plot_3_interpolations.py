"""
What every network has to beat
==============================

A fine field is degraded by a named operator, and the coarse one brought back by interpolation. Where interpolations
end, at the cut-off of the coarse grid, is where super-resolution begins.
"""

# %%
# Decaying turbulence on 48 cells a side, block means of four cells, and three ways back.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from flowsr.data import degrade, grid_of, open_field
from flowsr.metrics import cutoff_wavenumber, energy_spectrum, nrmse
from flowsr.models import Task, build_model
from flowsr.simulate import Simulation, simulate

declared = Simulation(flow="decaying", cells=48, viscosity=0.012, duration=1.0)
(store,) = simulate([Path(tempfile.mkdtemp()) / "decaying.zarr"], declared)
fine = open_field(store).isel(time=[-1]).load()
coarse = degrade(fine, "block_mean", 4)

truth = torch.from_numpy(fine["velocity"].values)
given = torch.from_numpy(coarse["velocity"].values)
found = {
    name: build_model(name, Task(factor=4))(given, grid_of(coarse)) for name in ("nearest", "trilinear", "spectral")
}

# %%
# The spectrum says more than the error: block means leave images beyond the cut-off, interpolations leave nothing.

grid = grid_of(fine)
figure, (left, *middle, right) = plt.subplots(1, 5, figsize=(14, 3.2), layout="constrained")
fields = {"coarse": given, "trilinear": found["trilinear"], "spectral": found["spectral"]}
largest = float(truth.abs().max())
for axes, (name, values) in zip((left, *middle[:2]), fields.items(), strict=True):
    axes.imshow(values[0, 0, :, :, 0].T, origin="lower", cmap="RdBu_r", vmin=-largest, vmax=largest)
    axes.set(title=name, xticks=[], yticks=[])
middle[2].imshow(truth[0, 0, :, :, 0].T, origin="lower", cmap="RdBu_r", vmin=-largest, vmax=largest)
middle[2].set(title="truth", xticks=[], yticks=[])
for name, values in {"truth": truth, **found}.items():
    wavenumber, energy = energy_spectrum(values.double(), grid)
    error = "" if name == "truth" else f", NRMSE {float(nrmse(values, truth, grid)[0]):.2f}"
    right.loglog(wavenumber[1:], energy[0, 1:].clamp_min(1e-12), "k" if name == "truth" else "", label=name + error)
right.axvline(cutoff_wavenumber(grid, 4), color="0.7", linestyle=":")
right.set(xlabel="k", ylabel="E(k)", ylim=(1e-9, None))
right.legend(fontsize=7)
plt.show()
