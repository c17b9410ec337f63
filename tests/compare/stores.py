"""Small test stores and stand-in models."""

import numpy as np
import torch

from flowsr.compare import compare, write_tables
from flowsr.compare.tables import metrics_json
from flowsr.data import create_store, field_template
from flowsr.grid import Grid
from flowsr.models.base import Task, Upscaler

FACTOR = 2


def compared(stores, entries, output=None, **options):
    """What ``metrics.json`` holds after a comparison, whose files go to ``output``."""
    result = compare(stores, entries, **options)
    if output is not None:
        write_tables(result, output)
    return metrics_json(result)


FINE = Grid((16, 12, 8), (0.25, 0.5, 0.5))


def velocity(seed, grid=FINE, times=3, components=3):
    """Smooth noise (time, component, x, y, z): white noise with its modes damped."""
    white = np.random.default_rng(seed).standard_normal((times, components, *grid.shape))
    k = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in grid.shape), indexing="ij")
    damping = np.exp(-0.3 * np.sqrt(sum(axis**2 for axis in k)))
    return np.fft.ifftn(np.fft.fftn(white, axes=(2, 3, 4)) * damping, axes=(2, 3, 4)).real.astype("float32")


def block_mean(fine):
    x, y, z = (n // FACTOR for n in fine.shape[2:])
    return fine.reshape(*fine.shape[:2], x, FACTOR, y, FACTOR, z, FACTOR).mean(axis=(3, 5, 7))


def write(path, groups, times=None, attrs=None, units="m/s", variable="velocity"):
    """A store with fields (time, component, x, y, z) by group name."""
    templates = {}
    for name, (values, grid) in groups.items():
        instants = np.arange(len(values), dtype=float) if times is None else times
        templates[name] = field_template(
            grid,
            instants,
            variable=variable,
            units=units,
            irreps="1o" if values.shape[1] == 3 else "0e",
            components=("u", "v", "w") if values.shape[1] == 3 else None,
            attrs={"length_units": "m", "viscosity": 0.01, **(attrs or {})},
        )
    with create_store(path, templates, fresh=True) as store:
        for name, (values, _) in groups.items():
            for time, snapshot in enumerate(values):
                store.write(variable, snapshot if values.shape[1] == 3 else snapshot[0], time=time, group=name)
        store.publish()
    return path


def test_store(folder, seed, grid=FINE, components=3):
    fine = velocity(seed, grid, components=components)
    groups = {"coarse": (block_mean(fine), grid.coarsened(FACTOR)), "fine": (fine, grid)}
    attrs = {"degrade_operator": "block_mean", "degrade_factor": FACTOR}
    return write(folder / f"seed_{seed:03d}.zarr", groups, attrs=attrs)


test_store.__test__ = False


class Repeated(Upscaler):
    """Every fine cell takes the coarse cell's value, times a factor; counts its calls."""

    def __init__(self, strength=1.0, irreps="1o"):
        super().__init__(Task(FACTOR, irreps))
        self.strength = strength
        self.calls = 0

    def extra_repr(self):
        return f"strength={self.strength}"

    def forward(self, coarse, grid):
        self.calls += 1
        for axis in (2, 3, 4):
            coarse = coarse.repeat_interleave(self.factor, dim=axis)
        return self.strength * coarse


class Learned(Repeated):
    """A network as the comparison sees one: it has a weight, one per component, which breaks the symmetry."""

    trainable = True

    def __init__(self, weights=(1.0, 1.0, 1.0)):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.tensor(weights))

    def forward(self, coarse, grid):
        return super().forward(coarse, grid) * self.weights[:, None, None, None]
