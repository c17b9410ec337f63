"""Fourier coefficients of fields in a periodic box: transforms, wavenumbers, de-aliasing, curl and projection.

A real field of shape (component, x, y, z) has coefficients of shape (component, Nx, Ny, Nz // 2 + 1): the half
spectrum over z of :func:`torch.fft.rfftn`, normalized so that a coefficient is the amplitude of its wave. Phases are
counted from the centre of the first cell. The other half of the spectrum is the complex conjugate, so sums over all
modes are sums over the half spectrum with :attr:`PeriodicBox.weight` (2, or 1 where k_z = 0).

Spectral arithmetic is real numbers times complex ones. It is done on :func:`flat_real` views, whose last axis
interleaves real and imaginary parts: plain real, contiguous, vectorized passes.
"""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor

from flowsr.grid import Grid

DEALIASING = ("sphere", "cube")
SPATIAL = (-3, -2, -1)
ROUND_OFF = 1e-12  # a mode on the edge of the truncation is out, whichever way its sum was rounded
MEBIBYTE = 1 << 20
LARGEST_BATCH = 16 * MEBIBYTE  # of coefficients to transform at once on a CPU


def flat_real(coefficients: Tensor) -> Tensor:
    """View of complex (..., x, y, z) coefficients as real (..., x, y, 2 z), real and imaginary parts interleaved."""
    return torch.view_as_real(coefficients).flatten(-2)


