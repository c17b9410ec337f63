"""Body forces: small objects, each of which adds itself to the right-hand side, so that any number of them add up.

A force need not be solenoidal: the solver projects the sum, the pressure takes the rest.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from flowsr.simulate.spectral import PeriodicBox


class Force(Protocol):
    """Anything that can add its acceleration to a right-hand side."""

    def add(self, velocity: Tensor, tendency: Tensor) -> None:
        """Add the force's coefficients to ``tendency`` in place.

        Args:
            velocity: (3, Nx, Ny, Nz // 2 + 1) coefficients, not to be changed.
            tendency: the same shape, length per time squared.
        """


class BandPower:
    """Constant power per unit mass, spent on the large scales: f = P u_band / <u_band . u_band>.

    u_band is the part of the velocity with 0 < |k| < cutoff, so that <f . u> = P at every instant (Ghosal, Lund, Moin
    and Akselvoll, J. Fluid Mech. 286, 229, 1995; Machiels, Phys. Rev. Lett. 79, 3411, 1997).

    Args:
        box: the Fourier space it acts in.
        power: P, length squared per time cubed.
        cutoff: radians per length.

    Raises:
        ValueError: no kept mode below the cutoff.
    """

    def __init__(self, box: PeriodicBox, power: float, cutoff: float):
        inside = (box.k_squared > 0) & (box.k_squared < cutoff**2) & (box.mask > 0)
        self._modes = inside.flatten().nonzero().squeeze(1)
        if not len(self._modes):
            raise ValueError(f"no mode of the box has 0 < k < {cutoff}")
        self._weight = box.weight.expand(box.shape).flatten()[self._modes]
        self.power, self.cutoff = float(power), float(cutoff)

    def add(self, velocity: Tensor, tendency: Tensor) -> None:
        band = velocity.flatten(1).index_select(1, self._modes)
        mean_square = (torch.view_as_real(band).square().sum((0, 2)) * self._weight).sum()
        rate = self.power / mean_square.clamp_min(torch.finfo(mean_square.dtype).tiny)
        tendency.view(len(tendency), -1).index_add_(1, self._modes, band * rate)
