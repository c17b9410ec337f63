"""Fields whose metrics are known in closed form, on boxes with unequal sides and spacings."""

import math

import numpy as np
import torch

from flowsr.grid import Grid

CUBE = Grid((24, 24, 24), (2 * math.pi / 24,) * 3)
UNEQUAL = Grid((16, 12, 20), (2 * math.pi / 16, math.pi / 12, 3 * math.pi / 20))  # sides 2 pi, pi, 3 pi
CHANNEL = Grid((16, 10, 12), (0.3, 0.18, 0.25), ("periodic", "wall", "open"), (0.0, -0.9, 0.0))

STRETCHED = Grid(
    (8, 12, 10),
    (0.3, 2.0 / 12, 0.25),
    ("periodic", "wall", "periodic"),
    (0.0, -1.0, 0.0),
    (None, tuple(np.linspace(-0.93, 0.97, 12) ** 3 * 0.6 + np.linspace(-0.93, 0.97, 12) * 0.4), None),
)


def mesh(grid):
    """x, y, z at the cell centres, each (x, y, z)."""
    return torch.meshgrid(*(torch.as_tensor(c) for c in grid.coordinates()), indexing="ij")


def noise(grid, seed=0, batch=1, components=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((batch, components, *grid.shape), generator=generator, dtype=torch.float64)


def wave(grid, numbers, amplitude):
    """amplitude (3,) times cos(k.x) with ``numbers`` waves along each side; also returns k (3,)."""
    k = torch.tensor([2 * math.pi * n / length for n, length in zip(numbers, grid.lengths)], dtype=torch.float64)
    x, y, z = mesh(grid)
    amplitude = torch.as_tensor(amplitude, dtype=torch.float64)
    return (amplitude[:, None, None, None] * torch.cos(k[0] * x + k[1] * y + k[2] * z))[None], k


def taylor_green(grid):
    x, y, z = mesh(grid)
    u = torch.sin(x) * torch.cos(y) * torch.cos(z)
    v = -torch.cos(x) * torch.sin(y) * torch.cos(z)
    return torch.stack([u, v, torch.zeros_like(u)])[None]


def abc(grid, a=1.0, b=0.7, c=0.4):
    x, y, z = mesh(grid)
    u = a * torch.sin(z) + c * torch.cos(y)
    v = b * torch.sin(x) + a * torch.cos(z)
    w = c * torch.sin(y) + b * torch.cos(x)
    return torch.stack([u, v, w])[None]


def field_of_spectrum(grid, energy_density, seed=0):
    """A field of random phases in which every mode has its exact share of E(k): |u^|^2 / 2 = E(k) / (4 pi k^2) dk^3.

    All energy is in the first of three components; the Nyquist modes, which cannot take any phase, are left out.
    """
    k = np.meshgrid(*(2 * np.pi * np.fft.fftfreq(n, d) for n, d in zip(grid.shape, grid.spacing)), indexing="ij")
    magnitude = np.sqrt(sum(axis**2 for axis in k))
    cell = np.prod([2 * np.pi / length for length in grid.lengths])
    magnitude[0, 0, 0] = 1
    amplitude = np.sqrt(2 * energy_density(magnitude) / (4 * np.pi * magnitude**2) * cell)
    amplitude[0, 0, 0] = 0
    white = np.fft.fftn(np.random.default_rng(seed).standard_normal(grid.shape))
    coefficients = amplitude * white / np.abs(white) * white.size
    u = torch.as_tensor(np.fft.ifftn(coefficients).real)
    return torch.stack([u, torch.zeros_like(u), torch.zeros_like(u)])[None]
