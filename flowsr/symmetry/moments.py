"""Statistics of a velocity field as tensors, so that turning the field by an element of O_h turns them exactly.

A statistic is an array (samples, points, 3, ..., 3): what is averaged is a product of components, one index each, and
the points are directions of the cube (of a separation, of a wavevector, of the octant averaged over), which the group
permutes. Turning the field by g gives T'(g p)_{ij...} = g_ia g_jb ... T(p)_{ab...}: signs and permutations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.metrics.derivatives import gradient

FEWEST_CELLS = 4
_SHARPNESS = 8  # power of the cosine that shares the modes of a shell out to the 26 directions


@dataclass(frozen=True)
class Statistic:
    """A tensor statistic, sample by sample.

    Args:
        values: (samples, layers, points, 3, ..., 3) float64; layers are separations or shells, which nothing mixes.
        points: (points, 3) int64, directions that O_h permutes among themselves; one point (0, 0, 0) where there is
            nothing to permute.
    """

    values: np.ndarray
    points: np.ndarray

    def transformed(self, element: int) -> np.ndarray:
        """The values that the fields transformed by an element of O_h would have given."""
        matrix = octahedral_group("Oh").matrices[element]
        source = np.abs(matrix).argmax(axis=1)
        signs = matrix[np.arange(3), source]
        values = self.values[:, :, _sources(self.points, element)]
        for axis in range(3, values.ndim):
            along = [1] * values.ndim
            along[axis] = 3
            values = values.take(source, axis=axis) * signs.reshape(along)
        return values


def _sources(points: np.ndarray, element: int) -> np.ndarray:
    """(points,): the number of g^-1 p."""
    group = octahedral_group("Oh")
    number = {tuple(p): i for i, p in enumerate(points.tolist())}
    return np.array([number[tuple(q)] for q in (points @ group.matrices[group.inverse[element]].T).tolist()])


@lru_cache(maxsize=1)
def lattice_directions() -> np.ndarray:
    """(26, 3) int64: towards the faces, edges and corners of a cube."""
    return np.array([d for d in product((-1, 0, 1), repeat=3) if any(d)])


@lru_cache(maxsize=1)
def octants() -> np.ndarray:
    """(8, 3) int64: towards the corners of a cube."""
    return np.array(list(product((-1, 1), repeat=3)))


def velocity_statistics(fields: Tensor, grid: Grid, *, local: bool | None = None) -> dict[str, Statistic]:
    """Everything the check without a network looks at.

    - ``mean velocity`` <u_i> and ``Reynolds stresses`` <u_i u_j>, taken about zero;
    - ``velocity gradients, second order`` <A_ij A_kl> and ``third order`` <A_ij A_kl A_mn>, A_ij = du_i / dx_j. Of
      homogeneous turbulence in rotation only the third-order ones tell left from right turns;
    - in a periodic box with cubic cells ``structure functions, second order`` <du_i du_j>(r) and ``third order``
      <du_i du_j du_k>(r), r along the 26 directions of the cube at 1, 2, 4 ... cells, and ``directional spectra``, the
      spectral tensor u_i(k) u_j(k)* summed over octaves of |k| with the weight (k.n / |k|)^8 around each of the 26
      directions n, its real part (energy) and its imaginary part (helicity).

    Args:
        fields: (samples, 3, x, y, z).
        grid: of the fields.
        local: average over each octant of the box, so that what differs from place to place shows; None: where the box
            has walls. In a homogeneous flow it only adds noise.

    Returns:
        name -> statistic, values float64.

    Raises:
        ValueError: fields that are not velocities on the grid, or of fewer than four cells along an axis.
    """
    if fields.dim() != 5 or fields.shape[1] != 3 or tuple(fields.shape[2:]) != grid.shape:
        raise ValueError(f"expected velocities (samples, 3, {grid.shape}), got {tuple(fields.shape)}")
    if min(grid.shape) < FEWEST_CELLS:
        raise ValueError(f"statistics need {FEWEST_CELLS} cells or more along each axis, got {grid.shape}")
    local = not grid.periodic if local is None else local
    parts = [_one_sample(field[None].double(), grid, local) for field in fields]
    return {name: Statistic(np.stack([part[name][0] for part in parts]), parts[0][name][1]) for name in parts[0]}


def _one_sample(field: Tensor, grid: Grid, local: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """name -> ((layers, points, 3, ...), points) of one field (1, 3, x, y, z)."""
    pick, points = (octant_parts, octants()) if local else (lambda whole: [whole], np.zeros((1, 3), dtype=np.int64))
    slopes = gradient(field, grid)[0]

    def moments(of: Tensor, moment: Callable[[Tensor], Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """(1, points, ...): a moment of the values (..., cells) in every part of a field."""
        return torch.stack([moment(part.flatten(-3)) for part in pick(of)])[None].numpy(), points

    found = {
        "mean velocity": moments(field[0], lambda u: u.mean(1)),
        "Reynolds stresses": moments(field[0], _second_moments),
        "velocity gradients, second order": moments(
            slopes, lambda a: _second_moments(a.flatten(0, 1)).reshape((3,) * 4)
        ),
        "velocity gradients, third order": moments(slopes, lambda a: _third_moments(a.flatten(0, 1)).reshape((3,) * 6)),
    }
    if grid.periodic and np.ptp(grid.spacing) < 1e-9 * max(grid.spacing):
        second, third = _structure_functions(field[0])
        found["structure functions, second order"] = second, lattice_directions()
        found["structure functions, third order"] = third, lattice_directions()
        found["directional spectra"] = _directional_spectra(field[0], grid), lattice_directions()
    return found


def octant_parts(field: Tensor) -> list[Tensor]:
    """The eight octants of a field (..., x, y, z), in the order of :func:`octants`; a middle plane belongs to none."""
    parts = []
    for corner in octants():
        part = field
        for axis, side in enumerate(corner, start=-3):
            half = part.shape[axis] // 2
            part = part.narrow(axis, 0 if side < 0 else part.shape[axis] - half, half)
        parts.append(part)
    return parts


def _second_moments(u: Tensor) -> Tensor:
    return u @ u.T / u.shape[1]


def _third_moments(u: Tensor) -> Tensor:
    """(n, cells) -> (n, n, n)."""
    pairs = (u[:, None] * u[None, :]).flatten(0, 1)
    return (pairs @ u.T / u.shape[1]).reshape((len(u),) * 3)


def _structure_functions(u: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(separations, 26, 3, 3) and (separations, 26, 3, 3, 3); a difference over -r is the one over r, negative."""
    second, third = [], []
    cells = 1
    while 4 * cells <= min(u.shape[1:]):
        for direction in lattice_directions():
            difference = u.roll(tuple(int(-cells * d) for d in direction), (1, 2, 3)) - u
            second.append(_second_moments(difference.flatten(1)))
            third.append(_third_moments(difference.flatten(1)))
        cells *= 2
    return tuple(torch.stack(s).unflatten(0, (-1, 26)).numpy() for s in (second, third))


