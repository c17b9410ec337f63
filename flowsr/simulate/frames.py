"""Forces of the frame: Coriolis in a rotating one, a uniform stream through one that is at rest."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowsr.simulate.forces import VELOCITY, Force
from flowsr.simulate.spectral import PeriodicBox, flat_real

Triple = tuple[float, float, float]


class Coriolis(Force):
    """-2 Omega x u, about any axis. It does no work; the centrifugal force is part of the pressure.

    Inertial waves have the frequency 2 Omega . k / k (Greenspan, The Theory of Rotating Fluids, 1968, section 4.3).

    Args:
        rotation: angular velocity Omega along x, y, z, radians per time.
    """

    drives = False

    def __init__(self, rotation: Triple):
        self.rotation = tuple(float(r) for r in rotation)
        self.rate = math.sqrt(sum(r**2 for r in self.rotation))
        self.frequency = 2 * self.rate

    def add(self, state: Tensor, tendency: Tensor) -> None:
        velocity, target = flat_real(state[VELOCITY]), flat_real(tendency[VELOCITY])
        for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            if self.rotation[b]:
                target[a].add_(velocity[c], alpha=-2 * self.rotation[b])
            if self.rotation[c]:
                target[a].add_(velocity[b], alpha=2 * self.rotation[c])

    def diagnostics(self, solver) -> dict[str, float]:
        """rossby: omega' / (2 Omega), with omega' the RMS of a vorticity component."""
        box, velocity = solver.box, solver.velocity
        vorticity = math.sqrt(float(box.inner(velocity, velocity, box.k_squared)) / 3)
        return {"rossby": vorticity / (2 * self.rate) if self.rate else math.nan}


class UniformFlow(Force):
    """-U . grad of velocity and scalars: the turbulence drifts with a mean stream U, which nothing changes.

    The solver steps the fluctuations; the stream is added to the fields that are written.

    Args:
        box: the Fourier space it acts in.
        velocity: U along x, y, z, length per time.
    """

    drives = False

    def __init__(self, box: PeriodicBox, velocity: Triple):
        self.mean_velocity = tuple(float(u) for u in velocity)
        self._rate = sum(u * k for u, k in zip(self.mean_velocity, box.wavenumber)).expand(box.shape)

    def add(self, state: Tensor, tendency: Tensor) -> None:
        source, target = torch.view_as_real(state), torch.view_as_real(tendency)
        target[..., 0].addcmul_(source[..., 1], self._rate)
        target[..., 1].addcmul_(source[..., 0], self._rate, value=-1)