class PeriodicBox:
    """The truncated Fourier space of a periodic grid.

    Args:
        grid: a periodic grid; any three sizes and side lengths.
        dealiasing: which modes are kept. ``sphere``: sum_i (n_i / N_i)^2 < 2/9, that is a radius of sqrt(2)/3 N on a
            cube (Patterson and Orszag, Phys. Fluids 14, 2538, 1971: a product then aliases along one axis at most);
            ``cube``: |n_i| / N_i < 1/3, free of aliasing (Orszag, J. Atmos. Sci. 28, 1074, 1971).
        dtype: torch.float32 or torch.float64, of the fields; coefficients are the complex type of the same precision.
        device: where fields and coefficients live.

    Attributes:
        wavenumber: three tensors that broadcast over (x, y, z half), radians per length.
        k_squared: (Nx, Ny, Nz // 2 + 1), zero at the mean mode.
        weight: (1, 1, Nz // 2 + 1), how often a stored mode counts in a sum over all modes.
        mask: (Nx, Ny, Nz // 2 + 1), 1 on kept modes and 0 elsewhere.
        radius: of the truncation, in cells^-1: sqrt(2)/3 or 1/3.
        lowest: wavenumber of the longest side, radians per length.
        k_max: radius of the largest ball of wavenumbers that is kept whole.

    Raises:
        ValueError: a grid that is not periodic, or an unknown de-aliasing.
    """

    def __init__(self, grid: Grid, *, dealiasing: str = "sphere", dtype=torch.float32, device="cpu"):
        if not grid.periodic:
            raise ValueError(f"a Fourier space needs a periodic grid, got {grid.boundary}")
        if dealiasing not in DEALIASING:
            raise ValueError(f"dealiasing must be one of {DEALIASING}, got {dealiasing!r}")
        self.grid, self.dealiasing = grid, dealiasing
        self.dtype, self.device = dtype, torch.device(device)
        self.complex_dtype = torch.complex64 if dtype == torch.float32 else torch.complex128
        self.shape = (*grid.shape[:2], grid.shape[2] // 2 + 1)

        if self.device.type == "cpu":
            # Let glibc's malloc reuse the transforms' temporary arrays instead of giving them back to the kernel each
            # time: faulting the pages in again makes the transforms two to four times slower. Freeing one block just
            # below malloc's own limit of 32 MiB moves its thresholds there; the block is never touched.
            torch.empty(31 * MEBIBYTE, dtype=torch.uint8)
        # Integer wave counts, as float64 that broadcasts over the half spectrum.
        nx, ny, nz = (torch.fft.fftfreq(n, 1 / n, dtype=torch.float64).round() for n in grid.shape)
        modes = nx[:, None, None], ny[None, :, None], torch.arange(nz.numel() // 2 + 1, dtype=torch.float64)[None, None]
        exact = tuple(2 * math.pi / length * n for length, n in zip(grid.lengths, modes))
        k_squared = sum(k**2 for k in exact)
        mask = self._kept(modes)
        weight = torch.where(modes[2] == 0, 1.0, 2.0).to(torch.float64)
        place = {"dtype": dtype, "device": self.device}
        self.wavenumber = tuple(k.to(**place) for k in exact)
        self.k_squared = k_squared.to(**place)
        self.weight = weight.to(**place)
        self.mask = mask.to(**place)
        self.lowest = 2 * math.pi / max(grid.lengths)
        self.radius = math.sqrt(2) / 3 if dealiasing == "sphere" else 1 / 3
        self.k_max = self.radius * min(2 * math.pi / d for d in grid.spacing)

        inverse = torch.where(k_squared > 0, mask / k_squared.clamp_min(torch.finfo(torch.float64).tiny), 0.0)

        def doubled(array: Tensor) -> Tensor:
            return array.repeat_interleave(2, dim=-1).to(**place)

        self._k_flat = (self.wavenumber[0], self.wavenumber[1], doubled(exact[2]))
        self.k_squared_flat = doubled(k_squared)
        self._inverse_k_squared_flat = doubled(inverse)
        self._scaled_mask_flat = doubled(torch.where(k_squared > 0, mask, 0.0) / math.prod(grid.shape))

    def _kept(self, modes) -> Tensor:
        """1.0 on the modes that survive truncation."""
        reduced = [n.abs() / size for n, size in zip(modes, self.grid.shape)]
        if self.dealiasing == "sphere":
            kept = sum(r**2 for r in reduced) < 2 / 9 - ROUND_OFF
        else:
            inside = [r < 1 / 3 - ROUND_OFF for r in reduced]
            kept = inside[0] & inside[1] & inside[2]
        return kept.to(torch.float64)

    def empty(self, components: int = 3) -> Tensor:
        """Uninitialized coefficients (components, Nx, Ny, Nz // 2 + 1)."""
        return torch.empty(components, *self.shape, dtype=self.complex_dtype, device=self.device)

    def coordinates(self) -> tuple[Tensor, Tensor, Tensor]:
        """Cell centres along x, y, z, float64 on the CPU, shaped to broadcast over (x, y, z)."""
        x, y, z = (torch.from_numpy(c) for c in self.grid.coordinates())
        return x[:, None, None], y[None, :, None], z[None, None, :]

    def forward(self, field: Tensor) -> Tensor:
        """Coefficients of a real field (..., x, y, z), truncated."""
        return torch.fft.rfftn(field, dim=SPATIAL, norm="forward").mul_(self.mask)

    def backward(self, coefficients: Tensor, out: Tensor | None = None) -> Tensor:
        """The real field (..., x, y, z) of coefficients; written to ``out`` where given."""
        if out is None:
            shape = (*coefficients.shape[:-3], *self.grid.shape)
            out = torch.empty(shape, dtype=self.dtype, device=self.device)
        for source, target in self._batches(coefficients, out):
            torch.fft.irfftn(source, s=self.grid.shape, dim=SPATIAL, norm="forward", out=target)
        return out

    def _batches(self, source: Tensor, target: Tensor):
        """What to transform at once: everything, or one by one where temporary arrays would outgrow malloc."""
        if source.dim() == 3 or source.device.type != "cpu" or source.nbytes <= LARGEST_BATCH:
            return ((source, target),)
        return zip(source, target)

    def forward_product(self, product: Tensor, out: Tensor) -> None:
        """Coefficients of a product of fields into ``out``: truncated, and without the mean mode.

        A product's mean is a net momentum source, which for the convective term of a solenoidal field is zero.
        """
        for source, target in self._batches(product, out):
            torch.fft.rfftn(source, dim=SPATIAL, out=target)
        flat_real(out).mul_(self._scaled_mask_flat)

    def curl(self, velocity: Tensor, out: Tensor) -> None:
        """i k x velocity into ``out``; both (3, ...) coefficients."""
        source, target = flat_real(velocity), flat_real(out)
        k = self._k_flat
        for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            torch.mul(source[c], k[b], out=target[a])
            target[a].addcmul_(source[b], k[c], value=-1)
        out.mul_(1j)

    def divergence(self, velocity: Tensor) -> Tensor:
        """Coefficients (Nx, Ny, Nz // 2 + 1) of the divergence."""
        return sum(k * v for k, v in zip(self.wavenumber, velocity)) * 1j

    def minus_divergence(self, flux: Tensor, out: Tensor) -> None:
        """-i k . flux into ``out``: (3, ...) coefficients to one component."""
        source, target = flat_real(flux), flat_real(out)
        k = self._k_flat
        torch.mul(source[0], k[0], out=target)
        target.addcmul_(source[1], k[1]).addcmul_(source[2], k[2])
        out.mul_(-1j)

    def project(self, vector: Tensor, scratch: Tensor) -> None:
        """Subtract k (k . vector) / k^2 in place: what is left is solenoidal. ``scratch``: one component."""
        flat, potential = flat_real(vector), flat_real(scratch)
        k = self._k_flat
        torch.mul(flat[0], k[0], out=potential)
        potential.addcmul_(flat[1], k[1]).addcmul_(flat[2], k[2]).mul_(self._inverse_k_squared_flat)
        for a in range(3):
            flat[a].addcmul_(potential, k[a], value=-1)

    def enforce_reality(self, coefficients: Tensor) -> None:
        """Make the plane k_z = 0 conjugate symmetric, in place.

        That plane is stored whole. The part of it that belongs to no real field is invisible to the transforms, nothing
        drains it, and a force proportional to the velocity would let its round-off grow exponentially.
        """
        plane = coefficients[..., 0]
        mirrored = plane.flip((-2, -1)).roll((1, 1), (-2, -1)).conj()
        plane.add_(mirrored).mul_(0.5)

    def shells(self) -> Tensor:
        """(Nx, Ny, Nz // 2 + 1) the shell of each mode, one lowest wavenumber thick, centred on its multiples."""
        return (self.k_squared.sqrt() / self.lowest).round().long()

    def shell_energies(self, coefficients: Tensor) -> Tensor:
        """(n,) half the mean square of (component, ...) coefficients in each of the :meth:`shells`; float64."""
        density = torch.view_as_real(coefficients).square().sum((0, -1)).mul(self.weight / 2).double()
        shell = self.shells()
        total = torch.zeros(int(shell.max()) + 1, dtype=torch.float64, device=self.device)
        return total.index_add_(0, shell.flatten(), density.flatten())

    def inner(self, a: Tensor, b: Tensor, factor: Tensor | None = None) -> Tensor:
        """Volume average of a . b from their coefficients, each mode times ``factor``; float64, one number a member."""
        products = torch.view_as_real(a).mul(torch.view_as_real(b)).sum(-1).sum(0).mul_(self.weight)
        if factor is not None:
            products.mul_(factor)
        return products.sum(dtype=torch.float64) if products.dim() == 3 else products.sum(SPATIAL, dtype=torch.float64)


def resample(coefficients: Tensor, source: PeriodicBox, target: PeriodicBox) -> Tensor:
    """The same field on another grid of the same volume: zero-padded to a finer one, truncated to a coarser one.

    Args:
        coefficients: (component, [member,] Nx, Ny, Nz // 2 + 1) on ``source``.
        source, target: boxes of equal side lengths and origin.

    Returns:
        coefficients on ``target``, with phases counted from its first cell centre.

    Raises:
        ValueError: boxes that are not the same volume.
    """
    volumes = ((*box.grid.lengths, *box.grid.origin) for box in (source, target))
    if not all(math.isclose(p, q, rel_tol=1e-12, abs_tol=1e-12) for p, q in zip(*volumes)):
        raise ValueError(f"cannot resample from {source.grid} to {target.grid}: not the same volume")
    common = [min(a, b) for a, b in zip(source.grid.shape, target.grid.shape)]
    shape = (*coefficients.shape[:-3], *target.shape)
    result = torch.zeros(shape, dtype=coefficients.dtype, device=coefficients.device)
    # The non-negative and the negative modes along x and y, Nyquist left out; along z there are no negative ones.
    ranges = [[slice(0, (n + 1) // 2), *([slice(-((n - 1) // 2), None)] if n > 2 else [])] for n in common[:2]]
    for x, y in product(*ranges):
        modes = (..., x, y, slice(0, (common[2] + 1) // 2))
        result[modes] = coefficients[modes]
    for k, old, new in zip(target.wavenumber, source.grid.spacing, target.grid.spacing):
        angle = k.to(torch.float64) * 0.5 * (new - old)
        result.mul_(torch.polar(torch.ones_like(angle), angle).to(result.dtype))
    return result.mul_(target.mask)
