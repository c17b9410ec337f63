"""The discrete space of a plane channel: Fourier along x and z, Chebyshev between the walls, and its transforms.

Velocity is held as two scalars, wall-normal velocity v and wall-normal vorticity omega_y (Kim, Moin and Moser, J. Fluid
Mech. 177, 133, 1987), from which a solenoidal field follows by algebra:

    u = i (kx v' - kz omega_y) / k^2,    w = i (kz v' + kx omega_y) / k^2,    k^2 = kx^2 + kz^2.

A *state* is a complex tensor (2, Ny - 1, Nx - 1, Nz // 2): v and omega_y; coefficients of the wall basis
(:mod:`flowsr.simulate.channel.chebyshev`); kx = 0, 1, .. -1 times 2 pi / Lx; kz = 0, 1, .. times 2 pi / Lz. Nyquist
modes are not kept. Where kx = kz = 0 there is no v, and the place of omega_y is taken by the mean flow U + i W, which
obeys the same equation. Arithmetic is done on real views, real and imaginary parts interleaved along the last axis.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from flowsr.simulate.channel.chebyshev import (
    WallBasis,
    gauss_points,
    lobatto_nodes,
    quadrature,
    truncation_matrix,
    wall_basis,
)
from flowsr.simulate.spectral import flat_real

HALF_HEIGHT = 1.0
HEIGHT = 2 * HALF_HEIGHT
FEWEST_CELLS = 4
Shape = tuple[int, int, int]


class ChannelSpace:
    """Fourier x Chebyshev space between walls at y = -1 and y = 1; float64.

    Args:
        cells: cells along x, y, z, even, at least 4. Along y they lie between Ny + 1 Chebyshev-Gauss-Lobatto points.
        lengths: periods along x and z.
        wall_dealiasing: take products on 3/2 as many points along y as well. Along x and z that is always done
            (Orszag's 3/2 rule, J. Atmos. Sci. 28, 1074, 1971).
        device: where states and fields live.

    Attributes:
        basis: the wall basis.
        kx, kz: wavenumbers, broadcasting over (x, z).
        k_squared: (Nx - 1, Nz // 2).
        laplacian: (Ny - 1, Nx - 1, Nz // 2), eigenvalues of the Laplacian with zero values at the walls.
        weight: (Nz // 2,), how often a stored mode counts in a sum over all modes.

    Raises:
        ValueError: cells that are odd or too few.
    """

    dtype = torch.float64
    complex_dtype = torch.complex128

    def __init__(self, cells: Shape, lengths: tuple[float, float], *, wall_dealiasing: bool = False, device="cpu"):
        self.cells, self.lengths = tuple(int(n) for n in cells), tuple(float(length) for length in lengths)
        if any(n % 2 or n < FEWEST_CELLS for n in self.cells):
            raise ValueError(f"a channel's cells must be even and at least {FEWEST_CELLS}, got {self.cells}")
        self.device, self.wall_dealiasing = torch.device(device), bool(wall_dealiasing)
        nx, ny, nz = self.cells
        self.basis: WallBasis = wall_basis(ny)
        self.modes = (nx - 1, nz // 2)
        self.state_shape = (2, ny - 1, *self.modes)
        self.padded = (3 * nx // 2, (3 * ny // 2 if wall_dealiasing else ny) + 1, 3 * nz // 2)
        self.spacing = (self.lengths[0] / nx, self.lengths[1] / nz)

        positive = np.arange(nx // 2)
        waves_x = np.concatenate([positive, -positive[:0:-1]])
        self.kx = self.tensor(2 * math.pi / self.lengths[0] * waves_x)[:, None]
        self.kz = self.tensor(2 * math.pi / self.lengths[1] * np.arange(nz // 2))[None, :]
        self.k_squared = self.kx**2 + self.kz**2
        eigenvalues = self.tensor(self.basis.eigenvalues)
        self.laplacian = eigenvalues[:, None, None] - self.k_squared
        self.weight = torch.where(self.kz[0] == 0, 1.0, 2.0)

        inverse_k_squared = torch.where(self.k_squared > 0, 1 / self.k_squared.clamp_min(1e-300), 0.0)
        self._kx, self._kz = self.doubled(self.kx), self.doubled(self.kz)
        self._k_squared = self.doubled(self.k_squared)
        self._ratios = self.kx * inverse_k_squared, self.kz * inverse_k_squared
        self._a, self._b = (self.doubled(ratio) for ratio in self._ratios)
        self._inverse_laplacian = self.doubled(1 / self.laplacian)
        self._to_points = self._evaluation(lobatto_nodes(self.padded[1] - 1), derivatives=2)
        self._from_points, self._divergence_from_points = self._analysis(self.padded[1] - 1)
        self._to_centres, self._from_faces = self.evaluation(gauss_points(ny)), self.tensor(self.basis.inverse)
        self._buffers()

    def tensor(self, array) -> Tensor:
        """A float64 tensor on the space's device."""
        return torch.from_numpy(np.ascontiguousarray(np.asarray(array, dtype=float))).to(self.device)

    def doubled(self, array: Tensor) -> Tensor:
        """For interleaved real and imaginary parts: every value twice along the last axis."""
        return array.expand(*array.shape[:-2], *self.modes).repeat_interleave(2, dim=-1).contiguous()

    def _evaluation(self, points: np.ndarray, derivatives: int) -> Tensor:
        """((derivatives + 1) * points, Ny - 1): values at the points, below them those of each derivative."""
        return self.tensor(np.concatenate([self.basis.evaluate(points, d) for d in range(derivatives + 1)]))

    def _analysis(self, intervals: int) -> tuple[Tensor, Tensor]:
        """Coefficients from values f on Lobatto points; and those of -(s' + f) from s above f."""
        basis = self.basis
        cut = truncation_matrix(intervals, basis.cells)
        plain, slope = basis.inverse @ cut, basis.inverse @ (basis.derivative @ cut)
        return self.tensor(plain), self.tensor(-np.concatenate([slope, plain], axis=1))

    def _buffers(self) -> None:
        """Everything a right-hand side writes to."""
        px, points, pz = self.padded
        new = {"device": self.device, "dtype": self.complex_dtype}
        self._normal = torch.empty(3, points, *self.modes, **new)  # v, v', v''
        self._vorticity = torch.empty(2, points, *self.modes, **new)  # omega_y and its derivative
        self._fields = torch.empty(6, points, *self.modes, **new)  # u, w, omega_x, omega_z, v, omega_y
        self._wide = torch.zeros(points, px, self.modes[1], **new)  # between positive and negative kx: always zero
        self._half = torch.zeros(points, px, pz // 2 + 1, **new)  # above the highest kz: always zero
        self._physical = torch.empty(9, points, px, pz, device=self.device, dtype=self.dtype)
        self._sources = torch.empty(3, points, *self.modes, **new)  # i (kx Hx + kz Hz), k^2 Hy, i (kz Hx - kx Hz)

    def zeros(self) -> Tensor:
        """A state at rest."""
        return torch.zeros(self.state_shape, dtype=self.complex_dtype, device=self.device)

    @property
    def points(self) -> np.ndarray:
        """The Ny + 1 Lobatto points, the faces of the cells along y."""
        return lobatto_nodes(self.cells[1])

    def coordinates(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cell centres: uniform along x and z, Chebyshev-Gauss points along y."""
        nx, ny, nz = self.cells
        dx, dz = self.spacing
        return (np.arange(nx) + 0.5) * dx, gauss_points(ny), (np.arange(nz) + 0.5) * dz

    def enforce_reality(self, state: Tensor) -> None:
        """Make the plane kz = 0 conjugate symmetric, in place: no real field feels the rest, and nothing drains it."""
        plane = state[..., 0]
        mean = plane[1, :, 0].clone()
        mirrored = plane.flip(-1).roll(1, -1).conj()
        plane.add_(mirrored).mul_(0.5)
        plane[0, :, 0] = 0
        plane[1, :, 0] = mean

    def physical(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Velocity and vorticity on the points where products are taken.

        Returns:
            u, v, w and omega_x, omega_y, omega_z, each (points, 3/2 Nx, 3/2 Nz); valid until the next call.
        """
        self._synthesize(state)
        inner = self.modes[0] // 2 + 1
        for coefficients, values in zip(self._fields, self._physical):
            self._wide[:, :inner] = coefficients[:, :inner]
            self._wide[:, 1 - inner :] = coefficients[:, inner:]
            self._half[..., : self.modes[1]] = torch.fft.ifft(self._wide, dim=-2, norm="forward")
            torch.fft.irfft(self._half, n=self.padded[2], dim=-1, norm="forward", out=values)
        u, w, omega_x, omega_z, v, omega_y = self._physical[:6]
        return (u, v, w), (omega_x, omega_y, omega_z)

    def _synthesize(self, state: Tensor) -> None:
        """Coefficients over x and z of velocity and vorticity at every point of y, into the fields buffer."""
        points = self.padded[1]
        torch.mm(self._to_points, _rows(state[0]), out=_rows(self._normal.flatten(0, 1)))
        torch.mm(self._to_points[: 2 * points], _rows(state[1]), out=_rows(self._vorticity.flatten(0, 1)))
        v, slope, curvature = flat_real(self._normal)
        g, g_slope = flat_real(self._vorticity)
        u, w, omega_x, omega_z, _, _ = flat_real(self._fields)
        a, b = self._a, self._b
        torch.mul(slope, a, out=u).addcmul_(g, b, value=-1)
        torch.mul(slope, b, out=w).addcmul_(g, a)
        torch.mul(curvature, b, out=omega_x).addcmul_(g_slope, a).addcmul_(v, self._kz, value=-1)
        torch.mul(v, self._kx, out=omega_z).addcmul_(curvature, a, value=-1).addcmul_(g_slope, b)
        fields = self._fields
        fields[:4].mul_(1j)
        fields[4], fields[5] = self._normal[0], self._vorticity[0]
        mean, shear = self._vorticity[0, :, 0, 0], self._vorticity[1, :, 0, 0]
        for place, value in ((0, mean.real), (1, mean.imag), (2, shear.imag), (3, -shear.real), (5, 0.0)):
            fields[place, :, 0, 0] = value

    def convection(self, velocity, vorticity, out: Tensor) -> None:
        """Tendency of a state from u x omega, given on the points of :meth:`physical`, into ``out``.

        d/dt nabla^2 v = -d/dy (d Hx/dx + d Hz/dz) + (d^2/dx^2 + d^2/dz^2) Hy and d/dt omega_y = d Hx/dz - d Hz/dx with
        H = u x omega (Kim, Moin and Moser 1987, equations 4 to 7).
        """
        product = self._physical[6:]
        for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            torch.mul(velocity[b], vorticity[c], out=product[a]).addcmul_(velocity[c], vorticity[b], value=-1)
        h_x, h_y, h_z = self._forward(product)
        spread, lift, twist = self._sources
        self._cross(h_x, self._kx, h_z, self._kz, 1, out=spread)
        self._cross(h_x, self._kz, h_z, self._kx, -1, out=twist)
        torch.mul(flat_real(h_y), self._k_squared, out=flat_real(lift))
        twist[:, 0, 0] = torch.complex(h_x[:, 0, 0].real, h_z[:, 0, 0].real)
        torch.mm(self._divergence_from_points, _rows(self._sources[:2].flatten(0, 1)), out=_rows(out[0]))
        torch.mm(self._from_points, _rows(twist), out=_rows(out[1]))
        flat_real(out[0]).mul_(self._inverse_laplacian)

    def _cross(self, h_x: Tensor, k_1: Tensor, h_z: Tensor, k_2: Tensor, sign: int, out: Tensor) -> None:
        """i (k_1 h_x + sign k_2 h_z) into ``out``."""
        torch.mul(flat_real(h_x), k_1, out=flat_real(out)).addcmul_(flat_real(h_z), k_2, value=sign)
        out.mul_(1j)

    def _forward(self, product: Tensor) -> Tensor:
        """Kept coefficients over x and z of (3, points, 3/2 Nx, 3/2 Nz), overwriting the fields buffer."""
        px, _, pz = self.padded
        inner = self.modes[0] // 2 + 1
        kept = self._fields[:3]
        for values, coefficients in zip(product, kept):
            along_z = torch.fft.rfft(values, dim=-1)[..., : self.modes[1]]
            spectrum = torch.fft.fft(along_z, dim=-2)
            torch.div(spectrum[:, :inner], px * pz, out=coefficients[:, :inner])
            torch.div(spectrum[:, 1 - inner :], px * pz, out=coefficients[:, inner:])
        return kept

    def integrals(self) -> Tensor:
        """(Ny - 1,): integrals of the wall basis from wall to wall."""
        points, weights = quadrature(self.cells[1])
        return self.tensor(weights @ self.basis.evaluate(points))

    def evaluation(self, points: np.ndarray) -> Tensor:
        """(2 n, Ny - 1): values and below them slopes of the wall basis at n points along y."""
        return self._evaluation(points, derivatives=1)

    def velocity(self, state: Tensor, evaluation: Tensor) -> Tensor:
        """Coefficients (3, n, Nx - 1, Nz // 2) of u, v, w over x and z, at the points of an :meth:`evaluation`."""
        n = len(evaluation) // 2
        v, slope = torch.mm(evaluation, _rows(state[0])).view(2, n, *self.modes, 2)
        g = torch.mm(evaluation[:n], _rows(state[1])).view(n, *self.modes, 2)
        v, slope, g = (torch.view_as_complex(part) for part in (v, slope, g))
        a, b = self._ratios
        u, w = 1j * (a * slope - b * g), 1j * (b * slope + a * g)
        u[:, 0, 0], w[:, 0, 0] = g[:, 0, 0].real + 0j, g[:, 0, 0].imag + 0j
        return torch.stack([u, v, w])

    def field(self, state: Tensor, shift: float = 0.0) -> Tensor:
        """Velocity (3, x, y, z) at the cell centres of :meth:`coordinates`, moved along x by ``shift``."""
        nx, ny, nz = self.cells
        wide = torch.zeros(3, ny, nx, nz // 2 + 1, dtype=self.complex_dtype, device=self.device)
        velocity = self.velocity(state, self._to_centres) * self._to_corner(shift)
        inner = nx // 2
        wide[:, :, :inner, :-1], wide[:, :, inner + 1 :, :-1] = velocity[:, :, :inner], velocity[:, :, inner:]
        return torch.fft.irfft2(wide, s=(nx, nz), norm="forward").transpose(1, 2).contiguous()

    def _to_corner(self, shift: float) -> Tensor:
        """Phases (x, z) from the corner of the box, where coefficients count them from, to the first cell's centre."""
        angle = self.kx * (self.spacing[0] / 2 - shift) + self.kz * (self.spacing[1] / 2)
        return torch.polar(torch.ones_like(angle), angle)

    def state(self, velocity: Tensor) -> Tensor:
        """The state of a solenoidal velocity that is zero at the walls.

        Args:
            velocity: (3, Nx, Ny + 1, Nz) at the cell centres along x and z and the Lobatto points along y.
        """
        nx, _, _nz = self.cells
        transform = torch.fft.rfft2(velocity.to(self.device, self.dtype).transpose(1, 2), norm="forward")
        inner = nx // 2
        kept = torch.cat([transform[:, :, :inner, :-1], transform[:, :, inner + 1 :, :-1]], dim=2)
        u, v, w = kept / self._to_corner(0.0)
        omega_y = 1j * (self.kz * u - self.kx * w)
        omega_y[:, 0, 0] = torch.complex(u[:, 0, 0].real, w[:, 0, 0].real)
        state = self.zeros()
        for values, place in ((v, state[0]), (omega_y, state[1])):
            torch.mm(self._from_faces, _rows(values.contiguous()), out=_rows(place))
        self.enforce_reality(state)
        return state


def _rows(array: Tensor) -> Tensor:
    """View of complex (n, x, z) as a real matrix of n rows."""
    return torch.view_as_real(array).flatten(1)