def _directional_spectra(u: Tensor, grid: Grid) -> np.ndarray:
    """(2 octaves, 26, 3, 3): real and imaginary parts of the spectral tensor around the 26 directions."""
    modes = torch.fft.fftn(u, dim=(1, 2, 3)).flatten(1) / u[0].numel()
    along = (torch.fft.fftfreq(n, d, dtype=u.dtype) for n, d in zip(grid.shape, grid.spacing))
    k = torch.stack(torch.meshgrid(*along, indexing="ij")).flatten(1)
    size = k.norm(dim=0)
    lowest = 1 / max(grid.lengths)
    inside = (size > 0) & (size < 0.5 / max(grid.spacing) * (1 - 1e-9))
    octave = torch.floor(torch.log2((size / lowest).clamp(min=1)) + 1e-9).long()
    directions = torch.tensor(lattice_directions(), dtype=u.dtype)
    cosine = (directions / directions.norm(dim=1, keepdim=True)) @ (k / size.clamp(min=1e-300))
    layers = []
    for number in range(int(octave[inside].max()) + 1):
        weight = cosine.clamp(min=0) ** _SHARPNESS * (inside & (octave == number))
        tensor = torch.einsum("pk,ik,jk->pij", weight.to(modes.dtype), modes, modes.conj())
        layers += [tensor.real, tensor.imag]
    return torch.stack(layers).numpy()
